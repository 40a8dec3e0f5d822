"""What N devices bring, on paper: memory, time and cost of a training run, DDP or FSDP.

`plan` computes from sizes and rates that are given; a rate is best measured, on one device. It
starts nothing: `distributed` does. Chapter 11 checks it against runs with one and two ranks.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Work:
    """What is to be trained. Sizes in bytes, for one full copy; `activations` for one device.

    `operations` are floating-point operations of one step over the whole batch, on all devices
    together (`arithmetic.flops_per_token` times tokens); `largest_layer` are the weights that FSDP
    gathers at a time.
    """

    weights: float
    gradients: float
    optimizer: float
    activations: float
    operations: float
    steps: int
    largest_layer: float = 0.0


@dataclass(frozen=True)
class Device:
    """One device of many: `rate` in operations a second that it really reaches, `memory` in bytes,
    `bandwidth` of its link to the others in bytes a second, `latency` of one message in seconds,
    `price` for an hour in any currency."""

    rate: float
    memory: float
    bandwidth: float = float("inf")
    latency: float = 0.0
    price: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What `plan` found: bytes for each device, seconds for each step, hours and cost in all."""

    devices: int
    memory: float
    fits: bool
    sent: float
    compute_seconds: float
    communication_seconds: float
    step_seconds: float
    hours: float
    cost: float
    efficiency: float

    def to_dict(self) -> dict[str, float]:
        """The fields as plain numbers."""
        return asdict(self)


def plan(
    work: Work, device: Device, devices: int, *, strategy: str = "ddp", overlap: float = 0.0
) -> Plan:
    """Memory, time and cost of `work` on `devices` of the kind `device`, n in the formulas.

    W, G, O, A are the bytes of weights, gradients, optimizer and activations, L the largest layer.

    - **memory** of a device, "ddp": W + G + O + A, and G again for the buckets that are sent, if
      n > 1; "fsdp": (W + G + O) / n + 2L + A, because one layer is gathered while another works
      (Rajbhandari et al. 2020, arXiv:1910.02054, stage 3).
    - **sent** by a device a step, ring algorithm: "ddp" 2 (n - 1)/n · G, a reduce-scatter and an
      all-gather; "fsdp" (n - 1)/n · (2W + G), weights gathered for forward and backward, gradients
      scattered.
    - **communication** = sent / bandwidth + messages · latency, with 2 (n - 1) or 3 (n - 1) turns
      of the ring.
    - **compute** = operations / (n · rate). **step** = compute + what of the communication is not
      hidden: max(0, communication - overlap · 2/3 · compute), the backward pass being two thirds.
    - **hours** = steps · step / 3600; **cost** = n · hours · price; **efficiency** = compute /
      step, the share of n that is gained.

    The batch is the same for any n and split among them, so `activations` must be those of the
    share of one device. Raises ValueError for an unknown strategy and for no device.

    >>> work = Work(4e9, 4e9, 8e9, 2e9, operations=1e15, steps=3600)
    >>> found = plan(work, Device(rate=1e14, memory=24e9, bandwidth=1e10, price=2.0), 4)
    >>> found.memory / 1e9, found.compute_seconds, round(found.communication_seconds, 2)
    (22.0, 2.5, 0.6)
    >>> round(found.hours, 2), round(found.cost, 1)
    (3.1, 24.8)
    """
    if strategy not in ("ddp", "fsdp"):
        raise ValueError(f"unknown strategy {strategy!r}: choose ddp or fsdp")
    if devices < 1:
        raise ValueError(f"{devices} devices: at least one is needed")
    states, share = work.weights + work.gradients + work.optimizer, (devices - 1) / devices
    if strategy == "ddp":
        memory = states + work.activations + work.gradients * (devices > 1)
        sent, turns = 2 * share * work.gradients, 2 * (devices - 1)
    else:
        gathered = 2 * work.largest_layer * (devices > 1)
        memory = states / devices + gathered + work.activations
        sent, turns = share * (2 * work.weights + work.gradients), 3 * (devices - 1)
    compute = work.operations / (devices * device.rate)
    communication = sent / device.bandwidth + turns * device.latency
    step = compute + max(0.0, communication - overlap * 2 / 3 * compute)
    hours = work.steps * step / 3600
    return Plan(
        devices, memory, memory <= device.memory, sent, compute, communication, step, hours,
        devices * hours * device.price, compute / step if step else 1.0,
    )  # fmt: skip
