"""CLIP's loss by hand; the joint encoder needs the image, and sees both sides of everything."""

import math

import pytest
import torch
import torch.nn.functional as F

from cookbook.models import samples
from cookbook.models.multimodal import clip, vl_bert
from cookbook.models.profiling import overfit

SMALL = {"vocab_size": 64, "length": 16}


def test_clips_loss_is_a_cross_entropy_both_ways():
    torch.manual_seed(0)
    model, batch = clip("tiny", **SMALL), samples.paired()
    with torch.no_grad():
        output = model(**batch)
    images, texts = (F.normalize(e, dim=-1) for e in (output.image_embeds, output.text_embeds))
    scores = model.logit_scale.exp() * images @ texts.T
    pairs = torch.arange(10)
    by_hand = (F.cross_entropy(scores, pairs) + F.cross_entropy(scores.T, pairs)) / 2
    assert torch.allclose(output.loss, by_hand, rtol=1e-5)
    assert output.loss.item() == pytest.approx(math.log(10), rel=0.15)


def test_clip_reads_a_caption_at_its_end_token():
    torch.manual_seed(0)
    model, batch = clip("tiny", **SMALL).eval(), samples.captioned()
    ids, mask = batch["input_ids"], batch["attention_mask"]
    with torch.no_grad():
        short = model.get_text_features(input_ids=ids, attention_mask=mask)
        padded = model.get_text_features(
            input_ids=F.pad(ids, (0, 3)), attention_mask=F.pad(mask, (0, 3))
        )
    first, second = (getattr(f, "pooler_output", f) for f in (short, padded))
    assert torch.allclose(first, second, atol=1e-6)
    assert torch.cdist(first, first).add(torch.eye(10)).min() > 1e-4  # no two captions alike


@pytest.fixture
def joint():
    torch.manual_seed(0)
    return vl_bert("tiny", dropout=0.0, **SMALL)


def test_patches_are_cut_row_by_row(joint):
    image = torch.arange(64.0).reshape(1, 1, 8, 8)
    patches = joint.cut(image)
    assert patches.shape == (1, 16, 4)
    assert patches[0, 0].tolist() == [0, 1, 8, 9] and patches[0, 5].tolist() == [18, 19, 26, 27]


def test_both_losses_by_hand(joint):
    batch = samples.asked()
    output = joint(**batch)
    words, patches = batch["labels"] != -100, batch["hidden_patches"]
    assert (words.sum(1) == 1).all() and (patches.sum(1) == 2).all()
    expected = F.cross_entropy(output.logits[words], batch["labels"][words])
    painted = output.extra["painted"][patches] - joint.cut(batch["pixel_values"])[patches]
    assert torch.allclose(output.loss, expected + painted.square().mean(), rtol=1e-5)


def test_words_see_patches_and_patches_see_words(joint):
    joint.eval()
    batch = samples.captioned()
    other = dict(batch, pixel_values=batch["pixel_values"].flip(0))
    said = dict(batch, input_ids=batch["input_ids"].flip(0))
    with torch.no_grad():
        before, by_image, by_text = (joint(**b) for b in (batch, other, said))
    assert before.loss is None
    assert (before.logits != by_image.logits).any(-1).all()
    assert (before.extra["painted"] != by_text.extra["painted"]).any(-1).all()


def test_a_hidden_patch_is_not_seen(joint):
    joint.eval()
    batch = samples.asked()
    with torch.no_grad():
        before = joint(**batch)
        pixels = joint.cut(batch["pixel_values"])
        pixels[batch["hidden_patches"]] = 5.0
        image = F.fold(pixels.transpose(1, 2), 8, 2, stride=2)
        after = joint(**batch | {"pixel_values": image})
    assert torch.equal(before.logits, after.logits) and before.loss != after.loss


def test_padding_moves_nothing(joint):
    joint.eval()
    batch = samples.captioned()
    padded = {name: F.pad(batch[name], (0, 4)) for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        before, after = joint(**batch).logits, joint(**batch | padded).logits
    assert torch.allclose(before, after[:, : before.shape[1]], atol=1e-6)


def test_the_masked_word_is_learned_from_the_image_alone(joint):
    """The captions differ in the masked word only: blind, nothing is better than ln 10."""
    batch = samples.asked()
    del batch["hidden_patches"]
    losses, _ = overfit(joint, batch, steps=90, rate=0.01)
    assert losses[-1] < 0.2 * math.log(10)
    blind = joint(**batch | {"pixel_values": batch["pixel_values"].roll(1, 0)})
    assert blind.loss > math.log(10)


def test_patches_that_do_not_fill_the_image_are_refused():
    with pytest.raises(ValueError, match="patches of 3 pixels do not fill an image of 8"):
        vl_bert("tiny", image_size=8, patch_size=3)
