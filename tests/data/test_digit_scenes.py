"""Scenes: boxes are where the ink is, no two overlap, every answer can be read off them."""

import numpy as np
import pytest
from PIL import Image

from cookbook.data import digit_scenes
from cookbook.data.digit_scenes import KINDS, NUMBERS, Scene, ask, compose, questions, scenes

NAMES = [str(n) for n in range(10)]


@pytest.fixture(scope="module")
def digits():
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return (bunch.images[:300] * 15.9).astype(np.uint8), bunch.target[:300]


@pytest.mark.parametrize("how", [{}, {"cell": 8, "distinct": True}, {"sizes": (6, 16)}])
def test_all_ink_is_in_a_box_and_every_box_is_tight(digits, how):
    for scene in scenes(*digits, 60, **how):
        covered = np.zeros((32, 32), int)
        for x0, y0, x1, y1 in scene.boxes.astype(int):
            covered[y0:y1, x0:x1] += 1
            inside = scene.image[y0:y1, x0:x1]
            assert inside[0].any() and inside[-1].any()
            assert inside[:, 0].any() and inside[:, -1].any()
        assert covered.max(initial=0) == 1 and not scene.image[covered == 0].any()
        assert 1 <= len(scene.labels) <= 4 and (np.diff(scene.boxes[:, 0]) >= 0).all()


def test_on_a_board_a_digit_is_in_its_cell_as_it_was(digits):
    pictures, labels = digits
    known = {(picture.tobytes(), label) for picture, label in zip(pictures, labels, strict=True)}
    for scene in scenes(*digits, 40, cell=8, distinct=True, count=(3, 3)):
        assert len(scene.labels) == 3 == len(set(scene.labels.tolist()))
        cells = scene.image.reshape(4, 8, 4, 8).transpose(0, 2, 1, 3).reshape(16, 64)
        filled = [cell for cell in cells if cell.any()]
        assert len(filled) == 3
        assert all(any((c.tobytes(), y) in known for y in scene.labels) for c in filled)


def test_a_scene_is_a_function_of_its_seed_and_number(digits):
    first, second = scenes(*digits, 5, seed=3), scenes(*digits, 9, seed=3)
    assert all(np.array_equal(a.image, b.image) for a, b in zip(first, second[:5], strict=True))
    other = scenes(*digits, 5, seed=4)
    assert not np.array_equal(first[0].image, other[0].image)


@pytest.mark.parametrize(
    "how", [{"sizes": (8, 40)}, {"cell": 16, "count": (1, 5)}, {"distinct": True, "count": (1, 11)}]
)
def test_what_cannot_fit_is_refused(digits, how):
    with pytest.raises(ValueError, match="do not fit into 32 x 32"):
        compose(*digits, np.random.default_rng(0), **how)


def test_where_no_place_is_left_an_object_is_left_out(digits):
    scene = compose(*digits, np.random.default_rng(0), count=(9, 9), sizes=(20, 20))
    assert 1 <= len(scene.labels) < 9


def by_hand():
    """A 7 on the upper left, a 3 right of it and lower, a 5 under the 7."""
    boxes = np.array([[0, 0, 6, 8], [0, 20, 6, 28], [16, 9, 24, 17]], np.float32)
    return Scene(np.zeros((32, 32), np.uint8), boxes, np.array([7, 5, 3]))


def test_questions_by_hand():
    said = {}
    for seed in range(60):
        rng = np.random.default_rng(seed)
        for kind in KINDS:
            question = ask(by_hand(), NAMES, rng, kind)
            if question:
                assert said.setdefault(question.text, question.answer) == question.answer
    expected = {
        "how many are there ?": "three",
        "is the 7 left of the 3 ?": "yes", "is the 3 left of the 7 ?": "no",
        "is the 5 left of the 3 ?": "yes", "is the 3 left of the 5 ?": "no",
        "is the 7 above the 3 ?": "yes", "is the 3 above the 7 ?": "no",
        "is the 7 above the 5 ?": "yes", "is the 5 above the 7 ?": "no",
        "is the 3 above the 5 ?": "yes", "is the 5 above the 3 ?": "no",
    }  # fmt: skip
    there = {f"is there a {n} ?": "yes" if n in "753" else "no" for n in NAMES}
    assert said == expected | there  # nobody is leftmost: two boxes begin at 0


def test_what_a_scene_does_not_allow_is_not_asked():
    alone = Scene(np.zeros((32, 32), np.uint8), by_hand().boxes[:1], np.array([7]))
    kinds = [question.kind for _, question in questions([alone], NAMES)]
    assert kinds == ["there", "count", "leftmost"]
    with pytest.raises(ValueError, match="unknown kind 'behind'"):
        ask(alone, NAMES, np.random.default_rng(0), "behind")


def test_yes_and_no_are_equally_likely(digits):
    found = questions(scenes(*digits, 400, cell=8, distinct=True, count=(2, 4)), NAMES)
    for kind in ("left", "above", "there"):
        answers = [question.answer for _, question in found if question.kind == kind]
        assert abs(answers.count("yes") / len(answers) - 0.5) < 0.08
    assert {q.answer for _, q in found if q.kind == "count"} == set(NUMBERS[2:5])


def test_pictures_of_any_size_become_small_and_grey():
    white = Image.new("RGB", (28, 28), "white")
    small = digit_scenes.shrunk([white, Image.new("L", (8, 8), 7)])
    assert small.shape == (2, 8, 8) and small[0].min() == 255 and small[1].max() == 7
