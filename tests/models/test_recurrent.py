"""The step equals torch's, and each direction of ELMo sees its own side only."""

import pytest
import torch
from torch import nn

from cookbook.models.recurrent import CELLS, ElmoLM, RecurrentLM, lstm_step


@pytest.mark.parametrize("dtype, tolerance", [
    (torch.float64, {"rtol": 0, "atol": 1e-10}), (torch.float32, {"rtol": 1e-5, "atol": 1e-6}),
])  # fmt: skip
def test_a_step_equals_torch_in_value_and_gradient(dtype, tolerance):
    torch.manual_seed(0)
    cell = nn.LSTMCell(3, 4).to(dtype)
    x, h, c = (torch.randn(2, n, dtype=dtype, requires_grad=True) for n in (3, 4, 4))
    ours = lstm_step(x, (h, c), cell.weight_ih, cell.weight_hh, cell.bias_ih + cell.bias_hh)
    theirs = cell(x, (h, c))
    weights = [cell.weight_ih, cell.weight_hh, cell.bias_ih, x, h, c]
    for mine, reference in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, reference, **tolerance)
    gradients = [torch.autograd.grad(sum(o.sin().sum() for o in out), weights)
                 for out in (ours, theirs)]  # fmt: skip
    for mine, reference in zip(*gradients, strict=True):
        assert torch.allclose(mine, reference, **tolerance)


@pytest.mark.parametrize("cell", CELLS)
def test_a_text_may_be_read_in_pieces(cell):
    torch.manual_seed(0)
    model, ids = RecurrentLM(20, 8, 2, cell=cell).eval(), torch.randint(0, 20, (2, 9))
    whole = model(ids)
    first = model(ids[:, :4])
    second = model(ids[:, 4:], state=first.extra)
    assert torch.allclose(whole.logits, torch.cat((first.logits, second.logits), 1), atol=1e-6)


def test_the_loss_is_of_the_next_token_and_skips_what_has_no_label():
    torch.manual_seed(0)
    model, ids = RecurrentLM(20, 8, 1).eval(), torch.randint(0, 20, (2, 5))
    labels = ids.clone()
    labels[1, 3:] = -100
    output = model(ids, labels=labels)
    log_p = output.logits.log_softmax(-1)
    by_hand = [-log_p[row, t, ids[row, t + 1]] for row, t in
               [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)]]  # fmt: skip
    assert torch.allclose(output.loss, torch.stack(by_hand).mean())
    assert model(ids).loss is None


def test_weights_are_tied_and_forget_gates_open():
    model = RecurrentLM(20, 8, 2)
    assert model.head.weight is model.tokens.weight
    gates = (model.cells.bias_ih_l1 + model.cells.bias_hh_l1)[8:16]
    assert (gates > 0.5).all()


def test_an_unknown_cell_is_named():
    with pytest.raises(ValueError, match="unknown cell 'gru': choose one of rnn, lstm"):
        RecurrentLM(20, 8, 1, cell="gru")


@pytest.fixture
def elmo():
    torch.manual_seed(0)
    return ElmoLM(20, 8, 2).eval()


@pytest.mark.parametrize("place", range(6))
def test_each_direction_sees_its_own_side_only(elmo, place):
    ids = torch.randint(0, 19, (3, 6))
    changed = ids.clone()
    changed[:, place] = 19
    (ahead, back), (ahead_then, back_then) = elmo(ids).logits, elmo(changed).logits
    moved, moved_back = ((a != b).any(-1) for a, b in ((ahead, ahead_then), (back, back_then)))
    assert not moved[:, :place].any() and moved[:, place:].all()
    assert moved_back[:, : place + 1].all() and not moved_back[:, place + 1 :].any()


def test_both_losses_by_hand(elmo):
    ids = torch.randint(0, 20, (1, 4))
    output = elmo(ids, labels=ids)
    ahead, back = (scores[0].log_softmax(-1) for scores in output.logits)
    expected = -sum(ahead[t, ids[0, t + 1]] for t in range(3)) / 3
    expected -= sum(back[t, ids[0, t - 1]] for t in range(1, 4)) / 3
    assert torch.allclose(output.loss, expected)


def test_padding_changes_nothing_in_either_direction(elmo):
    ids = torch.randint(1, 20, (1, 4))
    padded, mask = nn.functional.pad(ids, (0, 3)), torch.tensor([[1, 1, 1, 1, 0, 0, 0]])
    for alone, among in zip(elmo(ids).logits, elmo(padded, mask).logits, strict=True):
        assert torch.allclose(alone, among[:, :4], atol=1e-6)
    labels = padded.masked_fill(mask == 0, -100)
    assert torch.allclose(elmo(ids, labels=ids).loss, elmo(padded, mask, labels).loss, atol=1e-6)
    assert torch.allclose(elmo.represent(ids), elmo.represent(padded, mask)[:, :4], atol=1e-6)


def test_a_representation_is_the_mean_of_all_layers_at_the_start_and_sees_both_sides(elmo):
    ids = torch.randint(0, 19, (1, 5))
    represented = elmo.represent(ids)
    assert represented.shape == (1, 5, 16)
    ahead, back = elmo._both_ways(ids, torch.tensor([5]))
    mean = torch.stack([torch.cat(pair, -1) for pair in zip(ahead, back, strict=True)]).mean(0)
    assert torch.allclose(represented, mean)
    changed = ids.clone()
    changed[:, 2] = 19
    assert (elmo.represent(changed) != represented).any(-1).all()
