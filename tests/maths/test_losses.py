"""Losses by hand equal torch's, in value and gradient, masks and worst cases included."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from cookbook.maths import losses

TOLERANCE = {
    torch.float64: {"rtol": 0, "atol": 1e-10},
    torch.float32: {"rtol": 1e-5, "atol": 1e-6},
}
DTYPES = list(TOLERANCE)


def assert_same(ours, theirs, *inputs):
    """`ours` and `theirs` map fresh leaf tensors to a loss; values and gradients must agree."""
    results = []
    for function in (ours, theirs):
        leaves = [x.clone().requires_grad_() for x in inputs]
        value = function(*leaves)
        weights = torch.linspace(0.5, 1.5, value.numel(), dtype=value.dtype).view_as(value)
        (value * weights).sum().backward()
        results.append((value.detach(), [leaf.grad for leaf in leaves]))
    (value, grads), (expected, expected_grads) = results
    tolerance = TOLERANCE[value.dtype]
    torch.testing.assert_close(value, expected, equal_nan=True, **tolerance)
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(grad, expected_grad, equal_nan=True, **tolerance)


def torch_cross_entropy(logits, target, **options):
    loss = F.cross_entropy(logits.flatten(0, -2), target.flatten(), **options)
    return loss.view(target.shape) if options.get("reduction") == "none" else loss


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy_equals_torch(dtype, reduction, smoothing):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 7, 11, generator=generator, dtype=dtype) * 3
    target = torch.randint(0, 11, (4, 7), generator=generator)
    target[torch.rand(4, 7, generator=generator) < 0.4] = -100
    options = {"label_smoothing": smoothing, "reduction": reduction}
    assert_same(
        lambda x: losses.cross_entropy(x, target, **options),
        lambda x: torch_cross_entropy(x, target, **options),
        logits,
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e4, 1e30])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_survives_huge_logits(dtype, scale, smoothing):
    logits = torch.tensor([[1.0, -1.0, 0.5], [0.25, 0.25, 0.2499]], dtype=dtype) * scale
    target = torch.tensor([0, 2])
    assert_same(
        lambda x: losses.cross_entropy(x, target, label_smoothing=smoothing, reduction="none"),
        lambda x: F.cross_entropy(x, target, label_smoothing=smoothing, reduction="none"),
        logits,
    )
    assert losses.cross_entropy(logits, target).isfinite()


def test_cross_entropy_keeps_digits_at_large_offsets():
    offset = torch.tensor([[10000.0, 10000.5, 9999.0]])
    expected = F.cross_entropy(offset - 10000, torch.tensor([0]))
    torch.testing.assert_close(losses.cross_entropy(offset, torch.tensor([0])), expected)


def test_class_forbidden_by_minus_infinity():
    logits = torch.tensor([[0.0, float("-inf"), 1.0]])
    target = torch.tensor([2])
    assert_same(
        lambda x: losses.cross_entropy(x, target), lambda x: F.cross_entropy(x, target), logits
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_everything_ignored_is_nan_with_zero_gradient_as_in_torch(smoothing, reduction):
    target = torch.full((3,), -100)
    options = {"label_smoothing": smoothing, "reduction": reduction}
    logits = torch.ones(3, 5, requires_grad=True)
    loss = losses.cross_entropy(logits, target, **options)
    expected = F.cross_entropy(logits, target, **options)
    torch.testing.assert_close(loss, expected, equal_nan=True)
    assert loss.isnan().all() == (reduction == "mean")
    loss.sum().backward()
    assert torch.equal(logits.grad, torch.zeros(3, 5))


def test_cross_entropy_hand_worked():
    # scores log(1), log(3): probabilities 1/4 and 3/4
    logits = torch.tensor([[0.0, 3.0]]).clamp(min=0)
    logits[0, 1] = torch.log(torch.tensor(3.0))
    four_thirds = torch.log(torch.tensor(4 / 3))
    torch.testing.assert_close(losses.cross_entropy(logits, torch.tensor([1])), four_thirds)
    smooth = losses.cross_entropy(logits, torch.tensor([1]), label_smoothing=0.5)
    expected = 0.75 * four_thirds + 0.25 * torch.log(torch.tensor(4.0))
    torch.testing.assert_close(smooth, expected)


def test_custom_ignore_index():
    logits, target = torch.randn(5, 3), torch.tensor([0, 1, 2, 2, 1])
    torch.testing.assert_close(
        losses.cross_entropy(logits, target, ignore_index=2),
        F.cross_entropy(logits, target, ignore_index=2),
    )


@given(st.integers(0, 10_000), st.integers(2, 9), st.integers(1, 12), st.floats(-300, 300))
@settings(max_examples=60, deadline=None)
def test_cross_entropy_ignores_a_common_offset(seed, classes, rows, offset):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    target = torch.randint(0, classes, (rows,), generator=generator)
    loss = losses.cross_entropy(logits, target)
    assert loss >= 0
    torch.testing.assert_close(losses.cross_entropy(logits + offset, target), loss)
    padded = torch.cat((target, torch.full((3,), -100)))  # ignored rows change nothing
    more = torch.cat((logits, torch.randn(3, classes, generator=generator, dtype=torch.float64)))
    torch.testing.assert_close(losses.cross_entropy(more, padded), loss)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_binary_cross_entropy_equals_torch(dtype, reduction):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(6, 5, generator=generator, dtype=dtype) * 4
    logits[0] = torch.tensor([0.0, 1e4, -1e4, 1e30, -1e30])  # 0: where a fresh head starts
    target = torch.randint(0, 2, (6, 5), generator=generator).to(dtype)
    target[1] = 0.3
    assert_same(
        lambda x: losses.binary_cross_entropy(x, target, reduction=reduction),
        lambda x: F.binary_cross_entropy_with_logits(x, target, reduction=reduction),
        logits,
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_mean_squared_error_equals_torch(dtype, reduction):
    generator = torch.Generator().manual_seed(2)
    prediction = torch.randn(6, 5, generator=generator, dtype=dtype)
    target = torch.randn(6, 5, generator=generator, dtype=dtype)
    assert_same(
        lambda x, y: losses.mean_squared_error(x, y, reduction=reduction),
        lambda x, y: F.mse_loss(x, y, reduction=reduction),
        prediction,
        target,
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (losses.binary_cross_entropy, F.binary_cross_entropy_with_logits),
        (losses.mean_squared_error, F.mse_loss),
    ],
)
def test_masks_equal_selection(dtype, ours, theirs):
    generator = torch.Generator().manual_seed(3)
    scores = torch.randn(6, 5, generator=generator, dtype=dtype)
    target = torch.rand(6, 5, generator=generator, dtype=dtype)
    mask = torch.rand(6, 5, generator=generator) < 0.5
    assert_same(
        lambda x: ours(x, target, mask=mask), lambda x: theirs(x[mask], target[mask]), scores
    )
    assert ours(scores, target, mask=torch.zeros_like(mask)).isnan()
    assert (ours(scores, target, mask=mask, reduction="none")[~mask] == 0).all()


def test_multi_label_is_the_mean_of_binary_losses():
    logits, target = torch.randn(4, 3), torch.tensor([[1.0, 0, 1]] * 4)
    columns = [losses.binary_cross_entropy(logits[:, i], target[:, i]) for i in range(3)]
    loss = losses.binary_cross_entropy(logits, target)
    torch.testing.assert_close(loss, torch.stack(columns).mean())


@pytest.mark.parametrize("target", [3, -1])
def test_target_outside_the_classes(target):
    message = f"target {target} is none of the 3 classes; classes count from 0"
    with pytest.raises(ValueError, match=message):
        losses.cross_entropy(torch.zeros(1, 3), torch.tensor([target]))


def test_wrong_shapes_and_names_are_named():
    with pytest.raises(ValueError, match=r"logits \(2, 3\) need targets of shape \(2,\)"):
        losses.cross_entropy(torch.zeros(2, 3), torch.zeros(3, dtype=torch.long))
    with pytest.raises(ValueError, match=r"predictions \(2, 1\) and targets \(2,\)"):
        losses.mean_squared_error(torch.zeros(2, 1), torch.zeros(2))
    with pytest.raises(ValueError, match="reduction 'average' is unknown"):
        losses.cross_entropy(torch.zeros(1, 3), torch.tensor([0]), reduction="average")


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_sum_exp_and_log_softmax_equal_torch(dtype):
    scores = torch.tensor([[3.0, 0.0, -1e30], [-4.0, -4.0, -3.0]], dtype=dtype)
    assert_same(losses.log_sum_exp, lambda x: torch.logsumexp(x, -1), scores)
    assert_same(lambda x: losses.log_softmax(x, 0), lambda x: torch.log_softmax(x, 0), scores)
    huge = scores + 1e4  # values only: torch's own gradient exp(x - lse) loses digits up here
    torch.testing.assert_close(losses.log_sum_exp(huge), huge.logsumexp(-1), **TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_distillation_equals_torchs_kl_divergence(dtype):
    student, teacher = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0), dtype=dtype)

    def theirs(logits):
        soft = F.log_softmax(logits / 3, -1)
        return 9 * F.kl_div(soft, F.softmax(teacher / 3, -1), reduction="batchmean")

    assert_same(lambda logits: losses.distillation(logits, teacher, 3.0), theirs, student)


def test_distillation_is_zero_for_the_same_answers_and_teaches_the_student_only():
    teacher = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    student = teacher.detach().clone().requires_grad_()
    loss = losses.distillation(student, teacher)
    loss.backward()
    assert abs(loss.item()) < 1e-12 and teacher.grad is None
    losses.distillation(student + torch.eye(3, 4), teacher).backward()
    assert student.grad.abs().sum() > 0 and teacher.grad is None


def test_a_temperature_of_0_is_refused():
    with pytest.raises(ValueError, match="temperature is 0: it must be above 0"):
        losses.distillation(torch.zeros(1, 2), torch.zeros(1, 2), 0)
