"""Online: batches without labels (T3), a mask withheld (T10), the wrong mode (M7), ranks and order
(X1, X2, X3), resuming (K2), waiting for data (H1), memory (H2), prompts (T11), collapse of a
contrastive run (C1).

Reads a `records.Run`.
"""

from __future__ import annotations

from collections.abc import Iterator

from cookbook.doctor import contrastive, curves
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Curve, Finding
from cookbook.doctor.records import Record, Run

UNLABELLED = 0.01  # share of batches
QUIET = 3  # training passes in a row without dropout
WAITING, WAITED = 0.3, 50  # share of a step, steps
MOST = 0.5  # share of a step that an accelerator waits
READING, LONG = 0.4, 0.02  # share of a step, and seconds, from which reading is slow on a CPU, too
WINDOWS, GROWTH = 5, 0.05
LATEST, STEADY = 10, 0.05  # losses at chance in a collapsed run, and how far they may scatter
HELD, SPANNED = 16, 8  # past losses whose graph is still in memory, of so many steps at least


def batches_without_labels(run: Run) -> Iterator[Finding]:
    """T3: batches in which every label is ignored."""
    if not run.labelled:
        raise Skip("no labels were seen")
    none, of = len(run.unlabelled), run.labelled
    harmful = run.bad is not None and none > 0
    if harmful or none >= max(3, UNLABELLED * of) and none > 0.2 * of or none == of >= 3:
        yield Finding(
            "T3", "error",
            f"{none} of {of} batches had no label to learn from, the first was batch "
            f"{run.unlabelled[0]} (bound: 0)",
            measured={"batches": none, "of": of},
        )  # fmt: skip
    elif none >= max(3, UNLABELLED * of):
        yield Finding(
            "T3", "warn",
            f"{none} of {of} batches had no label to learn from (bound: {UNLABELLED:.0%})",
            measured={"batches": none, "of": of},
        )  # fmt: skip


def dropout_in_the_wrong_mode(run: Run) -> Iterator[Finding]:
    """M7: off while training, or on while evaluating."""
    if run.dropout_off >= QUIET and not run.facts.get("quiet_on_purpose"):
        since = " since an evaluation" if run.dropout_on and run.evaluations else ""
        yield Finding(
            "M7", "warn",
            f"the model was in evaluation mode, without dropout and without new batch statistics, "
            f"in the latest {run.dropout_off} training passes{since} (bound: {QUIET - 1}); "
            f"{run.dropout_on} passes before were in training mode",
            remedy="call model.train() before training, and again after each evaluation",
            measured={"off": run.dropout_off, "on": run.dropout_on},
        )  # fmt: skip
    noisy = [e for e in run.evaluations if e.forwards and e.in_training_mode == e.forwards]
    if noisy and (len(noisy) >= 2 or len(noisy) == len(run.evaluations)):
        yield Finding(
            "M7", "warn",
            f"dropout or batch statistics were on in all {noisy[-1].forwards} passes of the "
            f"evaluation at step {noisy[-1].step}, in {len(noisy)} of {len(run.evaluations)} "
            "evaluations (bound: 0)",
            remedy="call model.eval() before evaluating, and model.train() afterwards",
            measured={"noisy": len(noisy)},
        )  # fmt: skip


def mask_withheld(run: Run) -> Iterator[Finding]:
    """T10: the batch has an attention mask that the loop does not hand to the model."""
    padded, withheld = run.facts.get("padded", 0), run.facts.get("withheld", 0)
    if padded >= QUIET and withheld == padded:
        yield Finding(
            "T10", "error",
            f"{withheld} of {padded} padded batches came with an attention_mask that the model was "
            "not given (bound: 0)",
            remedy="call model(**batch), or pass attention_mask=batch['attention_mask']",
            measured={"withheld": withheld, "padded": padded},
        )  # fmt: skip


def ranks_see_the_same(run: Run) -> Iterator[Finding]:
    """X1: batches of data-parallel ranks agree. X2: their weights do not."""
    ranks = run.facts.get("ranks")
    if not ranks:
        raise Skip("does not apply")
    same = [hashes for hashes in ranks["batches"] if len(set(hashes)) < len(hashes)]
    if len(ranks["batches"]) >= 2 and len(same) == len(ranks["batches"]):
        yield Finding(
            "X1", "error",
            f"at {len(same)} of {len(same)} steps two of {len(same[0])} ranks had the same batch "
            f"(bound: 0)",
        )  # fmt: skip
    drift = [(step, off) for step, off in ranks["drift"] if off > 0]
    if drift:
        yield Finding(
            "X2", "error",
            f"the weights of two ranks differ by {drift[-1][1]:.2g} of their size at step "
            f"{drift[-1][0]}, since step {drift[0][0]} (bound: 0)",
            measured={"drift": drift[-1][1]},
        )  # fmt: skip


def same_order_each_epoch(run: Run) -> Iterator[Finding]:
    """X3: the first batches of two epochs agree though the sampler shuffles."""
    if not run.facts.get("shuffles"):
        raise Skip("does not apply")
    epochs = sorted(run.epochs)
    if len(epochs) < 2:
        raise Skip("fewer than two epochs")
    most = max(map(run.batches.count, set(run.batches)), default=0)
    if most > 0.9 * len(run.batches) > 1:  # the last of an epoch is shorter
        raise Skip("all batches are alike")
    if by_length(run.widths, max(run.forwards, run.steps) / len(epochs)):
        return  # a curriculum is drawn up once, and on purpose
    pairs = list(zip(epochs, epochs[1:], strict=False))
    same = [(a, b) for a, b in pairs if _agree(run.epochs[a], run.epochs[b])]
    if len(same) == len(pairs):
        yield Finding(
            "X3", "error",
            f"the first batch of epoch {same[-1][1] + 1} is that of epoch {same[-1][0] + 1}, "
            f"though the sampler shuffles ({len(same)} of {len(pairs)} pairs of epochs, bound: 0)",
        )  # fmt: skip


def _agree(one: str, other: str) -> bool:
    """Whether two epochs begin with the same batches; the latest may have only begun."""
    return one.startswith(other) or other.startswith(one)


def by_length(widths: list[int], period: float = 0) -> bool:
    """Whether batches go from short rows to long ones, or back, until they begin anew.

    With `period` batches in an epoch they begin anew once in each; buckets begin more often.

    >>> by_length([4, 4, 6, 9, 4, 4, 6, 9]), by_length([4, 9, 6, 9, 4]), by_length([7, 7, 7, 7])
    (True, False, False)
    >>> by_length([4, 5, 6, 9] * 6, period=12), by_length([1, 2, 3, 4, 5, 6] * 3, period=6)
    (False, True)
    """
    steps = [b - a for a, b in zip(widths, widths[1:], strict=False) if a != b]
    up, down = [s for s in steps if s > 0], [s for s in steps if s < 0]
    allowed = len(steps) // 3
    if period:
        allowed = min(allowed, len(widths) / period + len(steps) // 8)
    return bool(steps) and min(len(up), len(down)) <= allowed and len(steps) > 2


def resumed_in_part(run: Run) -> Iterator[Finding]:
    """K2: what should have come back from the checkpoint and did not."""
    missing = run.facts.get("not_resumed", [])
    if missing:
        yield Finding(
            "K2", "error",
            f"the run goes on at step {run.resumed} and {'; '.join(missing)} (bound: all restored)",
            measured={"missing": len(missing)},
        )  # fmt: skip


def waiting_for_data(run: Run) -> Iterator[Finding]:
    """H1: the share of a step between the last one's end and the next forward pass."""
    timed = [r for r in run.records[5:] if r.wait is not None and r.seconds]
    if len(timed) < WAITED:
        raise Skip(f"fewer than {WAITED} timed steps")
    share = curves.median([r.wait / r.seconds for r in timed])
    if share > WAITING:
        waits = run.accelerator and share > MOST
        yield Finding(
            "H1", "warn" if waits or _reads_slowly(run, timed) else "info",
            f"{share:.0%} of a step pass before its batch is there (bound: {WAITING:.0%})",
            measured={"share": share},
        )  # fmt: skip


def _reads_slowly(run: Run, timed: list[Record]) -> bool:
    """Whether much of nearly every step goes into reading rows, in the training process itself.

    With workers on a CPU the batch is made while the model runs on the same cores, and a loop may
    do other work between its steps; tiny models wait longer than they compute, but not for long.
    """
    taken = run.facts.get("reading", {})
    read = [(taken.get(r.step - run.resumed - 1, 0.0), r.seconds) for r in timed]
    shares, seconds = [taken / of for taken, of in read], [taken for taken, _ in read]
    return curves.median(shares) > READING and curves.median(seconds) > LONG


def prompts_padded_behind(run: Run) -> Iterator[Finding]:
    """T11: `generate` was given prompts with padding behind them, and goes on after it."""
    if "prompts" not in run.facts:
        raise Skip("does not apply")
    behind, of = run.facts["prompts"]
    if behind:
        yield Finding(
            "T11", "error",
            f"{behind} of {of} prompts that generate() was given have padding behind them, where "
            "generation goes on (bound: none)",
            measured={"rows_padded_behind": behind, "rows": of},
        )  # fmt: skip


def memory_grows(run: Run) -> Iterator[Finding]:
    """H2: graphs of past losses are kept, or the accelerator's memory rises without end."""
    alive, of = run.graphs
    spanned = 2 * of * run.steps / max(1, run.forwards)  # every second pass is looked at
    if of >= HELD and alive >= 0.95 * of and spanned >= SPANNED:
        yield Finding(
            "H2", "warn",
            f"the graphs of {alive} of the latest {of} losses are still in memory (bound: "
            f"{0.95:.0%}): somebody keeps the tensors",
            measured={"alive": alive, "of": of},
        )  # fmt: skip
    memory = run.line("memory")[3:]
    if len(memory) >= 4 * WINDOWS:
        size = len(memory) // WINDOWS
        lows = [min(v for _, v in memory[i * size : (i + 1) * size]) for i in range(WINDOWS)]
        grown = lows[-1] / max(lows[0], 1) - 1
        if all(b > a for a, b in zip(lows, lows[1:], strict=False)) and grown > GROWTH:
            yield Finding(
                "H2", "warn",
                f"memory after a step rose in each of {WINDOWS} windows, by {grown:.0%} in all "
                f"(bound: {GROWTH:.0%})",
                curve=Curve({"bytes": memory}, y_label="bytes"),
            )  # fmt: skip


def contrastive_collapse(run: Run) -> Iterator[Finding]:
    """C1: judged by `contrastive` on the run's latest embeddings and losses."""
    sides, began = run.facts.get("sides", []), run.values("loss")
    if began and run.steps >= contrastive.STARTED:
        late = curves.median(began[-LATEST:])
        found = contrastive.pulled_together(
            sides, late, curves.median(began[:3]), run.facts.get("cosine_first")
        )  # fmt: skip
        if found is not None:
            yield found
            return
    held, losses = run.facts.get("embeddings"), began[-LATEST:]
    if held is None or run.uphill or len(losses) < LATEST:
        raise Skip("does not apply")
    if max(losses) - min(losses) > STEADY * curves.median(losses):
        raise Skip("does not apply")  # that of a collapsed run stands still at chance
    rows = run.facts["rows"]
    for candidates in (rows, 2 * rows - 1, rows // 2):  # one view, both views, both in one pass
        found = contrastive.collapse(held, curves.median(losses), candidates, steps=run.steps)
        if found is not None:
            yield found
            return


def saved_and_model_differ(run: Run) -> Iterator[Finding]:
    """K1: judged by `checkpoint` when the run first saved."""
    if "saved" not in run.facts:
        raise Skip("does not apply")
    if run.facts["saved"] is not None:
        yield run.facts["saved"]


CHECKS = (batches_without_labels, dropout_in_the_wrong_mode, mask_withheld, ranks_see_the_same,
          same_order_each_epoch, resumed_in_part, waiting_for_data, prompts_padded_behind,
          memory_grows, contrastive_collapse, saved_and_model_differ)  # fmt: skip
