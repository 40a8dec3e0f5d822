"""Scenes and questions as tensors: nothing is lost on the way, and blind answers are blind."""

import numpy as np
import pytest
import torch

from cookbook.data import digit_scenes
from cookbook.data.digit_scenes import Question, Scene
from cookbook.data.template_words import TemplateWords
from cookbook.maths.boxes import to_corners
from cookbook.training import scene_rows

NAMES = ["one", "two", "three"]


def made(n=30):
    """Scenes of up to three bars of different labels, and all that can be asked about them."""
    pictures = np.zeros((3, 8, 8), np.uint8)
    for label in range(3):
        pictures[label, :, : 2 * label + 2] = 200
    scenes = digit_scenes.scenes(pictures, np.arange(3), n, count=(1, 3), cell=8, distinct=True)
    return scenes, digit_scenes.questions(scenes, NAMES)


def test_boxes_come_back():
    scenes, _ = made()
    rows = scene_rows.detection_rows(scenes, 4)
    assert (
        rows["pixel_values"].shape == (30, 1, 32, 32)
        and rows["pixel_values"].dtype == torch.float32
    )
    for row, scene in enumerate(scenes):
        n = len(scene.labels)
        assert rows["labels"][row].tolist() == [*scene.labels, *[-1] * (4 - n)]
        np.testing.assert_allclose(to_corners(rows["boxes"][row, :n]) * 32, scene.boxes, atol=1e-5)
    with pytest.raises(ValueError, match="holds 3 objects, more than 2"):
        scene_rows.detection_rows(scenes, 2)


def test_a_question_carries_its_scene_and_hides_its_answer():
    scenes, asked = made()
    words = TemplateWords(f"{q.text} {q.answer}" for _, q in asked)
    rows = scene_rows.question_rows(scenes, asked, words, 14)
    for row, (number, question) in enumerate(asked):
        assert words.decode(rows["input_ids"][row].tolist()) == f"{question.text} [MASK]"
        place = words.encode([f"{question.text} [MASK]"])[0].tolist().index(4)
        assert rows["labels"][row, place] == words.numbers[question.answer]
        pixels = torch.from_numpy(scenes[number].image) / 127.5 - 1
        torch.testing.assert_close(rows["pixel_values"][row, 0], pixels)
    assert int((rows["labels"] != -100).sum()) == len(asked)
    logits = torch.nn.functional.one_hot(rows["labels"].clamp(min=0), len(words)).float()
    assert torch.equal(scene_rows.answers(logits, rows), scene_rows.answer_ids(asked, words))


def test_without_looking_by_hand():
    def question(kind, text, answer):
        return (0, Question(kind, text, answer))

    known = [question("there", "a ?", "yes"), question("there", "b ?", "no"),
             question("there", "b ?", "no")]  # fmt: skip
    asked = [question("there", "a ?", "yes"), question("there", "a ?", "no"),
             question("there", "c ?", "no"), question("count", "how many ?", "two")]  # fmt: skip
    right = scene_rows.without_looking(known, asked)
    assert right.tolist() == [True, False, True, False]
    assert scene_rows.by_kind(right, asked) == {"there": pytest.approx(2 / 3), "count": 0.0}


def test_a_caption_names_the_label():
    words = TemplateWords(["a picture of a", *NAMES])
    pictures = {"pixel_values": torch.zeros(3, 1, 8, 8), "labels": torch.tensor([2, 0, 2])}
    rows = scene_rows.caption_rows(pictures, NAMES, words, "a picture of a {}")
    said = [words.decode(ids) for ids in rows["input_ids"].tolist()]
    assert said == [f"a picture of a {name}" for name in ("three", "one", "three")]


def test_an_empty_board_is_black():
    dark = Scene(np.zeros((8, 8), np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    assert (scene_rows.scene_pixels([dark]) == -1).all()
