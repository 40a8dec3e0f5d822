"""K3, O4, E2, P4: what the arguments of a run say that its data and schedule contradict.

It reads numbers and names: the metric by which the best checkpoint is kept, the steps that a given
schedule is made for, the rows that an evaluation loader leaves out, the precision that was asked
for. Only what is certain before the run; what a schedule then does is watched online.
"""

from __future__ import annotations

import copy
import itertools
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch.optim import lr_scheduler as schedules
from torch.utils.data import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    WeightedRandomSampler,
)

from cookbook.doctor import preserve
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding
from cookbook.doctor.subject import Subject

# Words of a metric's name that say which way is better.
LOWER = {"loss", "perplexity", "ppl", "wer", "cer", "ter", "error", "err", "mse", "rmse", "mae",
         "brier", "nll", "eer", "bpb", "bpc"}  # fmt: skip
HIGHER = {"accuracy", "acc", "f1", "precision", "recall", "mcc", "matthews", "auc", "auroc", "bleu",
          "rouge", "rouge1", "rouge2", "rougel", "meteor", "em", "exact", "match", "spearman",
          "spearmanr", "pearson", "pearsonr", "map", "ndcg", "mrr", "iou", "dice", "r2",
          "kappa"}  # fmt: skip
PROBED = 40  # places of a plan at which a schedule is asked for its rate


def direction(name: str) -> int:
    """1 where a metric of this name is better when higher, -1 when lower, 0 where nobody knows.

    >>> direction("eval_macro-f1"), direction("eval_loss"), direction("speed")
    (1, -1, 0)
    """
    words = set(re.split(r"[^a-z0-9]+", name.lower()))
    up, down = bool(words & HIGHER), bool(words & LOWER)
    return int(up) - int(down)


def check_best_checkpoint_is_the_best(subject: Subject) -> Iterable[Finding]:
    """K3: the name of the metric and `greater_is_better` contradict each other."""
    name = getattr(subject.args, "metric_for_best_model", None)
    greater = getattr(subject.args, "greater_is_better", None)
    if not isinstance(name, str) or not isinstance(greater, bool):
        raise Skip("does not apply")
    way = direction(name)
    if way and (way > 0) != greater:
        kept = "worst" if getattr(subject.args, "load_best_model_at_end", False) else "wrong"
        better = "higher" if way > 0 else "lower"
        told = (
            f"metric_for_best_model={name!r} is better when {better}, and greater_is_better="
            f"{greater} keeps the {kept} checkpoint"
        )
        yield Finding("K3", "error", told, f"set greater_is_better={not greater}")


def check_best_checkpoint_is_saved(subject: Subject) -> Iterable[Finding]:
    """K3: the best model shall be loaded, and evaluations fall between two saves."""
    args = subject.args
    if getattr(args, "load_best_model_at_end", False) is not True:
        raise Skip("does not apply")
    save, evaluate = (str(getattr(args, f"{w}_strategy", "")).lower() for w in ("save", "eval"))
    steps = getattr(args, "save_steps", None), getattr(args, "eval_steps", None)
    if not (save.endswith("steps") and evaluate.endswith("steps")) or not all(steps):
        return
    ratio = steps[0] / steps[1]
    if abs(ratio - round(ratio)) > 1e-6 or ratio < 1:
        told = f"save_steps={steps[0]:g} is no multiple of eval_steps={steps[1]:g}"
        remedy = "save at each evaluation: save_steps = eval_steps"
        yield Finding("K3", "error", f"{told}: the best evaluation has no checkpoint", remedy)


def planned_steps(subject: Subject) -> int:
    """Optimizer steps that the arguments plan on one device; 0 where nobody can know."""
    args = subject.args
    if not hasattr(args, "gradient_accumulation_steps") or getattr(args, "world_size", 1) > 1:
        return 0
    if getattr(args, "max_steps", -1) > 0:
        return args.max_steps
    rows, size = subject.train.total, getattr(args, "train_batch_size", None)
    size = size or getattr(args, "per_device_train_batch_size", None)
    epochs = getattr(args, "num_train_epochs", None)
    if not rows or not size or not epochs or getattr(args, "group_by_length", False):
        return 0
    batches = rows // size if getattr(args, "dataloader_drop_last", False) else -(-rows // size)
    window = max(1, args.gradient_accumulation_steps)
    return math.ceil(epochs * max(1, -(-batches // window)))


def check_schedule_fits_the_plan(subject: Subject) -> Iterable[Finding]:
    """O4: a given schedule ends before 90 % of the steps that the arguments plan."""
    plan, found = planned_steps(subject), preserve.several(subject.lr_scheduler)
    if not plan or not found:
        raise Skip("does not apply")
    for schedule in found:
        last = dies_at(schedule, plan)
        if last is not None and last < 0.9 * plan:
            told = (
                f"the schedule reaches its lowest rate at step {last} of {plan} planned "
                f"({last / plan:.0%}, bound: 90 %)"
            )
            remedy = "make the schedule for the number of optimizer steps, not of epochs or batches"
            yield Finding("O4", "warn", told, remedy, {"last": last, "plan": plan})


def dies_at(schedule: Any, plan: int) -> int | None:
    """The step from which on a schedule's rate stays near 0, within `plan`; None where it lives."""
    if isinstance(schedule, schedules.LambdaLR):
        ends = _declared_end(schedule.lr_lambdas[0])
        return ends if ends is not None else _silent_from(schedule.lr_lambdas, plan)
    if isinstance(schedule, schedules.OneCycleLR):
        return int(schedule.total_steps)
    if isinstance(schedule, schedules.PolynomialLR):
        return int(schedule.total_iters)
    if isinstance(schedule, schedules.LinearLR):
        return int(schedule.total_iters) if schedule.end_factor < 0.05 else None
    if isinstance(schedule, schedules.CosineAnnealingLR):
        base = max(schedule.base_lrs, default=0)
        return int(schedule.T_max) if schedule.eta_min < 0.2 * base else None
    if isinstance(schedule, schedules.SequentialLR):
        return _after(schedule, plan)
    return None


def _after(schedule: Any, plan: int) -> int | None:
    """Of schedules one after another, the end of the last."""
    began = schedule._milestones[-1]
    last = dies_at(schedule._schedulers[-1], plan)
    return None if last is None else began + last


def _declared_end(function: Any) -> int | None:
    """The end that transformers' `get_scheduler` wrote into a schedule that falls to 0 there."""
    last = (getattr(function, "keywords", None) or {}).get("num_training_steps")
    # Beyond its end a cosine rises again: no place after it would show that it was over.
    return last if last and abs(float(function(last))) < 1e-3 else None


def _silent_from(functions: Sequence[Any], plan: int) -> int | None:
    """The first of some places after which all factors stay below 0.1 % of their peak."""
    places = [round(plan * i / PROBED) for i in range(PROBED)]
    factors = [max(abs(float(function(place))) for function in functions) for place in places]
    alive = [i for i, factor in enumerate(factors) if factor > 1e-3 * max(factors)]
    if not alive or alive[-1] == PROBED - 1:
        return None
    return places[alive[-1] + 1]


def check_evaluation_reads_all_rows(subject: Subject) -> Iterable[Finding]:
    """E2: a loader that drops the last rows of the evaluation, or draws them with replacement."""
    sample = subject.eval
    if sample.dataset is None or not sample.total:
        raise Skip("does not apply")
    order = _order(subject)
    for look in (_drawn_anew, _named, _share_of_a_rank, _dropped):
        found = look(subject, order)
        if found:
            severity, told, remedy, measured = found
            yield Finding("E2", severity, told, remedy, measured)
            return


def _order(subject: Subject) -> Any:
    """The loader's sampler, or the rows that batches of one's own name in a copy of theirs."""
    loader = subject.eval.loader
    loader = own_loader(subject.trainer) if loader is None else loader
    if subject.eval.loader is None and subject.eval.dataset is not getattr(loader, "dataset", None):
        return None  # places in another set
    batches = getattr(loader, "batch_sampler", None)
    own = batches is not None and not isinstance(batches, BatchSampler) and not _distributed()
    if own and getattr(type(batches), "__module__", "").partition(".")[0] != "accelerate":
        try:
            read = copy.deepcopy(batches, {id(loader.dataset): loader.dataset})
            places = (int(place) for batch in read for place in batch)
            return list(itertools.islice(places, 2 * subject.eval.total))  # some never end
        except Exception:  # what cannot be copied would be used up
            return None
    return getattr(loader, "sampler", None)


IN_ORDER = "evaluate in order, without a sampler"
Told = tuple[str, str, str, dict[str, Any]]  # severity, evidence, remedy, what was measured


def _drawn_anew(subject: Subject, sampler: Any) -> Told | None:
    drawn, total = isinstance(sampler, RandomSampler) and sampler.replacement, subject.eval.total
    if isinstance(sampler, RandomSampler) and sampler.num_samples < total and not drawn:
        told = f"the evaluation loader draws {sampler.num_samples} of {total} rows anew at each "
        return "warn", f"{told}evaluation (bound: all)", IN_ORDER, {}
    if drawn or isinstance(sampler, WeightedRandomSampler):
        told = "the evaluation loader draws its rows with replacement (bound: each row once)"
        return "error", told, IN_ORDER, {}
    return None


def _named(subject: Subject, sampler: Any) -> Told | None:
    """Rows that a list names: some twice, or only some."""
    places, total = getattr(sampler, "indices", sampler), subject.eval.total
    if not isinstance(places, list | tuple | range):
        return None
    twice = len(places) - len(set(places))
    if twice:
        told = f"the evaluation loader reads {twice} of {total} rows twice (bound: 0)"
        return "error", told, "name each row once", {"twice": twice}
    if len(places) < total and _another_set(subject):  # of one set, the rest is trained on
        told = f"the evaluation loader's sampler names {len(places)} of {total} rows (bound: all), "
        return "warn", f"{told}and what training reads is another set", IN_ORDER, {}
    return None


def _share_of_a_rank(subject: Subject, sampler: Any) -> Told | None:
    shares = getattr(sampler, "num_replicas", 1) if not _distributed() else 1
    if not isinstance(sampler, DistributedSampler) or shares <= 1:
        return None
    told = f"the evaluation loader reads the share of one of {shares} ranks, and there is but this "
    told += f"process: {len(sampler)} of {subject.eval.total} rows (bound: all)"
    return "error", told, IN_ORDER, {}


def _dropped(subject: Subject, _: Any) -> Told | None:
    sample = subject.eval
    loader = sample.loader if sample.loader is not None else own_loader(subject.trainer)
    size = getattr(loader, "batch_size", None) or _batch(subject)
    lost = sample.total % size if _drops(subject, loader) else 0
    if not lost:
        return None
    where = "the loader" if loader is not None else "dataloader_drop_last=True"
    told = f"{where} drops {lost} of {sample.total} evaluation rows (bound: 0)"
    severity = "error" if lost == sample.total else "warn"
    return severity, told, "set drop_last=False for evaluation", {"lost": lost}


def _another_set(subject: Subject) -> bool:
    """Whether training is known to read other rows than those of the evaluation's data set."""
    train = subject.train.dataset
    return train is not None and train is not subject.eval.dataset


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def own_loader(trainer: Any) -> Any:
    """The evaluation loader of a `Trainer` whose class makes its own; None of any other."""
    method = getattr(type(trainer), "get_eval_dataloader", None)
    library = ("transformers.", "trl.", "cookbook.")
    if method is None or method.__module__.startswith(library):
        return None
    return trainer.get_eval_dataloader()


def _drops(subject: Subject, loader: Any) -> bool:
    """Whether the last batch is dropped: `Trainer` has one setting for both of its loaders."""
    if loader is not None:
        return bool(getattr(loader, "drop_last", False))
    return bool(getattr(subject.args, "dataloader_drop_last", False))


def _batch(subject: Subject) -> int:
    if subject.eval.loader is not None:
        return subject.eval.batch_size
    return getattr(subject.args, "eval_batch_size", None) or subject.eval.batch_size


def check_precision_was_taken_up(subject: Subject) -> Iterable[Finding]:
    """P4: mixed precision was asked for, and the Trainer's accelerator computes without it."""
    accelerator = getattr(subject.trainer, "accelerator", None)
    given = getattr(accelerator, "mixed_precision", None)
    asked = [n for n in ("bf16", "fp16") if getattr(subject.args, n, False) is True]
    if given is None or not asked:
        raise Skip("does not apply")
    if given == "no" and not getattr(subject.trainer, "is_deepspeed_enabled", False):
        told = f"{asked[0]}=True was asked for, and the accelerator computes in full precision"
        remedy = "make the arguments before any other Accelerator, or restart the process"
        yield Finding("P4", "warn", f"{told} (mixed_precision={given!r})", remedy)


CHECKS = (
    check_best_checkpoint_is_the_best,
    check_best_checkpoint_is_saved,
    check_schedule_fits_the_plan,
    check_evaluation_reads_all_rows,
    check_precision_was_taken_up,
)
