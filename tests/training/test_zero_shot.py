"""Retrieval both ways, classes by prompts, and the baseline that copies a caption."""

import numpy as np
import pytest
import torch

from cookbook.data.glyphs import KINDS
from cookbook.models.initialization import load_tokenizer
from cookbook.models.two_towers import ImageTower, TextTower, TwoTowers
from cookbook.training import zero_shot


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("docbert")


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    return TwoTowers(ImageTower(16, width=8), TextTower(16, vocab_size=len(tokenizer)))


def rows(tokenizer, captions):
    rng = np.random.default_rng(0)
    return [
        {"pixels": rng.integers(0, 255, (1, 32, 32), dtype=np.uint8), "groups": row,
         "input_ids": tokenizer(caption)["input_ids"]}
        for row, caption in enumerate(captions)
    ]  # fmt: skip


def test_vectors_come_in_order_whatever_the_batch(model, tokenizer):
    made = rows(tokenizer, ["sun", "a much longer caption of something", "moon", "star", "comet"])
    whole = zero_shot.image_text_vectors(model, made, tokenizer)
    parts = zero_shot.image_text_vectors(model, made, tokenizer, batch_size=2)
    for one, two in zip(whole, parts, strict=True):
        assert one.shape == (5, 16) and one.dtype == np.float32
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)
    assert model.training  # the mode comes back


def test_retrieval_of_a_perfect_and_of_a_shifted_model():
    points = np.eye(6, dtype=np.float32)
    assert zero_shot.retrieve(points, points)["caption"].tolist() == [1] * 6
    shifted = zero_shot.retrieve(points, np.roll(points, 1, axis=0))
    assert all((ranks > 1).all() for ranks in shifted.values())


def test_each_way_ranks_the_candidates_of_the_other_side():
    pictures, captions = np.random.default_rng(1).normal(size=(2, 30, 4))
    found = zero_shot.retrieve(pictures, captions)
    for way, scores in (("caption", pictures @ captions.T), ("picture", captions @ pictures.T)):
        ranks = [1 + (row > row[i]).sum() for i, row in enumerate(scores)]
        assert found[way].tolist() == ranks
    assert found["caption"].tolist() != found["picture"].tolist()


def test_a_random_model_has_the_figures_of_chance():
    drawn = np.random.default_rng(0).normal(size=(2, 400, 32))
    drawn /= np.linalg.norm(drawn, axis=-1, keepdims=True)
    expected = zero_shot.chance(400)
    for found in zero_shot.retrieve(*drawn).values():
        measured = zero_shot.figures(found)
        assert measured["recall@10"] == pytest.approx(expected["recall@10"], abs=0.02)
        assert measured["median rank"] == pytest.approx(expected["median rank"], rel=0.15)


def test_one_prompt_is_the_captions_own_vector(model, tokenizer):
    names = ["black king", "white queen", "a rook of another colour"]
    ours = zero_shot.class_vectors(model, zero_shot.prompts(names, ["{}"]), tokenizer)
    theirs = zero_shot.image_text_vectors(model, rows(tokenizer, names), tokenizer)[1]
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    few = zero_shot.text_vectors(model, names, tokenizer, batch_size=2)
    np.testing.assert_allclose(few, theirs, rtol=1e-5, atol=1e-6)


def test_several_prompts_are_the_unit_mean_of_each(model, tokenizer):
    texts = [["king", "Black KING", "a chess king of white"], ["queen"], ["rook", "tower"]]
    together = zero_shot.class_vectors(model, texts, tokenizer)
    for one, words in zip(together, texts, strict=True):
        mean = zero_shot.text_vectors(model, [w.lower() for w in words], tokenizer).mean(0)
        np.testing.assert_allclose(one, mean / np.linalg.norm(mean), rtol=1e-4, atol=1e-5)
    assert zero_shot.classify(together, together).tolist() == [0, 1, 2]


def test_classes_are_told_by_the_name():
    captions = ["LATIN SMALL LETTER A", "COMBINING RIGHT ARROW ABOVE", "UPWARDS ARROW",
                "MODIFIER LETTER LOW UP ARROWHEAD", "ARROWHEAD", "SNOWMAN"]  # fmt: skip
    names = [*KINDS, "none"]
    found = [names[place] for place in zero_shot.class_of(captions, KINDS)]
    assert found == ["latin", "combining", "arrow", "modifier", "none", "none"]


def test_a_copied_caption_ranks_what_shares_its_rare_words():
    known = np.stack([np.full((4, 4), grey, np.uint8) for grey in (0, 100, 200)])
    names = ["BLACK CHESS KING", "WHITE CHESS QUEEN", "COMET"]
    asked = np.stack([np.full((4, 4), grey, np.uint8) for grey in (190, 10)])
    scores = zero_shot.copied_captions(known, names, asked, ["WHITE KING", "COMET", "BLACK KING"])
    assert scores.shape == (2, 3)
    assert scores.argmax(1).tolist() == [1, 2] and scores[0].tolist()[::2] == [0, 0]
