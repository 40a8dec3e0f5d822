"""Where am I: profile, device, fastest precision, seed, output folder, Colab.

It sets a run up and keeps what the run measured; it does not train, load data or draw. Every
chapter starts with `session.start(...)`, and shows tested source with `session.show(function)`.
"""

from __future__ import annotations

import inspect
import io
import json
import math
import os
import random
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROFILES = ("smoke", "laptop", "gpu")


class OutputError(OSError):
    """The output folder cannot be used; the message is one line: what was found, what to do."""


@dataclass
class Session:
    """One run of one chapter: where it computes, how carefully, and what it measured."""

    chapter: str
    profile: str
    device: str
    precision: str
    seed: int
    output_dir: Path
    default: bool
    colab: bool = False
    results: dict[str, float] = field(default_factory=dict)

    def pick(self, smoke: Any, laptop: Any, gpu: Any = None) -> Any:
        """The value for this profile; `gpu` is the `laptop` value unless it is given."""
        return {"smoke": smoke, "laptop": laptop, "gpu": laptop if gpu is None else gpu}[
            self.profile
        ]

    def record(self, **numbers: float) -> None:
        """Add measured numbers to `results.json`, written whole at every call."""
        for name, number in numbers.items():
            if not math.isfinite(number):
                raise ValueError(f"{name} is {number}: only finite numbers are recorded")
        self.results |= {name: float(number) for name, number in numbers.items()}
        write_whole(self.output_dir / "results.json", json.dumps(self.results, indent=1))

    def save(self, drawn: Any, name: str) -> Any:
        """Write a matplotlib `Axes` or `Figure` as `<name>.png` into the output folder."""
        picture = io.BytesIO()
        figure = getattr(drawn, "figure", drawn)
        figure.savefig(picture, format="png", dpi=150, bbox_inches="tight")
        write_whole(self.output_dir / f"{name}.png", picture.getvalue())
        _show_now(figure)
        return drawn

    def expect(self, name: str, condition: bool) -> str:
        """Check a statistical claim, "this beats that", where it was promised to hold.

        Under `laptop` and `gpu`, with the chapter's own dataset and model, a claim that does not
        hold raises AssertionError. On other data it is reported, under `smoke` not tested.
        """
        key = "claim." + re.sub(r"\W+", "_", name)
        tested = self.profile != "smoke"
        verdict = ("held" if condition else "did not hold") if tested else "not tested (smoke)"
        self.record(**{f"{key}.tested": tested})
        if tested:
            self.record(**{f"{key}.held": bool(condition)})
        if tested and self.default and not condition:
            raise AssertionError(f"claim did not hold: {name}")
        print(f"claim: {name}: {verdict}")
        return verdict


def start(
    chapter: str,
    *,
    profile: str = "laptop",
    dataset: str = "",
    model: str = "",
    seed: int = 0,
    output_dir: str = "",
    defaults: Mapping[str, str] | None = None,
) -> Session:
    """Set a chapter up: profile, device, precision, seeds, output folder.

    `defaults` names the dataset and model for which the chapter's claims were promised.
    `COOKBOOK_PROFILE` in the environment overrides `profile`. An empty `output_dir` means
    `build/<chapter>`. Raises ValueError for an unknown profile, OutputError for a folder that
    cannot be written.

    >>> import tempfile
    >>> run = start("doctest", profile="smoke", output_dir=tempfile.mkdtemp())
    smoke profile on cpu, fp32, seed 0
    >>> run.pick(smoke=2, laptop=300)
    2
    """
    import torch

    profile = os.environ.get("COOKBOOK_PROFILE") or profile
    if profile not in PROFILES:
        raise ValueError(f"unknown profile {profile!r}: choose one of {', '.join(PROFILES)}")
    folder = _writable(Path(output_dir or Path("build") / chapter).expanduser())
    random.seed(seed)
    torch.manual_seed(seed)
    _seed_numpy(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # The probe is timed, so smoke, which must give the same answer everywhere, goes without it.
    precision = "fp32" if profile == "smoke" else fastest_precision(device)
    given = {"dataset": dataset, "model": model}
    default = all(given[name] == value for name, value in (defaults or {}).items())
    print(f"{profile} profile on {device}, {precision}, seed {seed}")
    return Session(
        chapter, profile, device, precision, seed, folder, default, "google.colab" in sys.modules
    )


def fastest_precision(device: str = "cpu", *, seconds: float = 0.05) -> str:
    """`"fp32"`, `"bf16"` or `"fp16"`: whichever a probe of about `seconds` shows to be fastest.

    The probe runs a small feed-forward block forward and backward; bf16 must win by a tenth. On
    one CPU bf16 is four times faster than fp32, on the next four times slower: measured, not
    assumed.

    >>> fastest_precision("cpu") in ("fp32", "bf16")
    True
    """
    import torch

    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    torch_state = torch.get_rng_state()
    block = torch.nn.Sequential(
        torch.nn.Linear(256, 1024), torch.nn.GELU(), torch.nn.Linear(1024, 256)
    )
    x = torch.randn(512, 256)
    torch.set_rng_state(torch_state)
    best = {"fp32": math.inf, "bf16": math.inf}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or math.isinf(best["bf16"]):
        for name in best:  # interleaved, so that a busy machine slows both
            best[name] = min(best[name], _time_once(block, x, name == "bf16"))
    return "bf16" if best["bf16"] < 0.9 * best["fp32"] else "fp32"


@dataclass(frozen=True)
class Source:
    """Python source that a notebook displays highlighted, in its own colours on any theme."""

    data: str

    def __repr__(self) -> str:
        return self.data

    def _repr_html_(self) -> str:
        from pygments import formatters, highlight, lexers

        # IPython's own `Code` brings a whole stylesheet and LaTeX, and lab shows it proportional.
        pre = "font-family: monospace; line-height: 125%; color: #212121"
        form = formatters.HtmlFormatter(cssclass="source", prestyles=pre)
        body = highlight(self.data, lexers.PythonLexer(), form)
        rules = dict(
            re.findall(r"^\.source \.(\w+) (\{.*?\})", form.get_style_defs(".source"), re.M)
        )
        used = sorted(rules.keys() & set(re.findall(r'<span class="(\w+)">', body)))
        body = re.sub(r'<span class="(\w+)">([^<]*)</span>',
                      lambda span: span[0] if span[1] in rules else span[2], body)  # fmt: skip
        css = ".source { background: #f8f8f8 }" + "".join(f".source .{c} {rules[c]}" for c in used)
        return f"<style>{css}</style>{body}"


def show(function: Callable | type) -> Source:
    """Display the source of a tested function or class, highlighted, inside a notebook."""
    return Source(inspect.getsource(inspect.unwrap(function)))


def exercise(
    number: int, answer: float | None, *, expected: float, tolerance: float = 0.01
) -> None:
    """Say whether a reader's numeric answer is right, within `tolerance` of its size.

    >>> exercise(1, None, expected=2.0)
    exercise 1: open
    >>> exercise(1, 2.001, expected=2.0)
    exercise 1: right
    """
    close = answer is not None and math.isclose(answer, expected, rel_tol=tolerance)
    print(f"exercise {number}: {'open' if answer is None else 'right' if close else 'not yet'}")


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, never a half.

    Text goes out as UTF-8. Raises OutputError, with what was there before left in place.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"cannot write {path.name}: {error.strerror or error}") from error


def _show_now(figure: Any) -> None:
    """Display a figure in a notebook here, once: the end of the cell would not always do it."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None and hasattr(shell, "kernel"):
        from IPython.display import display
        from matplotlib import pyplot

        display(figure)
        pyplot.close(figure)


def _writable(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe.{os.getpid()}"
        probe.touch()
        probe.unlink()
    except (FileExistsError, NotADirectoryError):
        raise OutputError(
            f"output_dir {str(folder)!r} is, or lies below, a file: name a folder"
        ) from None
    except OSError as error:
        raise OutputError(
            f"output_dir {str(folder)!r} cannot be written ({error.strerror}): name another"
        ) from None
    return folder


def _seed_numpy(seed: int) -> None:
    import numpy

    numpy.random.seed(seed % 2**32)


def _time_once(block: Any, x: Any, half: bool) -> float:
    import torch

    began = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        loss = block(x).square().mean()
    loss.backward()
    return time.perf_counter() - began
