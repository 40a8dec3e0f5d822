"""Operations: by hand, and of a kernel that torch's own counter does not know."""

import pytest
import torch

from cookbook.scaling.speed_operations import flop_counter, matmul_rate, nominal_flops
from cookbook.scaling.speed_setups import builder


def test_the_nominal_operations_by_hand(tokenizer):
    build = builder(tokenizer, "tiny", length=32)
    hidden, words, length = 32, build("eager").config.vocab_size, 32
    matrices = 2 * (4 * hidden**2 + 2 * hidden * 4 * hidden)
    attention = 2 * 12 * hidden * length
    head = 0.15 * 6 * (hidden**2 + hidden * words)
    assert nominal_flops(build("eager"), length) == pytest.approx(6 * matrices + attention + head)


def test_the_counter_sees_fused_attention_on_a_cpu():
    q = torch.randn(2, 4, 16, 8, requires_grad=True)
    with flop_counter() as counter:
        torch.nn.functional.scaled_dot_product_attention(q, q, q).sum().backward()
    forward = 4 * 2 * 4 * 16 * 16 * 8
    assert counter.get_total_flops() in (forward * 7 // 2, 3 * forward)


def test_a_plain_product_is_counted_as_ever():
    with flop_counter() as counter:
        torch.ones(2, 3) @ torch.ones(3, 5)
    assert counter.get_total_flops() == 2 * 2 * 3 * 5


def test_the_rate_follows_the_clock(monkeypatch):
    now = iter([0.0, 0.0, 0.0, 2.0, 2.0, 2.0])
    monkeypatch.setattr("time.process_time", lambda: next(now))
    assert matmul_rate("fp32", seconds=1.0) == 2 * 768**3 / 2.0
