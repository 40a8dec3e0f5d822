"""The two towers: unit vectors, a scale that is learned and clipped, and no look at neighbours."""

import math

import pytest
import torch

from cookbook.models.two_towers import ImageTower, TextTower, TwoTowers


@pytest.fixture
def model():
    torch.manual_seed(0)
    return TwoTowers(ImageTower(16, width=8), TextTower(16, vocab_size=50, hidden_size=32)).eval()


def batch(rows=4, length=6, side=32):
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 50, (rows, length), generator=generator)
    pixels = torch.randn(rows, 1, side, side, generator=generator)
    return {"pixel_values": pixels, "input_ids": ids, "attention_mask": torch.ones_like(ids)}


def test_vectors_have_length_one_and_the_scale_starts_where_clips_does(model):
    pictures, captions, scale = model(**batch())
    assert pictures.shape == captions.shape == (4, 16)
    torch.testing.assert_close(pictures.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(captions.norm(dim=1), torch.ones(4))
    assert scale.item() == pytest.approx(1 / 0.07, rel=1e-6)


def test_a_row_does_not_depend_on_its_neighbours_nor_on_padding(model):
    whole, given = model(**batch()), batch()
    given = {name: value[:1] for name, value in given.items()}
    given["input_ids"] = torch.cat([given["input_ids"], torch.full((1, 3), 7)], 1)
    given["attention_mask"] = torch.cat([given["attention_mask"], torch.zeros(1, 3).long()], 1)
    alone = model(**given)
    for one, many in zip(alone[:2], whole[:2], strict=True):
        torch.testing.assert_close(one[0], many[0], rtol=1e-5, atol=1e-6)


def test_the_scale_is_clipped_at_100_and_comes_back(model):
    with torch.no_grad():
        model.paced_scale.fill_(math.log(500) / model.PACE)
    model.clip_scale()
    assert model.scale.item() == pytest.approx(100, rel=1e-5)
    model.scale.backward()
    assert model.paced_scale.grad.item() == pytest.approx(100 * model.PACE, rel=1e-4)


def test_other_sides_and_colours_fit():
    tower = ImageTower(16, channels=3, width=8)
    for side in (32, 48, 72):
        assert tower(torch.zeros(2, 3, side, side)).shape == (2, 16)


def test_another_encoder_can_take_the_place_of_the_text_tower(model):
    tower = TextTower(16, encoder=model.text.encoder)
    assert tower.encoder is model.text.encoder and tower.out.in_features == 32
