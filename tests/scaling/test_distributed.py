import math

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from cookbook.scaling import distributed, job
from cookbook.scaling.distributed import accumulate, blocks_of, train, wrap
from cookbook.scaling.sharded import Progress
from cookbook.scaling.world import RanksError, joined
from cookbook.training import loop
from cookbook.training.order import Batches


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.layers = nn.Sequential(nn.Linear(5, 4), nn.Dropout(0.2), nn.Linear(4, 3))

    def forward(self, input):
        return self.layers(input)


def data(rows=20):
    dice = torch.Generator().manual_seed(0)
    return [{"input": torch.randn(5, generator=dice), "labels": i % 3} for i in range(rows)]


def run(folder="", steps=6, model=None, strategy="ddp", **more):
    with joined() as world:
        precision = more.get("precision", "fp32")
        model = wrap(model or Model(), strategy, world, precision=precision)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
        found = train(model, optimizer, data(), world=world, batch_size=4, steps=steps,
                      folder=str(folder), save_every=2 if folder else 0, **more)  # fmt: skip
        return found, distributed.full_weights(model)


def test_one_rank_is_the_loop_of_chapter_03():
    """The same rows, the same sums, the same update: only dropout is drawn from another stream."""
    model, ours = Model().eval(), Model()
    ours.layers[1].p = model.layers[1].p = 0.0
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    constant = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
    losses = loop.train(model, Batches(data(), 4), optimizer, constant, steps=5, accumulation=1)
    found, weights = run(steps=5, model=ours)
    assert found.losses == pytest.approx(losses, rel=1e-6)
    for name, tensor in model.state_dict().items():
        assert torch.allclose(weights[name], tensor, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not(tmp_path, strategy):
    """With dropout, and without any random state on the disk."""
    undisturbed, whole = run(strategy=strategy)
    run(tmp_path, steps=4, strategy=strategy)
    torch.manual_seed(99)
    resumed, weights = run(tmp_path, steps=6, strategy=strategy)
    assert resumed.losses == undisturbed.losses
    assert job.fingerprint(weights) == job.fingerprint(whole)


def test_the_rate_follows_the_step_also_after_a_stop(tmp_path):
    def half(step):
        return 0.5**step

    undisturbed, whole = run(rate=half)
    run(tmp_path, steps=4, rate=half)
    assert job.fingerprint(run(tmp_path, rate=half)[1]) == job.fingerprint(whole)
    assert job.fingerprint(run()[1]) != job.fingerprint(whole)


def nan_in_step(number):
    calls = []

    def loss_fn(model, batch):
        calls.append(batch)
        loss, labels = distributed.summed_cross_entropy(model, batch)
        return loss * (math.nan if len(calls) == number else 1.0), labels

    return loss_fn


def test_a_step_that_is_not_finite_is_skipped_and_counted():
    found, weights = run(loss_fn=nan_in_step(3), not_finite="skip")
    assert found.skipped == [3] and found.step == 6
    assert [math.isnan(loss) for loss in found.losses] == [False, False, True, False, False, False]
    assert all(tensor.isfinite().all() for tensor in weights.values())


def test_or_it_stops_the_run():
    with pytest.raises(RanksError, match="step 3: the gradient is nan; weights are those before"):
        run(loss_fn=nan_in_step(3))


def test_nothing_to_do_when_it_is_done(tmp_path):
    first, _ = run(tmp_path, steps=4)
    again, _ = run(tmp_path, steps=4)
    assert again == first == Progress(4, first.losses, [])


def test_workers_change_nothing():
    assert run(steps=2, workers=1)[0].losses == run(steps=2)[0].losses


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_in_half_precision_it_learns_the_same_a_little_less_exactly(strategy):
    exact, _ = run(strategy=strategy)
    half, weights = run(strategy=strategy, precision="bf16")
    assert half.losses != exact.losses and half.losses == pytest.approx(exact.losses, rel=0.05)
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


def test_unknown_strategy():
    with joined() as world, pytest.raises(ValueError, match="choose ddp or fsdp"):
        wrap(Model(), "horovod", world)


def test_blocks_are_the_longest_list():
    model = nn.ModuleDict({
        "few": nn.ModuleList([nn.Linear(1, 1)]),
        "many": nn.ModuleList([nn.ReLU(), nn.Linear(2, 2)]),
    })  # fmt: skip
    assert blocks_of(model) == list(model["many"]) and blocks_of(nn.ReLU()) == []


def test_a_batch_without_labels_moves_nothing():
    with joined() as world:
        model = wrap(Model(), "ddp", world)
        batch = {"input": torch.ones(2, 5), "labels": torch.full((2,), -100)}
        assert accumulate(model, [batch], world) == 0.0
        assert all(p.grad.abs().max() == 0 for p in model.parameters())


def one_batch(programs, micros, ranks=(0, 1)):
    """All rows of the given ranks and micro-batches, in one process and one batch."""
    model = programs["Called"]()
    parts = [programs["labelled"](rank, micro) for rank in ranks for micro in micros]
    batch = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    loss = nn.functional.cross_entropy(model(batch["input"]), batch["labels"])
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.ranks
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_the_gradient_of_two_ranks_is_that_of_one_batch(two_ranks, programs, strategy):
    """Two micro-batches on each of two ranks, all with different numbers of labels; float64."""
    loss, gradient = one_batch(programs[0], (0, 1))
    for found in (r["sums"][strategy] for r in two_ranks):
        assert found["loss"] == pytest.approx(loss, rel=1e-10)
        assert torch.allclose(torch.tensor(found["gradients"]).double(), gradient, atol=1e-10)


@pytest.mark.ranks
def test_the_mean_of_the_ranks_means_is_another(two_ranks, programs):
    _, gradient = one_batch(programs[0], (0,))
    naive = torch.tensor(two_ranks[0]["naive"]).double()
    assert float((naive - gradient).norm() / gradient.norm()) > 0.1


@pytest.mark.ranks
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_ranks_end_with_the_weights_of_one_process(two_ranks, ranks_folder, programs, strategy):
    alone = job.pretrain(**programs[0]["options"](ranks_folder, output=str(ranks_folder / "one")))
    one = load_file(ranks_folder / "one" / "weights.safetensors")
    two = load_file(ranks_folder / strategy / "weights.safetensors")
    found = [r[strategy] for r in two_ranks]
    assert [f["ranks"] for f in found] == [2, 2] and alone["ranks"] == 1
    assert found[0]["fingerprint"] == found[1]["fingerprint"]
    assert found[0]["losses"] == pytest.approx(alone["losses"], rel=1e-5)
    assert one.keys() == two.keys()
    for name in one:
        assert torch.allclose(one[name], two[name], rtol=1e-5, atol=1e-5), name


@pytest.mark.ranks
def test_under_fsdp_a_rank_holds_half(two_ranks):
    ddp, fsdp = (two_ranks[1][name] for name in ("ddp", "fsdp"))
    assert fsdp["weights_bytes"] == ddp["weights_bytes"] / 2
    assert fsdp["optimizer_bytes"] < ddp["optimizer_bytes"] / 2 + 4 * 200  # step counts are whole


@pytest.mark.ranks
def test_while_micro_batches_accumulate_nothing_is_sent(two_ranks):
    assert two_ranks[0]["messages"] == [0]  # one bucket, once, for three backward passes


@pytest.mark.ranks
def test_nan_on_one_rank_is_skipped_by_both_or_stops_both(two_ranks):
    for found in (r["foreign"] for r in two_ranks):
        assert found["skip"] == [1] and found["skip unmoved"]
        assert found["stop"].startswith("step 1: the gradient is nan") and found["stop unmoved"]
