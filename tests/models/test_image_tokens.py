"""The nearest code, gradients straight through, and a decoder that looks back only."""

import math

import pytest
import torch
import torch.nn.functional as F

from cookbook.models import samples
from cookbook.models.generative import gpt2
from cookbook.models.image_tokens import (
    ImageTokenizer,
    TextToImage,
    VectorQuantizer,
    image_tokenizer,
    text_to_image,
)
from cookbook.models.profiling import overfit


@pytest.fixture
def quantizer():
    torch.manual_seed(0)
    quantizer = VectorQuantizer(6, 3).double()
    quantizer.started.fill_(True)
    return quantizer


def test_the_nearest_code_by_brute_force(quantizer):
    z = torch.randn(4, 5, 3).double()
    distances = (z[:, :, None] - quantizer.codes.weight).square().sum(-1)
    quantized, numbers, _ = quantizer(z)
    assert torch.equal(numbers, distances.argmin(-1))
    assert torch.allclose(quantized, quantizer.codes.weight[numbers], rtol=0, atol=1e-10)


def test_gradients_go_straight_through(quantizer):
    z = torch.randn(4, 3).double().requires_grad_()
    quantized, _, _ = quantizer(z)
    weights = torch.randn(4, 3).double()
    (to_z,) = torch.autograd.grad((quantized * weights).sum(), z)
    assert torch.equal(to_z, weights)


def test_each_term_of_the_loss_moves_one_side(quantizer):
    z = torch.randn(4, 3).double().requires_grad_()
    _, numbers, loss = quantizer(z)
    code = quantizer.codes.weight[numbers]
    assert torch.allclose(loss, 1.25 * (code - z).square().mean(), rtol=0, atol=1e-10)
    to_z, to_codes = torch.autograd.grad(loss, [z, quantizer.codes.weight])
    assert torch.allclose(to_z, 0.25 * 2 * (z - code) / z.numel(), rtol=0, atol=1e-10)
    expected = torch.zeros_like(to_codes).index_add(0, numbers, 2 * (code - z) / z.numel())
    assert torch.allclose(to_codes, expected, rtol=0, atol=1e-10)


def test_codes_start_as_vectors_of_the_first_batch_and_only_once():
    torch.manual_seed(0)
    quantizer = VectorQuantizer(4, 3)
    quantizer(100 + torch.randn(50, 3))
    assert (quantizer.codes.weight > 90).all()
    before = quantizer.codes.weight.clone()
    quantizer(torch.randn(50, 3))
    assert torch.equal(quantizer.codes.weight, before)
    again = VectorQuantizer(4, 3)
    again.load_state_dict(quantizer.state_dict())
    assert bool(again.started)  # a checkpoint's codes are kept


@pytest.mark.parametrize("size", [8, 16, 32])
def test_an_image_is_16_codes_and_comes_back_in_its_size(size):
    model, images = image_tokenizer("tiny", image_size=size), samples.pixels(5, size)
    codes = model.encode(**images)
    assert codes.shape == (5, 16) and codes.min() >= 0 and codes.max() < 64
    output = model(**images)
    assert torch.equal(output.extra, codes)
    assert torch.allclose(model.decode(codes), output.logits, atol=1e-5)


@pytest.mark.parametrize("size", [4, 12, 48])
def test_other_sizes_are_refused(size):
    with pytest.raises(ValueError, match=f"{size} pixels cannot be halved to 4"):
        ImageTokenizer(size, 1, 8, 8)


@pytest.fixture
def writer():
    torch.manual_seed(0)
    return text_to_image("tiny", vocab_size=32, length=8, dropout=0.0, codes=16)


def test_the_loss_weighs_codes_seven_times(writer):
    batch = samples.captioned()
    output = writer(**batch)
    text, image = output.extra["text_loss"], output.extra["image_loss"]
    assert torch.allclose(output.loss, (text + 7 * image) / 8)
    assert output.loss.item() == pytest.approx(math.log(49), rel=0.05)
    codes = writer.tokenizer.encode(batch["pixel_values"]) + 32
    log_p = output.logits.log_softmax(-1)[:, 8:-1]  # the caption has 8 tokens
    assert torch.allclose(image, -log_p.gather(-1, codes[..., None]).mean(), rtol=1e-5)


def test_padding_of_captions_is_neither_read_nor_predicted(writer):
    writer.eval()
    batch = samples.captioned()
    batch["input_ids"][:, 6:], batch["attention_mask"][:, 6:] = 0, 0
    other = dict(batch, input_ids=batch["input_ids"].masked_fill(batch["input_ids"] == 0, 9))
    with torch.no_grad():
        before, after = writer(**batch), writer(**other)
    assert torch.allclose(before.logits[:, 8:], after.logits[:, 8:], atol=1e-6)
    assert torch.allclose(before.loss, after.loss, atol=1e-6)


def test_a_later_code_never_moves_an_earlier_logit(writer):
    writer.eval()
    batch = samples.captioned()
    with torch.no_grad():
        before = writer(**batch)
        codes = writer.tokenizer.encode(batch["pixel_values"])
        images = batch["pixel_values"].clone()
        images[..., 6:, 6:] = images[..., 6:, 6:].flip(0) + 0.5  # the last patch
        changed = writer.tokenizer.encode(images)
        after = writer(**batch | {"pixel_values": images})
    first = (codes != changed).nonzero()[:, 1].min().item()
    assert torch.equal(before.logits[:, : 9 + first], after.logits[:, : 9 + first])


def test_the_image_tokenizer_is_frozen(writer):
    batch = samples.captioned()
    before = {k: v.clone() for k, v in writer.tokenizer.state_dict().items() if "codes" not in k}
    overfit(writer, batch, steps=2)
    assert all(p.grad is None for p in writer.tokenizer.parameters())
    after = writer.tokenizer.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in before.items() if "started" not in k)


def test_the_caption_decides_which_image_is_drawn():
    """Both stages: the tokenizer learns ten digits, the decoder their captions."""
    torch.manual_seed(0)
    batch = samples.captioned()
    tokenizer = image_tokenizer("tiny", codes=64)
    overfit(tokenizer, {"pixel_values": batch["pixel_values"]}, steps=120)
    writer = text_to_image("tiny", vocab_size=32, length=8, dropout=0.0, tokenizer=tokenizer.eval())
    overfit(writer, batch, steps=80, rate=0.01)
    drawn = writer.eval().generate(batch["input_ids"], temperature=0.0)
    assert drawn.shape == batch["pixel_values"].shape
    errors = torch.cdist(drawn.flatten(1), batch["pixel_values"].flatten(1))
    assert (errors.argmin(1) == torch.arange(10)).sum() >= 9


def test_a_vocabulary_that_does_not_hold_both_is_refused():
    with pytest.raises(ValueError, match=r"knows 50 tokens and needs 40 of text \+ 8 codes \+ 1"):
        TextToImage(ImageTokenizer(8, 1, 8, 8), gpt2("tiny", vocab_size=50), 40)


def test_sampling_draws_by_the_probabilities(writer):
    writer.eval()
    ids = samples.captioned()["input_ids"][:1].expand(4, -1)
    torch.manual_seed(0)
    first = writer.generate(ids)
    torch.manual_seed(0)
    assert torch.equal(first, writer.generate(ids))
    assert not torch.equal(first[0], first[1])
    greedy = writer.generate(ids, temperature=0.0)
    assert torch.equal(greedy[0], greedy[1]) and F.mse_loss(greedy[0], greedy[2]) == 0
