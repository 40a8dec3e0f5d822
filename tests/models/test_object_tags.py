"""Object tags: the word of what is seen, none where there is nothing; the classifier stays."""

import torch
from torch import nn

from cookbook.models import build
from cookbook.models.object_tags import ObjectTags
from cookbook.models.outputs import Output


class Brightest(nn.Module):
    """A classifier that names the column with the most ink, and is sure of it."""

    def forward(self, pixel_values):
        return Output(None, 100 * pixel_values.sum((1, 2)))


def test_a_patch_becomes_the_word_of_what_is_seen():
    words = nn.Embedding(9, 5)
    tags = ObjectTags(Brightest(), words, [4, 7], patch_size=2)
    nn.init.zeros_(tags.pixels.weight)
    pixels = torch.tensor([[[1.0, 0, 1, 0], [0, 1, 0, 1], [-1, -1, -1, -1]]])
    expected = torch.stack([words.weight[4], words.weight[7], torch.zeros(5)])[None]
    torch.testing.assert_close(tags(pixels), expected)


def test_only_words_and_pixels_learn():
    words = nn.Embedding(20, 8)
    classifier = build("cnn", classes=3).train()
    tags = ObjectTags(classifier, words, [5, 6, 7])
    tags(torch.randn(2, 4, 64)).square().sum().backward()
    assert all(weight.grad is None for weight in classifier.parameters())
    assert not classifier.training
    assert words.weight.grad.abs().sum(1).nonzero().flatten().tolist() == [5, 6, 7]
    assert tags.pixels.weight.grad.abs().sum() > 0


def test_it_takes_the_place_of_pixels_in_a_joint_encoder():
    model = build("vl-bert", image_size=16, vocab_size=20, length=8, patch_size=8)
    before = sum(p.numel() for p in model.bert.parameters())
    model.look = ObjectTags(build("cnn", classes=3), model.bert.get_input_embeddings(), [5, 6, 7])
    ids = torch.tensor([[2, 5, 4, 3]])
    assert model(ids, torch.randn(1, 1, 16, 16)).logits.shape == (1, 4, 20)
    assert sum(p.numel() for p in model.bert.parameters()) == before
