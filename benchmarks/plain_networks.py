"""Tasks for plain PyTorch: networks, rows, losses and rates, and the loop that trains them.

Digits of scikit-learn (as classes, as one score, as many labels, as pictures to be segmented or
drawn anew), its diabetes patients, letters of this package's own source, sentences with tags, a
wave to be continued, a table of products to be factored. It holds no fault: `doctor_plain` does.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

Rows = list[tuple[torch.Tensor, torch.Tensor]]
SOURCES = ("monitor", "batches", "responses")  # modules whose letters are read
LENGTH, WORDS, TAGS = 40, 50, 3


class Picture(nn.Module):
    """A convolution with batch statistics and dropout, for pictures of 8 × 8."""

    def __init__(self) -> None:
        super().__init__()
        self.look, self.norm = nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.drop, self.out = nn.Dropout(0.1), nn.Linear(16 * 16, 10)

    def seen(self, x: torch.Tensor) -> torch.Tensor:
        """The features before dropout."""
        found = torch.relu(self.norm(self.look(x.view(-1, 1, 8, 8))))
        return functional.max_pool2d(found, 2).flatten(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.drop(self.seen(x)))


class Lines(nn.Module):
    """A GRU that reads a picture line by line."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.out = nn.GRU(8, 32, batch_first=True), nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.read(x.view(-1, 8, 8))[0][:, -1])


class Attending(nn.Module):
    """torch's own transformer over the lines of a picture."""

    def __init__(self, batch_first: bool = True) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, 4, 64, 0.1, batch_first=batch_first)
        self.into, self.places = nn.Linear(8, 32), nn.Parameter(torch.randn(8, 32) * 0.1)
        self.body = nn.TransformerEncoder(layer, 2)
        self.out = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.body(self.into(x.view(-1, 8, 8)) + self.places).mean(1))


class Recurrent(nn.Module):
    """An LSTM over numbered tokens; scores are (rows, classes, length), as cross-entropy wants."""

    def __init__(self, tokens: int, classes: int, both: bool = False) -> None:
        super().__init__()
        self.table = nn.Embedding(tokens, 32, padding_idx=0 if both else None)
        self.read = nn.LSTM(32, 64, batch_first=True, bidirectional=both)
        self.out = nn.Linear(128 if both else 64, classes)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.out(self.read(self.table(ids))[0]).transpose(1, 2)


class Wave(nn.Module):
    """An LSTM that says the next value."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.out = nn.LSTM(1, 32, batch_first=True), nn.Linear(32, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.read(x)[0][:, -1])


class Factors(nn.Module):
    """Products of two tables' rows."""

    def __init__(self, sparse: bool = False) -> None:
        super().__init__()
        self.one, self.other = (nn.Embedding(n, 8, sparse=sparse) for n in (60, 80))
        for table in (self.one, self.other):
            nn.init.normal_(table.weight, 0, 0.3)

    def forward(self, places: torch.Tensor) -> torch.Tensor:
        return (self.one(places[:, 0]) * self.other(places[:, 1])).sum(1, keepdim=True)


def dense(inside: int, *sizes: int, end: nn.Module | None = None) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for before, after in zip((inside, *sizes), sizes, strict=False):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1], *([end] if end else []))


@dataclass
class Script:
    """A task and its loop; every field is a line that a fault or an oddity may replace."""

    model: Callable[[], nn.Module]
    train: Rows
    held_out: Rows
    loss: Callable
    rate: float
    optimizer: Callable[[nn.Module], Any] | None = None
    schedule: Callable[[Any], Any] | None = None
    by_epoch: bool = False  # when the schedule is stepped
    step: Callable[..., torch.Tensor] | None = None  # (model, optimizer, x, y, loss, count)
    epochs: int = 4
    batch: int = 32
    shuffle: bool = True
    modes: bool = True  # train() and eval() are called
    evaluated: bool = True
    accumulation: int = 1
    note: dict[str, Any] = field(default_factory=dict)


def run(script: Script, seed: int) -> list[Any]:
    """The reports of `examine` and of `Watch`."""
    from cookbook.doctor import Watch, examine

    torch.manual_seed(seed)
    model = script.model()
    make = script.optimizer or (lambda m: torch.optim.AdamW(m.parameters(), script.rate))
    optimizer = make(model)
    schedule = script.schedule(optimizer) if script.schedule else None
    loader = DataLoader(script.train, batch_size=script.batch, shuffle=script.shuffle)
    held_out = DataLoader(script.held_out, batch_size=128)
    reports = [examine(model, train_dataset=loader, eval_dataset=held_out, optimizer=optimizer,
                       lr_scheduler=schedule, loss_fn=script.loss)]  # fmt: skip
    watch = Watch(model, optimizer, schedule)
    try:
        with watch:
            _loop(script, model, optimizer, schedule, loader, held_out, watch)
    except (IndexError, ValueError, RuntimeError):
        pass  # a fault may end in a crash; what was said before it counts
    return [*reports, watch.report]


def _loop(script: Script, model: nn.Module, optimizer: Any, schedule: Any, loader: DataLoader,
          held_out: DataLoader, watch: Any) -> None:  # fmt: skip
    count = 0
    model.train()
    for _ in range(script.epochs):
        if script.modes:
            model.train()
        for x, y in loader:
            count += 1
            step = script.step or _usual(script)
            loss = step(model, optimizer, x, y, script.loss, count)
            if schedule is not None and not script.by_epoch:
                schedule.step()
            watch.step(loss, batch=(x, y))
        value = _evaluate(script, model, held_out, watch) if script.evaluated else None
        if schedule is not None and script.by_epoch:
            waits = isinstance(schedule, torch.optim.lr_scheduler.ReduceLROnPlateau)
            schedule.step(value) if waits else schedule.step()


def _usual(script: Script) -> Callable[..., torch.Tensor]:
    def step(model: nn.Module, optimizer: Any, x: Any, y: Any, loss: Any, n: int) -> torch.Tensor:
        value = loss(model(x), y)
        (value / script.accumulation).backward()
        if n % script.accumulation == 0:
            optimizer.step()
            optimizer.zero_grad()
        return value

    return step


@torch.no_grad()
def _evaluate(script: Script, model: nn.Module, held_out: DataLoader, watch: Any) -> float:
    if script.modes:
        model.eval()
    parts = [(model(x), y) for x, y in held_out]
    scores, labels = (torch.cat(side) for side in zip(*parts, strict=True))
    told = {"loss": script.loss(scores, labels).item()}
    classes = scores.dim() == 2 and scores.shape[1] == 10
    more = {"predictions": scores, "labels": labels} if classes else {}
    watch.evaluate(told, **more)
    return told["loss"]


def tasks() -> dict[str, Script]:
    """Name → the healthy script; each call gives fresh ones."""
    x, y = _digits()
    cross, squared, binary = nn.CrossEntropyLoss(), nn.MSELoss(), nn.BCEWithLogitsLoss()
    kinds = torch.stack([y % 2, y > 4, y % 3 == 0], 1).float()
    pictures = x.view(-1, 1, 8, 8)
    noisy = pictures + 0.05 * torch.randn(pictures.shape, generator=_draw())
    letters, alphabet = _letters()
    made = {
        "dense": (lambda: dense(64, 64, 10), _pairs(x, y), cross, 1e-3),
        "picture": (Picture, _pairs(x, y), cross, 2e-3),
        "lines": (Lines, _pairs(x, y), cross, 5e-3),
        "attending": (Attending, _pairs(x, y), cross, 2e-3),
        "numbers": (lambda: dense(10, 32, 1), _patients(), squared, 1e-2),
        "drawn": (lambda: dense(64, 12, 64), _pairs(x, x), squared, 3e-3),
        "one_score": (lambda: dense(64, 32, 1), _pairs(x, kinds[:, :1]), binary, 3e-3),
        "many": (lambda: dense(64, 32, 3), _pairs(x, kinds), binary, 3e-3),
        "segments": (lambda: nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 2, 3, padding=1),
        ), _pairs(noisy, (pictures[:, 0] > 0.5).long()), cross, 3e-3),
        "letters": (lambda: Recurrent(alphabet, alphabet), letters, cross, 5e-3),
        "tags": (lambda: Recurrent(WORDS, TAGS, both=True), _sentences(), cross, 5e-3),
        "wave": (Wave, _waves(), squared, 5e-3),
        "factors": (Factors, _products(), squared, 2e-2),
    }  # fmt: skip
    found = {}
    for name, (model, rows, loss, rate) in made.items():
        cut = len(rows) * 3 // 4
        found[name] = Script(model, rows[:cut], rows[cut:], copy.deepcopy(loss), rate)
    return found


def _draw() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _pairs(x: torch.Tensor, y: torch.Tensor) -> Rows:
    return list(zip(x, y, strict=True))


def _digits() -> tuple[torch.Tensor, torch.Tensor]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)


def _patients() -> Rows:
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    y = (torch.tensor(y, dtype=torch.float32) - 150) / 77
    return _pairs(torch.tensor(x * 20, dtype=torch.float32), y[:, None])


def _letters() -> tuple[Rows, int]:
    """Windows of source code and the letters that come next; the held-out ones from its end."""
    from cookbook import doctor

    folder = Path(doctor.__file__).parent
    text = "".join((folder / f"{name}.py").read_text() for name in SOURCES)
    alphabet = sorted(set(text))
    ids = torch.tensor([alphabet.index(letter) for letter in text])
    border, draw = len(ids) * 3 // 4, _draw()
    starts = [
        *torch.randint(0, border - LENGTH - 1, (750,), generator=draw).tolist(),
        *torch.randint(border, len(ids) - LENGTH - 1, (250,), generator=draw).tolist(),
    ]
    return [(ids[i : i + LENGTH], ids[i + 1 : i + LENGTH + 1]) for i in starts], len(alphabet)


def _sentences() -> Rows:
    """Words whose tag is their own and their neighbour's; padding is 0 and has no tag."""
    draw, rows = random.Random(0), []
    for _ in range(1600):
        words = [draw.randint(1, WORDS - 1) for _ in range(draw.randint(5, 12))]
        pairs = zip(words, [0, *words], strict=False)
        tags = [(word * 7 + before) % TAGS for word, before in pairs]
        gap = 12 - len(words)
        rows.append((torch.tensor(words + [0] * gap), torch.tensor(tags + [-100] * gap)))
    return rows


def _waves() -> Rows:
    time = torch.arange(4000) / 20.0
    wave = torch.sin(time) + 0.5 * torch.sin(2.7 * time)
    wave = wave + 0.05 * torch.randn(4000, generator=_draw())
    return [(wave[i : i + 30, None], wave[i + 30 : i + 31]) for i in range(0, 3900, 3)]


def _products() -> Rows:
    draw = _draw()
    one, other = torch.randn(60, 4, generator=draw), torch.randn(80, 4, generator=draw)
    places = torch.stack([torch.randint(0, n, (4000,), generator=draw) for n in (60, 80)], 1)
    values = (one[places[:, 0]] * other[places[:, 1]]).sum(1, keepdim=True) / 2
    return _pairs(places, values + 0.1 * torch.randn(values.shape, generator=draw))
