"""What the ranks run in the tests of this folder: `everything` on two, `four` on four.

One launch serves all tests; each program returns plain numbers, and the tests assert.
"""

import json
import os
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import distributed as dist
from torch import nn

from cookbook.data.tokenization import Packed
from cookbook.scaling import distributed, job, links, pipeline, sharded, tensor_parallel
from cookbook.scaling.sampler import ShardedBatches, share
from cookbook.scaling.small_model import SmallLM
from cookbook.scaling.world import RanksError, in_order, joined
from cookbook.training.errors import CheckpointError

VOCABULARY, LENGTH = 60, 16


class Words:
    """A tokenizer, as far as `job.write_rows` is concerned."""

    all_special_ids, pad_token_id, mask_token_id = [0, 1, 2, 3, 4], 0, 4

    def __len__(self):
        return VOCABULARY


def write_rows(folder, rows=50):
    """Rows with different numbers of tokens, so that the ranks hold different numbers of labels."""
    dice = np.random.default_rng(0)
    ids = dice.integers(5, VOCABULARY, (rows, LENGTH))
    kept = np.arange(LENGTH) < dice.integers(4, LENGTH + 1, rows)[:, None]
    places = np.tile(np.arange(LENGTH), (rows, 1))
    packed = Packed(np.where(kept, ids, 0), kept.astype(np.int64), places)
    return job.write_rows(Path(folder) / "rows.npz", packed, Words())


def options(folder, **more):
    return {"rows": f"{folder}/rows.npz", "steps": 5, "batch_size": 8, "accumulation": 2, **more}


def model(seed=0, **settings):
    torch.manual_seed(seed)
    return SmallLM(VOCABULARY, **settings)


def everything(folder):
    found = {
        strategy: job.pretrain(
            **options(folder, strategy=strategy, save_every=5, output=f"{folder}/{strategy}")
        )
        for strategy in ("ddp", "fsdp")
    }
    with joined(expected=2) as world:
        programs = (talk, sums, messages, naive, numbers, shares, damaged, foreign, belts, heads)
        for program in programs:
            found[program.__name__] = program(world, Path(folder))
        found["link"] = links.measured(world, (4_000, 400_000), rounds=2)
    try:
        with joined(expected=3):
            pass
    except RanksError as error:
        found["alone"] = str(error)
    return found


def talk(world, folder):
    def problem(text):
        try:
            world.together(text)
        except RanksError as error:
            return str(error)

    # Only rank 1 has a problem, and both must hear of it.
    return {
        "size": world.size, "rank": world.rank, "backend": dist.get_backend(),
        "sum": world.sum(1.0 + world.rank, 10.0), "first": world.from_first(world.rank),
        "everyone": world.everyone(str(world.rank)), "fine": problem(""),
        "problem": problem("no room" if world.rank else ""),
    }  # fmt: skip


def labelled(rank, micro=0, labels=None):
    """A batch of a linear classifier, float64; ranks and micro-batches have unequal labels."""
    dice = torch.Generator().manual_seed(10 * rank + micro)
    x = torch.randn(6, 5, generator=dice, dtype=torch.float64)
    y = torch.randint(0, 3, (6,), generator=dice)
    y[torch.arange(6) >= (labels or 1 + rank + 3 * micro)] = -100
    return {"input": x, "labels": y}


def classifier():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()


class Called(nn.Module):
    """A classifier that takes the batch by name, as the loss does."""

    def __init__(self):
        super().__init__()
        self.inner = classifier()

    def forward(self, input):
        return self.inner(input)


def in_double(model, batch):
    """The default loss computes in fp32, on purpose; here the last digits are wanted."""
    logits, labels = model(batch["input"]), batch["labels"]
    loss = nn.functional.cross_entropy(logits, labels, reduction="sum")
    return loss, int((labels != -100).sum())


def gradients(model):
    return torch.cat([
        distributed.gathered(p.grad).flatten() for p in model.parameters()
    ]).tolist()  # fmt: skip


def sums(world, folder):
    """Accumulated over two micro-batches and two ranks, by either strategy."""
    found = {}
    for strategy in ("ddp", "fsdp"):
        wrapped = distributed.wrap(Called(), strategy, world)
        batches = [labelled(world.rank, micro) for micro in (0, 1)]
        loss = distributed.accumulate(wrapped, batches, world, loss_fn=in_double)
        found[strategy] = {"loss": loss, "gradients": gradients(wrapped)}
    return found


def naive(world, folder):
    """The means of the ranks, averaged by DDP, as in a loop that takes the model's own loss."""
    wrapped = distributed.wrap(Called(), "ddp", world)
    batch = labelled(world.rank)
    nn.functional.cross_entropy(wrapped(batch["input"]), batch["labels"]).backward()
    return gradients(wrapped)


def messages(world, folder):
    """How many times DDP sent its buckets in a step of three micro-batches."""
    from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

    wrapped, sent = distributed.wrap(Called(), "ddp", world), []

    def count(group, bucket):
        sent.append(bucket.index())
        return allreduce_hook(group, bucket)

    wrapped.register_comm_hook(None, count)
    distributed.accumulate(wrapped, [labelled(world.rank, m) for m in range(3)], world)
    return sent


def numbers(world, folder):
    """Metrics over shares of 7 rows; then with a row twice, as a padding sampler would."""
    rows = share(7, world.rank, world.size)
    values = in_order(world, rows, [[float(r), 0.5] for r in rows], total=7)
    try:
        in_order(world, [*rows, 0], [0.0] * (len(rows) + 1), total=7)
    except RanksError as error:
        return {"values": values.tolist(), "twice": str(error)}


def shares(world, folder):
    sampler = ShardedBatches(10, 4, rank=world.rank, ranks=world.size, seed=1, stop=5)
    return world.everyone([keys for keys in sampler])


def damaged(world, folder):
    """A checkpoint of another model, and one that no longer is what was written."""
    wrapped = distributed.wrap(model(width=48), "ddp", world)
    path, said = folder / "fsdp" / "checkpoint-5", []
    try:
        sharded.load(path, wrapped)
    except CheckpointError as error:
        said.append(str(error))
    dist.barrier()
    return said


def foreign(world, folder):
    """NaN on rank 1 alone: skipped by both, or both stop."""

    def nan_on_one(model, batch):
        loss, count = distributed.summed_cross_entropy(model, batch)
        return loss * (float("nan") if world.rank == 1 else 1.0), count

    found = {}
    for way in ("skip", "stop"):
        wrapped = distributed.wrap(Called(), "ddp", world)
        before = [p.detach().clone() for p in wrapped.parameters()]
        rows = [{"input": torch.ones(5).double(), "labels": 1} for _ in range(8)]
        train = partial(
            distributed.train, wrapped, torch.optim.SGD(wrapped.parameters(), 0.1), rows,
            world=world, batch_size=4, steps=1, loss_fn=nan_on_one, not_finite=way,
        )  # fmt: skip
        try:
            found[way] = train().skipped
        except RanksError as error:
            found[way] = str(error)
        unmoved = [torch.equal(a, b) for a, b in zip(before, wrapped.parameters(), strict=True)]
        found[f"{way} unmoved"] = all(unmoved)
    return found


def belts(world, folder):
    ids = torch.randint(0, VOCABULARY, (8, LENGTH), generator=torch.Generator().manual_seed(1))
    return pipeline.same_step(partial(model, layers=3), world, ids, 4)


def heads(world, folder):
    """One process and two ranks: logits, gradients of embeddings; and the layer by hand."""
    ids = torch.arange(2 * LENGTH).reshape(2, LENGTH) % VOCABULARY
    whole, cut = model(), tensor_parallel.cut(model(), world.size)
    found = {"logits": float((whole(ids) - cut(ids)).abs().max())}
    for net in (whole, cut):
        nn.functional.cross_entropy(net(ids).flatten(0, 1), ids.flatten()).backward()
    pairs = zip(whole.parameters(), cut.parameters(), strict=True)
    found["gradients"] = max(
        float((a.grad - distributed.gathered(b.grad)).abs().max()) for a, b in pairs
    )
    found["held"] = distributed.held_bytes(cut.blocks.parameters())
    found["whole"] = distributed.held_bytes(whole.blocks.parameters())
    return found | by_hand(world)


def by_hand(world):
    torch.manual_seed(5)
    up, down = nn.Linear(6, 8).double(), nn.Linear(8, 6).double()
    x, y = (torch.randn(3, 6).double().requires_grad_() for _ in range(2))
    y.data = x.data.clone()
    down(nn.functional.gelu(up(x))).square().sum().backward()
    mine = [up.weight.grad.chunk(world.size)[world.rank].clone(), down.bias.grad.clone()]
    up.zero_grad(), down.zero_grad()
    out = tensor_parallel.feed_forward(y, up, down, world.rank, world.size)
    out.square().sum().backward()
    again = [up.weight.grad.chunk(world.size)[world.rank], down.bias.grad]
    off = [
        (x.grad - y.grad).abs().max(),
        *((a - b).abs().max() for a, b in zip(mine, again, strict=True)),
    ]
    value = (out - down(nn.functional.gelu(up(x)))).abs().max()
    return {"by_hand": float(max(value, *off))}


def four(folder):
    """On four ranks: a checkpoint of two, under either strategy; and who reads which rows."""
    found = {}
    with joined(expected=4) as world:
        for strategy in ("ddp", "fsdp"):
            wrapped = distributed.wrap(model(seed=9), strategy, world)
            optimizer = torch.optim.AdamW(wrapped.parameters())
            path = Path(folder) / "fsdp" / "checkpoint-5"
            found[strategy] = sharded.load(path, wrapped, optimizer).step
            weights = distributed.full_weights(wrapped)
            found[f"{strategy} weights"] = job.fingerprint(weights)
            moments = sharded._tensors(wrapped, optimizer)["optimizer"]["blocks.0.up.weight"]
            squares = distributed.gathered(moments["exp_avg_sq"])
            found[f"{strategy} squares"] = float(squares.double().sum())
        sampler = ShardedBatches(10, 5, rank=world.rank, ranks=4, seed=1, stop=4)
        found["rows"] = world.everyone(list(sampler))
    return found


def attempt(folder):
    """As a program of `launch`: dies in its first two attempts."""
    with joined(expected=2) as world:
        if world.attempt < 2 and world.rank == world.attempt:
            os.kill(os.getpid(), 9)
        sys.stdout.write(f"rank {world.rank} is here\n")  # at once: two ranks share the pipe
        sys.stdout.flush()
        return json.loads(json.dumps({"attempt": world.attempt, "sum": world.sum(1.0)}))
