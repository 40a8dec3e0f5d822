"""Each mistake spoils one thing; what it does to a model is tested with the task."""

from cookbook.data.word_tags import Aligned
from cookbook.finetuning import task_mistakes


def test_tags_slide_where_a_word_takes_two_pieces():
    whole = Aligned({"input_ids": [2, 5, 6, 7, 3], "labels": [-100, 1, -100, 2, -100]}, [1, 3])
    (spoilt,) = task_mistakes.unaligned([whole], [[1, 2]])
    assert spoilt.row["labels"] == [-100, 1, 2, 0, -100] and spoilt.first == whole.first
    assert whole.row["labels"] == [-100, 1, -100, 2, -100]


def test_one_piece_a_word_is_no_mistake():
    whole = Aligned({"input_ids": [2, 5, 6, 3], "labels": [-100, 1, 2, -100]}, [1, 2])
    assert task_mistakes.unaligned([whole], [[1, 2]]) == [whole]


def test_only_the_end_is_lost():
    rows = [{"input_ids": [1], "labels": [7, 3]}]
    assert task_mistakes.without_end(rows) == [{"input_ids": [1], "labels": [7]}]
    assert rows[0]["labels"] == [7, 3]
