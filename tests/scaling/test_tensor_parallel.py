import pytest
import torch
from torch import nn

from cookbook.scaling import tensor_parallel
from cookbook.scaling.small_model import SmallLM
from cookbook.scaling.world import joined


def test_on_one_rank_it_is_the_layer_itself():
    torch.manual_seed(0)
    up, down, x = nn.Linear(4, 8).double(), nn.Linear(8, 4).double(), torch.randn(3, 4).double()
    with joined():
        y = tensor_parallel.feed_forward(x, up, down, rank=0, ranks=1)
    assert torch.allclose(y, down(nn.functional.gelu(up(x))), atol=1e-10)


def test_the_shares_add_up_without_any_message():
    """The identity that it rests on: GeLU(xA)B is the sum over columns of A and rows of B."""
    torch.manual_seed(0)
    up, down, x = nn.Linear(4, 8).double(), nn.Linear(8, 4).double(), torch.randn(3, 4).double()
    shares = [
        nn.functional.gelu(x @ a.T + bias) @ b.T
        for a, bias, b in zip(
            up.weight.chunk(2), up.bias.chunk(2), down.weight.chunk(2, dim=1), strict=True
        )
    ]
    assert torch.allclose(sum(shares) + down.bias, down(nn.functional.gelu(up(x))), atol=1e-10)


def test_heads_that_cannot_be_dealt_out():
    with pytest.raises(ValueError, match="2 heads cannot be dealt to 4 ranks"):
        tensor_parallel.cut(SmallLM(20), 4)


@pytest.mark.ranks
def test_two_ranks_equal_one_process(two_ranks):
    for found in (r["heads"] for r in two_ranks):
        assert found["logits"] < 1e-5 and found["gradients"] < 1e-5
        assert found["by_hand"] < 1e-10
        assert found["held"] < 0.52 * found["whole"]  # norms and the biases of rows are whole
