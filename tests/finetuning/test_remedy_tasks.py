"""Few rows, other ones for each seed; what a remedy changes in rows, batches and weights."""

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image
from PIL import Image as Picture

from cookbook.data.errors import DataError
from cookbook.finetuning.remedies import Remedy, run
from cookbook.finetuning.remedy_tasks import COPIES, Pictures, Texts, draw, stacked
from cookbook.models.initialization import count_parameters


@pytest.fixture(scope="module")
def texts(checkpoint, labelled):
    return Texts(checkpoint, labelled, rows=12, max_length=16)


@pytest.fixture(scope="module")
def pictures():
    """Upright and lying bars of 8 x 8 pixels: the class is the way they point."""
    rng = np.random.default_rng(0)
    features = Features(image=Image(), label=ClassLabel(names=["upright", "lying"]))

    def part(rows):
        images, labels = [], [i % 2 for i in range(rows)]
        for label in labels:
            grey = rng.integers(0, 60, (8, 8), dtype=np.uint8)
            where = slice(None), int(rng.integers(0, 8))
            grey[where if label == 0 else where[::-1]] = 255
            images.append(Picture.fromarray(grey))
        return Dataset.from_dict({"image": images, "label": labels}, features)

    return Pictures(DatasetDict(train=part(60), validation=part(20), test=part(30)), rows=20)


def test_more_rows_contain_the_fewer_and_classes_stay_even(texts):
    few, more = (set(texts.train_rows(Remedy(rows=times), 3)["text"]) for times in (1, 3))
    assert len(few) == 12 < len(more) == 36 and few < more
    assert set(texts.train_rows(Remedy(), 4)["text"]) != few
    assert np.bincount(draw(texts.pool, 12, 0)["label"]).tolist() == [4, 4, 4]


def test_edited_copies_stand_after_their_rows(texts):
    rows = texts.train_rows(Remedy(edits=("swap",), edit_rate=0.5), 0)
    own = texts.train_rows(Remedy(), 0)
    assert rows["text"][:12] == own["text"][:] and 12 < len(rows) <= 12 * (1 + COPIES)
    assert len(texts.own_rows(0)[0]) == 12  # the fit is asked of the real ones
    assert "[MASK]" in " ".join(texts.train_rows(Remedy(edits=("mask",)), 0)["text"])


def test_a_model_is_as_the_remedy_wants_it(texts):
    plain = texts.model(Remedy(), 0)
    assert plain.config.num_hidden_layers == 2
    drops = [m.p for m in plain.modules() if isinstance(m, torch.nn.Dropout)]
    assert drops and set(drops) == {0.0}
    dropped = texts.model(Remedy(dropout=0.4), 0)
    assert {m.p for m in dropped.modules() if isinstance(m, torch.nn.Dropout)} == {0.4}
    assert texts.model(Remedy(smaller=True), 0).config.num_hidden_layers == 1
    weight = "bert.encoder.layer.0.attention.self.query.weight"
    random = texts.model(Remedy(random=True), 0).state_dict()[weight]
    assert not torch.equal(random, plain.state_dict()[weight])
    assert torch.equal(texts.model(Remedy(), 1).state_dict()[weight], plain.state_dict()[weight])


def test_what_rests_keeps_its_bits_and_what_does_not_moves(texts):
    start = texts.model(Remedy(), 0).state_dict()
    half, none = (texts.model(Remedy(freeze=layers), 0) for layers in (1, -1))
    trainable = {name for name, p in none.named_parameters() if p.requires_grad}
    assert trainable and all(name.startswith(("classifier", "bert.pooler")) for name in trainable)
    assert count_parameters(none)[1] < count_parameters(half)[1] < count_parameters(half)[0]
    net = half
    texts.model = lambda remedy, seed: net
    try:
        run(texts, Remedy(freeze=1), steps=3, rate=1e-2, every=3)
    finally:
        del texts.model
    moved = {name for name, w in net.state_dict().items() if not torch.equal(w, start[name])}
    assert any("layer.1" in name for name in moved) and any("classifier" in name for name in moved)
    assert not any("layer.0" in name or "embeddings" in name for name in moved)


def test_pictures_are_learnt_and_a_mirror_makes_no_difference_to_bars(pictures):
    how = {"steps": 40, "rate": 5e-3, "every": 20}
    plain, flipped = (
        run(pictures, remedy, **how) for remedy in (Remedy(), Remedy(edits=("flip",)))
    )
    labels = pictures.labels("test")
    assert plain.fit == 1.0 and np.mean(np.argmax(plain.test, -1) == labels) > 0.8
    assert np.mean(np.argmax(flipped.test, -1) == labels) > 0.8
    assert run(pictures, Remedy(), **how) == plain


def test_mixup_blends_pictures_and_labels_alike_and_repeatably(pictures):
    plain = pictures.batches(Remedy(), 0, 8)[1]
    mixed = pictures.batches(Remedy(mixup=0.5), 0, 8)[1]
    again = pictures.batches(Remedy(mixup=0.5), 0, 8)[1]
    assert all(torch.equal(mixed[name], again[name]) for name in mixed)
    assert plain["labels"].shape == (8,) and mixed["labels"].shape == (8, 2)
    assert torch.allclose(mixed["labels"].sum(1), torch.ones(8))
    assert mixed["pixel_values"].shape == plain["pixel_values"].shape == (8, 1, 8, 8)


def test_a_blended_row_is_the_same_blend_of_pictures_and_of_labels():
    rows = [
        {"image": np.full((2, 2), i, np.float32), "label": i, "epoch": 3, "row": 7}
        for i in range(6)
    ]
    mixed = stacked(rows, classes=6, alpha=0.5, seed=0)
    numbers = torch.arange(6.0)
    torch.testing.assert_close(mixed["pixel_values"].mean((1, 2, 3)), mixed["labels"] @ numbers)
    assert (mixed["labels"].max(1).values < 0.99).any()
    plain = stacked(rows, classes=6, alpha=0.0, seed=0)
    assert plain["labels"].tolist() == list(range(6))


def test_a_smaller_network_and_dropout(pictures):
    sizes = [count_parameters(pictures.model(Remedy(smaller=s), 0))[0] for s in (False, True)]
    assert sizes[1] < sizes[0] / 8
    (dropout,) = (
        m for m in pictures.model(Remedy(dropout=0.5), 0).modules()
        if isinstance(m, torch.nn.Dropout)
    )  # fmt: skip
    assert dropout.p == 0.5


def test_data_without_classes_is_refused_and_the_key_knows_the_rows(texts, checkpoint, labelled):
    with pytest.raises(DataError, match="classes"):
        Texts(checkpoint, {n: d.remove_columns("label") for n, d in labelled.items()}, rows=4)
    other = Texts(checkpoint, labelled, rows=11, max_length=16)
    assert other.key() != texts.key() == Texts(checkpoint, labelled, rows=12, max_length=16).key()
