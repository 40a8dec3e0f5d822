import random
import types

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset

from cookbook.doctor import preserve, randomness_checks
from cookbook.doctor.checks import Skip
from cookbook.doctor.subject import Subject


def found(check, **given):
    try:
        return [(f.fault, f.severity) for f in check(Subject(None, **given))]
    except Skip:
        return []


class Rows(Dataset):
    """32 rows of four numbers; `noise` is added at every reading."""

    def __init__(self, noise=lambda: 0.0, **held):
        self.noise = noise
        self.__dict__.update(held)

    def __len__(self):
        return 32

    def __getitem__(self, index):
        return torch.arange(4.0) + index + self.noise(), index % 2


class Flips(Rows):
    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        return (x.flip(0) if random.random() < self.rate else x), y


TORCH = lambda: torch.rand(1)  # noqa: E731
GLOBAL = np.random.default_rng(0)


# -- D6 ------------------------------------------------------------------------------------------


def d6(evaluation, **given):
    return found(
        randomness_checks.check_evaluation_stays_the_same, eval_dataset=evaluation, **given
    )


@pytest.mark.parametrize(
    "dataset", [Rows(TORCH), Rows(lambda: random.random()), Flips(rate=0.5), Flips(rate=0.15)]
)
def test_evaluation_rows_that_change(dataset):
    random.seed(0)
    assert d6(dataset) == [("D6", "error")]


def test_training_may_be_random_and_evaluation_is_read_in_full():
    assert d6(Rows(), train_dataset=Rows(TORCH)) == []
    assert d6(None, train_dataset=Rows(TORCH)) == []


class Images(Rows):
    def __getitem__(self, index):
        pixels = np.full((4, 4), index, np.uint8) + np.uint8(self.noise())
        return {
            "image": Image.fromarray(pixels),
            "label": 0,
            "note": None,
            "x": [0.5, float("nan")],
        }


def test_rows_of_all_sorts_are_compared():
    assert d6(Images()) == []
    assert d6(Images(lambda: random.randint(0, 200))) == [("D6", "error")]


class Denoising(Rows):
    def __getitem__(self, index):
        clean = torch.arange(9.0).reshape(3, 3) + index
        return clean + torch.randn(3, 3), clean


class Stream(IterableDataset):
    def __iter__(self):
        return iter([torch.rand(3) for _ in range(8)])


def test_where_noise_is_the_task_or_rows_cannot_be_read_again():
    assert d6(Denoising()) == [] and d6(Stream()) == []


@pytest.mark.parametrize(
    ("kind", "expected"), [("causal-lm", [("D6", "warn")]), ("masked-lm", []), ("seq2seq", [])]
)
def test_windows_drawn_from_texts_are_a_warning_for_a_causal_model(monkeypatch, kind, expected):
    monkeypatch.setattr(Subject, "kind", kind)
    assert d6(Rows(TORCH)) == expected


# -- D7 ------------------------------------------------------------------------------------------


def d7(dataset, workers=2, **more):
    loader = DataLoader(dataset, batch_size=4, num_workers=workers, **more)
    return found(randomness_checks.check_workers_draw_by_themselves, train_dataset=loader)


def holding(source):
    rows = Rows(held=source)
    draw = source.random if hasattr(source, "random") else source.rand
    rows.noise = draw
    return rows


def seed_all_the_same(worker):
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def seed_by_number_alone(worker):
    np.random.seed(42 + worker)


def seed_as_documented(worker):
    np.random.seed(torch.initial_seed() % 2**32)


ERROR = [("D7", "error")]


@pytest.mark.parametrize(
    ("dataset", "more", "expected"),
    [
        (Rows(TORCH), {}, []),
        (Rows(lambda: np.random.rand()), {}, []),  # torch 1.9 and later seed NumPy, too
        (Rows(lambda: random.random()), {}, []),
        (holding(np.random.RandomState(0)), {}, ERROR),
        (holding(np.random.default_rng(0)), {}, ERROR),
        (holding(np.random.default_rng(0)), {"persistent_workers": True}, ERROR),
        (holding(random.Random(0)), {}, ERROR),
        (Rows(lambda: GLOBAL.random()), {}, ERROR),  # held by the script, copied all the same
        (Rows(lambda: np.random.rand()), {"worker_init_fn": seed_all_the_same}, ERROR),
        (Rows(lambda: np.random.rand()), {"worker_init_fn": seed_by_number_alone}, ERROR),
        (Rows(lambda: np.random.rand()), {"worker_init_fn": seed_as_documented}, []),
        (Rows(lambda: np.random.rand()),
         {"worker_init_fn": seed_by_number_alone, "persistent_workers": True}, []),
        (Flips(rate=0.5), {}, []),
        (Flips(rate=0.5), {"worker_init_fn": seed_all_the_same}, ERROR),
    ],
)  # fmt: skip
def test_two_workers_are_asked(dataset, more, expected):
    assert d7(dataset, **more) == expected


def test_without_randomness_or_with_one_worker_no_process_starts(monkeypatch):
    monkeypatch.setattr(randomness_checks, "_draws", lambda *_: pytest.fail("started"))
    assert d7(Rows()) == []
    assert d7(holding(random.Random(0)), workers=1) == []
    assert (
        found(randomness_checks.check_workers_draw_by_themselves, train_dataset=Rows(TORCH)) == []
    )


def test_the_trainers_arguments_say_the_workers():
    args = types.SimpleNamespace(dataloader_num_workers=4)
    rows = holding(np.random.RandomState(0))
    with preserve.everything(None, others=(rows,)):
        assert found(randomness_checks.check_workers_draw_by_themselves,
                     train_dataset=rows, args=args) == ERROR  # fmt: skip
    assert rows.held.random_sample() == np.random.RandomState(0).random_sample()


class OwnLoader:
    """A trainer whose class makes its training loader by itself."""

    def __init__(self, dataset, **how):
        self.dataset, self.how = dataset, how

    def get_train_dataloader(self):
        return DataLoader(self.dataset, batch_size=4, **self.how)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"num_workers": 2, "worker_init_fn": seed_all_the_same}, ERROR),
        ({"num_workers": 2, "worker_init_fn": seed_by_number_alone}, ERROR),
        ({"num_workers": 2, "worker_init_fn": seed_as_documented}, []),
        ({"num_workers": 2}, []),
        ({"num_workers": 0, "worker_init_fn": seed_all_the_same}, []),  # nobody calls it
        ({"num_workers": 1, "worker_init_fn": seed_all_the_same}, []),
    ],
)
def test_a_trainer_makes_its_own_loader(how, expected):
    rows = Rows(lambda: np.random.rand())
    given = {"train_dataset": rows, "trainer": OwnLoader(rows, **how)}
    args = types.SimpleNamespace(dataloader_num_workers=4)  # which its own loader does not read
    check = randomness_checks.check_workers_draw_by_themselves
    assert found(check, args=args, **given) == expected


class Collator:
    """Blanks numbers by a source that it holds, or makes when it is first called."""

    def __init__(self, source=None, make=None, by_worker=False):
        self.source, self.make, self.by_worker = source, make, by_worker

    def __call__(self, rows):
        if self.source is None and self.make:
            worker = torch.utils.data.get_worker_info()
            self.source = self.make(worker.id + 1 if worker and self.by_worker else 0)
        x = torch.stack([row[0] for row in rows])
        draw = self.source.random if self.source is not None else np.random.rand
        keep = torch.tensor([[draw() < 0.7 for _ in row] for row in x])
        return x * keep, torch.tensor([row[1] for row in rows])


def in_a_closure(source):
    return lambda rows: Collator(source)(rows)


def of_collators(collate, workers=2):
    loader = DataLoader(Rows(), batch_size=4, num_workers=workers, collate_fn=collate)
    return found(randomness_checks.check_collators_draw_by_themselves, train_dataset=loader)


@pytest.mark.parametrize(
    ("collate", "expected"),
    [
        (Collator(np.random.default_rng(0)), ERROR),
        (Collator(random.Random(0)), ERROR),
        (in_a_closure(random.Random(0)), ERROR),
        (Collator(make=np.random.default_rng), ERROR),
        (Collator(make=np.random.default_rng, by_worker=True), []),
        (Collator(), []),
        (None, []),
    ],
)
def test_two_workers_are_given_the_same_rows_to_collate(collate, expected):
    assert of_collators(collate) == expected
    assert of_collators(collate, workers=0) == []


def test_a_masking_collator_with_the_librarys_own_seed_is_healthy(tokenizer):
    import transformers

    collate = transformers.DataCollatorForLanguageModeling(tokenizer, seed=3)
    rows = [dict(tokenizer("the solver computes two tensors")) for _ in range(16)]
    loader = DataLoader(rows, batch_size=4, num_workers=2, collate_fn=collate)
    check = randomness_checks.check_collators_draw_by_themselves
    assert found(check, train_dataset=loader) == []


def test_a_collator_is_as_it_was_after_an_examination():
    """A generator that was made in this process would be copied into all workers of the run."""
    from cookbook.doctor import examine

    late, held = Collator(make=np.random.default_rng, by_worker=True), random.Random(0)
    for collate in (late, in_a_closure(held)):
        loader = DataLoader(Rows(), batch_size=4, num_workers=2, collate_fn=collate)
        examine(torch.nn.Linear(4, 2), train_dataset=loader,
                loss_fn=torch.nn.functional.cross_entropy)  # fmt: skip
    assert late.source is None and held.random() == random.Random(0).random()


def test_a_trainers_own_loader_is_made_once():
    class Own:
        made = 0

        def get_train_dataloader(self):
            self.made += 1
            return DataLoader(Rows(), num_workers=2)

    trainer = Own()
    subject = Subject(None, train_dataset=Rows(), trainer=trainer)
    assert [randomness_checks._workers(subject) for _ in range(3)] == [2, 2, 2]
    assert trainer.made == 1
