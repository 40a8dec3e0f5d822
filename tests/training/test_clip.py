"""CLIP's loss equals transformers'; pairs that say the same are known; a small set is learned."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image

from cookbook.models.initialization import load_tokenizer
from cookbook.training import clip


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("docbert")


def picture(seed, mode="L", side=32):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 255, (side, side, 3), dtype=np.uint8)).convert(mode)


def test_the_loss_is_transformers(tokenizer):
    from transformers import CLIPConfig, CLIPModel

    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
             "num_attention_heads": 2}  # fmt: skip
    config = CLIPConfig(
        text_config=small | {"vocab_size": 50, "max_position_embeddings": 8, "eos_token_id": 49},
        vision_config=small | {"image_size": 8, "patch_size": 4}, projection_dim=8,
    )  # fmt: skip
    torch.manual_seed(0)
    model = CLIPModel(config).double().eval()
    ids = torch.randint(5, 49, (6, 8))
    ids[:, -1] = 49
    pixels = torch.randn(6, 3, 8, 8, dtype=torch.float64)
    theirs = model(input_ids=ids, pixel_values=pixels, return_loss=True)
    scale = model.logit_scale.exp()
    ours = clip.clip_loss((theirs.image_embeds, theirs.text_embeds, scale), {})
    torch.testing.assert_close(ours, theirs.loss, rtol=0, atol=1e-6)
    weights = [p for p in model.parameters() if p.requires_grad]
    mine = torch.autograd.grad(ours, weights, retain_graph=True, allow_unused=True)
    other = torch.autograd.grad(theirs.loss, weights, allow_unused=True)
    for one, two in zip(mine, other, strict=True):
        if two is not None:
            torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-9)


def test_rows_that_say_the_same_do_not_push_one_another():
    vectors = torch.nn.functional.normalize(torch.randn(4, 8, dtype=torch.float64), dim=1)
    vectors[1] = vectors[0]
    outputs = (vectors, vectors, torch.tensor(100.0, dtype=torch.float64))
    blind = clip.clip_loss(outputs, {})
    seeing = clip.clip_loss(outputs, {"groups": torch.tensor([5, 5, 1, 2])})
    assert blind > 0.3 and seeing < blind / 10  # ln 2 for two rows in four


def test_equal_pictures_equal_captions_and_given_groups_are_linked(tokenizer):
    pictures = [picture(0), picture(0), picture(1), picture(2), picture(3)]
    captions = ["BLACK KING", "white king", "White  King", "comet", "sun"]
    rows = Dataset.from_dict({"image": pictures, "caption": captions})
    made = clip.image_text_rows(rows, tokenizer)
    assert [row["groups"] for row in made] == [0, 0, 0, 1, 2]
    grouped = rows.add_column("group", [1, 2, 3, 4, 4])
    made = clip.image_text_rows(grouped, tokenizer)
    assert [row["groups"] for row in made] == [0, 0, 0, 1, 1]


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 3), ("RGB", 1)])
def test_any_picture_becomes_pixels_of_one_size(mode, channels):
    pixels = clip.to_pixels(picture(0, mode, side=20), 32, channels)
    assert pixels.shape == (channels, 32, 32) and pixels.dtype == np.uint8
    if channels == 1 and mode == "L":
        whole = picture(0)
        assert (clip.to_pixels(whole, 32, 1)[0] == np.asarray(whole)).all()


def test_what_is_clear_is_white_and_a_wide_picture_keeps_its_shape():
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    assert (clip.to_pixels(clear, 8, 3) == 255).all()
    wide = np.asarray(clip.to_pixels(Image.new("L", (20, 10), 0), 8, 1)[0])
    assert (wide[:2] == 255).all() and (wide[2:6] == 0).all() and (wide[6:] == 255).all()


def test_a_batch_has_ink_as_one_and_captions_in_lower_case(tokenizer):
    image = Image.fromarray(np.full((32, 32), 255, np.uint8))
    image.putpixel((3, 5), 0)
    rows = Dataset.from_dict({"image": [image, picture(1)], "caption": ["SUN", "a falling star"]})
    batch = clip.ImageTextCollator(tokenizer)(clip.image_text_rows(rows, tokenizer))
    assert batch["pixel_values"].shape == (2, 1, 32, 32)
    assert batch["pixel_values"][0, 0, 5, 3] == 1 and batch["pixel_values"][0].sum() == 2 - 32 * 32
    assert batch["input_ids"][0, :3].tolist() == tokenizer("sun")["input_ids"][:3]
    assert batch["attention_mask"].sum(1).tolist() == [4, 7]
    assert batch["groups"].tolist() == [0, 1]
    assert "groups" not in clip.ImageTextCollator(tokenizer, groups=False)(
        clip.image_text_rows(rows, tokenizer)
    )


def sixteen(tokenizer):
    rng = np.random.default_rng(0)
    words = "red blue round square open closed left right".split()
    return [
        {"pixels": rng.integers(0, 255, (1, 32, 32), dtype=np.uint8), "groups": row,
         "input_ids": tokenizer(f"{words[row % 8]} {words[row // 8]}")["input_ids"]}
        for row in range(16)
    ]  # fmt: skip


def test_the_scale_is_clipped_after_every_step(tokenizer, monkeypatch):
    monkeypatch.setattr("cookbook.models.two_towers.LARGEST_SCALE", 10.0)
    scales = []
    clip.train_clip(
        sixteen(tokenizer), tokenizer, steps=2, batch_size=16, d=8,
        on_step=lambda step, loss, scale: scales.append(scale),
    )  # fmt: skip
    assert scales[0] == pytest.approx(10, rel=1e-4) and max(scales) < 10.001


def test_a_small_set_is_learned_and_a_run_repeats_itself(tokenizer):
    rows = sixteen(tokenizer)
    seen = []
    settings = {"steps": 16, "batch_size": 16, "learning_rate": 2e-3, "d": 16}
    model = clip.train_clip(
        rows, tokenizer, **settings, on_step=lambda *one: seen.append(one), seed=1
    )
    steps, losses, scales = zip(*seen, strict=True)
    assert steps == tuple(range(1, 17))
    assert losses[0] > 0.8 * np.log(16) and losses[-1] < 0.5
    assert max(scales) <= 100.001 and scales[0] == pytest.approx(1 / 0.07, rel=0.1)
    again = []
    clip.train_clip(rows, tokenizer, **settings, on_step=lambda *one: again.append(one), seed=1)
    assert again == seen
    assert model.image.out.out_features == 16
