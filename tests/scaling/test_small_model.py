import math

import torch

from cookbook.scaling.small_model import Block, SmallLM


def test_a_block_equals_torchs_own():
    torch.manual_seed(0)
    ours = Block(32, head=16).double()
    theirs = torch.nn.TransformerEncoderLayer(
        32, 2, 128, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    ).double()
    attention = theirs.self_attn
    with torch.no_grad():
        parts = [ours.query.weight, ours.key.weight, ours.value.weight]
        attention.in_proj_weight.copy_(torch.cat(parts))
        biases = [ours.query.bias, torch.zeros(32), ours.value.bias]
        attention.in_proj_bias.copy_(torch.cat(biases))
    attention.out_proj.load_state_dict(ours.out.state_dict())
    theirs.linear1.load_state_dict(ours.up.state_dict())
    theirs.linear2.load_state_dict(ours.down.state_dict())
    x = torch.randn(2, 5, 32).double()
    assert torch.allclose(ours(x), theirs(x), atol=1e-10)


def test_padding_does_not_change_what_is_there():
    torch.manual_seed(0)
    model, ids = SmallLM(50), torch.randint(0, 50, (2, 6))
    padded = torch.nn.functional.pad(ids, (0, 3))
    mask = (torch.arange(9) < 6).long().expand(2, 9)
    assert torch.allclose(model(padded, mask)[:, :6], model(ids), atol=1e-6)
    square = (mask[:, None, :] * mask[:, :, None]).bool()[:, None] | torch.eye(9, dtype=torch.bool)
    assert torch.allclose(model(padded, square)[:, :6], model(ids), atol=1e-6)


def test_the_output_is_tied_and_the_first_loss_is_ln_v():
    torch.manual_seed(0)
    model, ids = SmallLM(50), torch.randint(0, 50, (8, 16))
    logits = model(ids)
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten())
    assert abs(loss.item() - math.log(50)) < 0.1
    names = [name for name, _ in model.named_parameters() if "embed" in name or name == "bias"]
    assert names == ["bias", "embed.weight"]
