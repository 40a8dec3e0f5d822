"""The checkpoints of the Hugging Face `Trainer`, verified like our own.

The `Trainer` writes a folder `checkpoint-<step>` file by file, under its final name, and takes the
one with the highest number for the last, whole or not. `VerifiedCheckpoints` adds the manifest
when the folder is finished, so that a folder without one is known to be incomplete;
`resume_point` says from which to go on. The `Trainer` then reads it by itself: safetensors for
the model, `weights_only=True` for the rest (numpy's random state is let through by name).

`load_best_model_at_end` and other uses of the folders are left to the `Trainer`. Used by
`training.trainer` and by chapters 03 and 11.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cookbook.training import checkpoints
from cookbook.training.errors import CheckpointError
from cookbook.training.manifests import seal

if TYPE_CHECKING:
    from transformers import TrainerCallback


def resume_point(output_dir: str | Path) -> str | None:
    """The newest whole checkpoint in `output_dir`, for `train(resume_from_checkpoint=…)`.

    None: start from the beginning. Newer folders that are not whole are renamed to
    `set-aside-checkpoint-<step>`: left where they are, they would be written into, and the
    rotation of old checkpoints would count them and delete a whole one in their place.

    >>> resume_point("nowhere") is None
    True
    """
    chosen = checkpoints.latest(output_dir)
    if int(os.environ.get("RANK", 0)) == 0:  # one process renames, the others have only looked
        for path in checkpoints.candidates(output_dir):
            if path == chosen:
                break
            _set_aside(path)
    return str(chosen) if chosen else None


def _set_aside(path: Path) -> None:
    number, place = 1, path.with_name(f"set-aside-{path.name}")
    while place.exists():
        number += 1
        place = path.with_name(f"set-aside-{path.name}-{number}")
    path.rename(place)


@contextlib.contextmanager
def clean_failure(output_dir: str | Path, step: int) -> Iterator[None]:
    """Around `Trainer._save_checkpoint`: remove what a full disk has cut off, say so in a line."""
    target = Path(output_dir) / f"checkpoint-{step}"
    with checkpoints.whole_or_nothing(target, scratch=target):
        yield


def VerifiedCheckpoints() -> "TrainerCallback":
    """A callback that writes the manifest of each checkpoint once the `Trainer` has saved it.

    Raises `CheckpointError` for `save_total_limit=1`: the `Trainer` deletes the older checkpoint
    before the new one has its manifest, and a kill in between would leave none.
    """
    # The class is made here because its base is heavy to import.
    from transformers import TrainerCallback

    class _VerifiedCheckpoints(TrainerCallback):
        def on_train_begin(self, args, state, control, **_) -> None:
            if args.save_total_limit == 1:
                raise CheckpointError(
                    "save_total_limit=1 leaves no whole checkpoint while the next one is written: "
                    "use 2 or more"
                )

        def on_save(self, args, state, control, **_) -> None:
            _wait_for_other_ranks()
            if state.is_world_process_zero:
                with clean_failure(args.output_dir, state.global_step):
                    seal(Path(args.output_dir) / f"checkpoint-{state.global_step}")

    return _VerifiedCheckpoints()


def _wait_for_other_ranks() -> None:
    """Each rank writes its own random state, and nothing else waits for the slowest."""
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
