"""`cookbook search`: find a function of the reader's own environment by what it does.

Does: train an encoder on the docstrings that are installed (first line against body), index every
public function and class, keep both in the user's cache folder under the versions of the packages,
and rank by words and meaning together. Does not: read code, look outside the packages of
`data.embedded`, go online. Chapter 05 and the command line use it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cookbook.evaluation import lexical, retrieval
from cookbook.training import contrastive

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

RECIPE = 1  # raise it when training or index change: it keys the cache
SECONDS = 150.0  # of training, at the first call
PAIRS, BATCH, LENGTHS = 24_000, 64, (24, 64)  # pairs to draw from, pairs a step, tokens
INDEXED = 32  # tokens of a function that its vector is made of
# How a question begins says nothing about what is asked for.
_ASKING = re.compile(
    r"^\W*(?:(?:how|what|which|where|is|can|could|do|does|to|i|you|we|want|need|a|the|way|there|"
    r"function|method|class|would|should|please|find|that|for)\b\W*)+",
    re.IGNORECASE,
)


class Hit(NamedTuple):
    """What was found: a score from 0 to 1, `library.function(signature)`, the first line."""

    score: float
    function: str
    summary: str


@dataclass
class Index:
    """Functions, their vectors (functions, d), and the encoder that makes a query comparable."""

    rows: Sequence[dict[str, str]]
    vectors: np.ndarray
    model: contrastive.PairEncoder
    tokenizer: Any

    @cached_property
    def words(self) -> Any:
        """The same functions, for BM25."""
        return lexical.bm25_index([row["document"] for row in self.rows])

    def libraries(self) -> list[str]:
        """The libraries that have a function here, by name."""
        return sorted({row["library"] for row in self.rows})

    def find(self, query: str, *, top: int = 10, library: str = "") -> list[Hit]:
        """The `top` best functions for `query`, best first; of one `library` if it is named.

        The score is the mean of BM25 and cosine, each scaled to 0 … 1 over what is searched.
        Raises ValueError for a query without a letter or digit, and for a library that has nothing
        here.
        """
        asked = question(query)
        places = np.array([i for i, r in enumerate(self.rows) if library in ("", r["library"])])
        if not len(places):
            raise ValueError(f"no library {library!r}: there are {', '.join(self.libraries())}")
        vector = contrastive.encode(self.model, [asked], self.tokenizer, length=LENGTHS[0])[0]
        by_meaning = self.vectors[places].astype(np.float32) @ vector
        by_words = lexical.bm25_scores(self.words, asked)[places]
        scores = retrieval.blend(by_words, by_meaning)
        best = np.argsort(-scores, kind="stable")[:top]
        found = [(float(scores[i]), self.rows[places[i]]) for i in best]
        return [Hit(score, row["function"], row["summary"]) for score, row in found]


def question(query: str) -> str:
    """What is asked for, without the way of asking.

    >>> question("How do I reverse an array?")
    'reverse an array?'
    >>> question("how to")
    'how to'
    """
    if not re.search(r"\w", query):
        raise ValueError("the query is empty: say what the function does, as in 'reverse an array'")
    return _ASKING.sub("", query) or query


def functions(corpus: DatasetDict) -> list[dict[str, str]]:
    """Public functions and classes of `docstrings`: library, function, summary and document.

    One of several that share their whole text (inherited methods) stands for all.
    """
    found: dict[tuple[str, str], dict[str, str]] = {}
    for part in corpus.values():
        for row in part.to_list():
            private = any(name.startswith("_") for name in row["name"].split("."))
            if row["signature"] and not private:
                first, rest = _first_line(row["text"], row["name"])
                # Of the standard library the module is part of what one types.
                place = row["module"] if row["library"] == "python" else row["library"]
                found.setdefault((row["library"], row["text"]), {
                    "library": row["library"], "summary": first,
                    "function": f"{place}.{row['name']}{row['signature']}",
                    "document": f"{row['name']} {first}\n{rest[:300]}",
                })  # fmt: skip
    return list(found.values())


def _first_line(text: str, name: str) -> tuple[str, str]:
    """First line and rest; the bare signature that C functions begin with is left out."""
    first, _, rest = text.strip().partition("\n")
    if first.startswith(f"{name.rpartition('.')[2]}(") and rest.strip():
        first, _, rest = rest.strip().partition("\n")
    return first.strip(), rest


def training_pairs(pairs: Dataset) -> Dataset:
    """`docstring-pairs` as questions and answers: the first line against name and body.

    The first line alone looks like a question; a query has no signature.
    """
    from datasets import Dataset

    names = [f"{name} {body}" for name, body in zip(pairs["name"], pairs["text_pair"], strict=True)]
    return Dataset.from_dict({"text": list(pairs["summary"]), "text_pair": names})


def ready(*, seconds: float = SECONDS) -> Index:
    """The index of this environment, from the cache or made now, which trains for `seconds`."""
    from filelock import FileLock

    from cookbook.data import embedded

    folder = cache_folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not (folder / "rows.json").is_file():
        corpus, pairs = embedded.build("docstrings"), embedded.build("docstring-pairs")["train"]
        with FileLock(f"{folder}.lock"):
            if not (folder / "rows.json").is_file():
                pairs = training_pairs(pairs.shuffle(seed=0).select(range(min(PAIRS, len(pairs)))))
                make(folder, pairs, functions(corpus), seconds=seconds)
    return load(folder)


def cache_folder() -> Path:
    """Where the index of these package versions and this `docbert` is kept."""
    from cookbook import shipped
    from cookbook.data import embedded

    weights = (shipped.folder("docbert") / "model.safetensors").read_bytes()
    key = hashlib.sha256(weights).hexdigest()[:8]
    return embedded.cache_folder() / f"search-{RECIPE}-{key}"


def make(
    folder: Path,
    pairs: Dataset,
    rows: Sequence[dict[str, str]],
    *,
    model: str = "docbert",
    seconds: float = SECONDS,
    steps: int = 1500,
    seed: int = 0,
) -> None:
    """Train on `pairs`, index `rows` and write the whole into `folder`, or nothing at all."""
    import torch
    from tqdm.auto import tqdm

    from cookbook.models.initialization import load_model, load_tokenizer
    from cookbook.session import fastest_precision
    from cookbook.training.order import Batches

    tokenizer, device = load_tokenizer(model), "cuda" if torch.cuda.is_available() else "cpu"
    encoder = contrastive.PairEncoder(load_model(model, "encoder", seed=seed)).to(device)
    precision = fastest_precision(device)
    batches = Batches(
        contrastive.pair_rows(pairs, tokenizer, LENGTHS), min(BATCH, len(pairs)), seed=seed,
        collate=contrastive.PairCollator(tokenizer, groups=True),
    )  # fmt: skip
    torch.manual_seed(seed)
    loss = contrastive.ContrastiveLoss(symmetric=True)
    began = time.monotonic()
    with tqdm(total=round(seconds), desc="learning what docstrings mean", unit="s") as bar:
        contrastive.train(
            encoder, batches, loss, steps=steps, seconds=seconds, precision=precision,
            on_step=lambda step, loss: bar.update(round(time.monotonic() - began) - bar.n),
        )  # fmt: skip
    with tqdm(total=len(rows), desc="reading every function", unit="function") as bar:
        vectors = contrastive.encode(
            encoder, [row["document"] for row in rows], tokenizer, length=INDEXED,
            precision=precision, on_rows=bar.update,
        )  # fmt: skip
    _write(folder, encoder, tokenizer, vectors, rows)


def _write(folder: Path, encoder: Any, tokenizer: Any, vectors: np.ndarray, rows: Any) -> None:
    from cookbook.models.initialization import save_half

    temporary = folder.with_name(f"{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    save_half(encoder.encoder, tokenizer, temporary)
    np.save(temporary / "vectors.npy", vectors.astype(np.float16))
    (temporary / "rows.json").write_text(json.dumps(list(rows)), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def load(folder: Path) -> Index:
    """The index that `make` wrote into `folder`."""
    from cookbook.models.initialization import load_model, load_tokenizer

    rows = json.loads((folder / "rows.json").read_text(encoding="utf-8"))
    encoder = contrastive.PairEncoder(load_model(str(folder), "encoder"))
    return Index(rows, np.load(folder / "vectors.npy"), encoder, load_tokenizer(str(folder)))
