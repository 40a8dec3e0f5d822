"""What is swapped and judged, that the embeddings are one, and where no gradient flows."""

import pytest
import torch
import torch.nn.functional as F

from cookbook.models import samples
from cookbook.models.replaced_tokens import electra, swap


@pytest.fixture
def model():
    torch.manual_seed(0)
    return electra("tiny", vocab_size=512, length=32, dropout=0.0)


def test_embeddings_are_shared_and_counted_once(model):
    ours, theirs = model.discriminator.electra.embeddings, model.generator.electra.embeddings
    assert ours is theirs
    output = model.generator.get_output_embeddings()
    assert output.weight is ours.word_embeddings.weight


def test_only_masked_places_are_swapped_and_chance_hits_count_as_original(model):
    batch = samples.masked()
    extra = model(**batch).extra
    masked = batch["labels"] != -100
    assert torch.equal(extra["corrupted"][~masked], batch["input_ids"][~masked])
    assert not extra["replaced"][~masked].any()
    with torch.no_grad():  # a generator that always says 9, which is right for one place in two
        model.generator.generator_lm_head.bias.zero_()[9] = 1e4
    labels = torch.where(masked, torch.tensor([9, 8]).repeat(8), -100)
    guessed = model(**batch | {"labels": labels}).extra
    assert torch.equal(guessed["replaced"], labels == 8)
    logits = torch.zeros(1, 3, 512)
    logits[0, :, 9] = 1e4  # the generator is certain of 9
    swapped = swap(torch.tensor([[4, 4, 6]]), logits, torch.tensor([[9, 8, -100]]))
    assert swapped.tolist() == [[9, 9, 6]]


def test_the_loss_by_hand_counts_every_place_but_padding(model):
    batch = samples.masked()
    batch["attention_mask"][:, 12:] = 0
    output = model(**batch)
    kept = batch["attention_mask"].bool()
    found = F.binary_cross_entropy(
        output.logits[kept].sigmoid(), output.extra["replaced"][kept].float()
    )
    assert torch.allclose(output.extra["discriminator_loss"], found, rtol=1e-5)
    assert torch.allclose(output.loss, output.extra["generator_loss"] + 50 * found, rtol=1e-5)


def test_the_discriminator_does_not_teach_the_generator(model):
    model(**samples.masked()).extra["discriminator_loss"].backward()
    shared = set(map(id, model.discriminator.parameters()))
    own = [p for p in model.generator.parameters() if id(p) not in shared]
    assert own and all(p.grad is None for p in own)


def test_without_labels_the_text_is_judged_as_it_is(model):
    batch = samples.masked()
    del batch["labels"]
    output = model(**batch)
    assert output.loss is None and output.logits.shape == batch["input_ids"].shape
