"""Scenes, questions and captions as tensors for a detector, a joint encoder and a decoder.

Does: bring what `data.digit_scenes` made into batches of `image_runs`, score answers by kind of
question, and give the answers that need no image. Does not: train. Chapter 14 uses it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cookbook.data.digit_scenes import Question, Scene
from cookbook.data.template_words import TemplateWords
from cookbook.maths.boxes import to_centres
from cookbook.training.stacking import IGNORE

Asked = Sequence[tuple[int, Question]]
MASK = "[MASK]"


def scene_pixels(scenes: Sequence[Scene]) -> Tensor:
    """(n, 1, side, side) float32, black -1 and white 1."""
    return torch.from_numpy(np.stack([scene.image for scene in scenes]))[:, None] / 127.5 - 1


def detection_rows(scenes: Sequence[Scene], most: int) -> dict[str, Tensor]:
    """What `models.detection.SetPredictor` takes: `pixel_values`, `labels` (n, most), `boxes`.

    Labels are -1 where there is no further object; boxes (n, most, 4) are middle and size in shares
    of the image. Raises ValueError for a scene of more than `most` objects.
    """
    fullest = max(len(scene.labels) for scene in scenes)
    if fullest > most:
        raise ValueError(f"a scene holds {fullest} objects, more than {most}: raise most")
    labels, boxes = torch.full((len(scenes), most), -1), torch.zeros(len(scenes), most, 4)
    for row, scene in enumerate(scenes):
        here = slice(0, len(scene.labels))
        labels[row, here] = torch.from_numpy(scene.labels)
        boxes[row, here] = to_centres(torch.from_numpy(scene.boxes)) / len(scene.image)
    return {"pixel_values": scene_pixels(scenes), "labels": labels, "boxes": boxes}


def question_rows(
    scenes: Sequence[Scene], asked: Asked, words: TemplateWords, length: int
) -> dict[str, Tensor]:
    """What `models.multimodal.JointEncoder` takes: each question, its answer behind a [MASK].

    `input_ids` (n, length) is `[CLS] is the 7 left of the 3 ? [MASK] [SEP]`; `labels` holds the
    answer's id at the [MASK] and -100 elsewhere; `pixel_values` the scene that it asks about.
    """
    texts = [f"{question.text} {MASK}" for _, question in asked]
    ids = torch.from_numpy(words.encode(texts, length))
    labels = torch.full_like(ids, IGNORE)
    labels[ids == words.numbers[MASK]] = answer_ids(asked, words)
    return {
        "input_ids": ids,
        "attention_mask": (ids != 0).long(),
        "pixel_values": scene_pixels(scenes)[[number for number, _ in asked]],
        "labels": labels,
    }


def answer_ids(asked: Asked, words: TemplateWords) -> Tensor:
    """(n,) the ids of the true answers."""
    return torch.tensor([words.numbers[question.answer] for _, question in asked])


def answers(logits: Tensor, rows: dict[str, Tensor]) -> Tensor:
    """(n,) the likeliest word at each [MASK], from logits (n, length, words)."""
    return logits[rows["labels"] != IGNORE].argmax(-1)


def by_kind(right: np.ndarray, asked: Asked) -> dict[str, float]:
    """The share of right answers for each kind of question, in the order in which they come.

    >>> two = [(0, Question("left", "", "yes")), (0, Question("count", "", "two"))]
    >>> by_kind(np.array([True, False]), two)
    {'left': 1.0, 'count': 0.0}
    """
    kinds = np.array([question.kind for _, question in asked])
    return {kind: float(right[kinds == kind].mean()) for kind in dict.fromkeys(kinds.tolist())}


def without_looking(known: Asked, asked: Asked) -> np.ndarray:
    """The baseline that sees no image: which of `asked` the commonest answer in `known` gets right.

    The commonest among training questions of the same words; of the same kind for new words.

    >>> known = [(0, Question("there", "is there a 7 ?", "no"))]
    >>> without_looking(known, [(0, Question("there", "is there a 3 ?", "no"))]).tolist()
    [True]
    """
    texts: dict[str, Counter] = {}
    for _, question in known:
        for key in (question.text, question.kind):
            texts.setdefault(key, Counter())[question.answer] += 1
    found = []
    for _, question in asked:
        seen = texts.get(question.text) or texts.get(question.kind) or Counter({"": 1})
        found.append(seen.most_common(1)[0][0] == question.answer)
    return np.array(found)


def caption_rows(
    pictures: dict[str, Tensor], names: Sequence[str], words: TemplateWords, caption: str
) -> dict[str, Tensor]:
    """`input_ids` (n, length), `attention_mask` and `pixel_values` of captioned pictures.

    `pictures` holds `pixel_values` and `labels`; `{}` in `caption` is the name of the label.
    """
    each = torch.from_numpy(words.encode([caption.replace("{}", name) for name in names]))
    ids = each[pictures["labels"]]
    return {"input_ids": ids, "attention_mask": (ids != 0).long(),
            "pixel_values": pictures["pixel_values"]}  # fmt: skip
