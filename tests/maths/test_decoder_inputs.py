"""What a decoder reads, and the loss of a span, are the library's."""

import pytest
import torch
from transformers import BertConfig, BertForQuestionAnswering, T5Config, T5ForConditionalGeneration
from transformers.models.bart.modeling_bart import shift_tokens_right

from cookbook.maths import decoder_inputs


def labels(rows=4, length=7):
    found = torch.randint(3, 40, (rows, length), generator=torch.Generator().manual_seed(0))
    for row in range(1, rows):
        found[row, -row:] = -100
    return found


def test_inputs_equal_those_of_bart_and_t5():
    wanted = labels()
    ours = decoder_inputs.shift_right(wanted, start=2, padding=0)
    assert torch.equal(ours, shift_tokens_right(wanted, 0, 2))
    config = T5Config(vocab_size=40, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    config.decoder_start_token_id = 0
    model = T5ForConditionalGeneration(config)
    assert torch.equal(decoder_inputs.shift_right(wanted, 0, 0), model._shift_right(wanted))


def test_every_input_is_the_target_before_it():
    wanted = labels()
    ours = decoder_inputs.shift_right(wanted, start=2, padding=0)
    kept = wanted[:, :-1] != -100
    assert torch.equal(ours[:, 1:][kept], wanted[:, :-1][kept]) and (ours[:, 0] == 2).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_loss_of_a_span_is_berts(dtype):
    torch.manual_seed(0)
    config = BertConfig(vocab_size=40, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    model = BertForQuestionAnswering(config).to(dtype).eval()
    starts, ends = torch.tensor([[0, 3, 2, 1], [0, 4, 6, 1]])
    out = model(labels().clamp(min=0), start_positions=starts, end_positions=ends)
    ours = decoder_inputs.span_loss(out.start_logits, out.end_logits, starts, ends)
    close = {"rtol": 0, "atol": 1e-10} if dtype == torch.float64 else {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(ours, out.loss, **close)
