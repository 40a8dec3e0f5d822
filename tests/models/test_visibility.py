"""What each family sees: exactly the pattern that defines it."""

import torch

from cookbook.models.registry import build
from cookbook.models.visibility import visibility

LENGTH, SMALL = 6, {"vocab_size": 50, "length": 16}
IDS = torch.tensor([[2, 7, 8, 9, 10, 3]])
ALL, BEFORE = torch.ones(LENGTH, LENGTH), torch.ones(LENGTH, LENGTH).tril()


def test_an_encoder_sees_everything_from_everywhere():
    assert torch.equal(visibility(build("bert", **SMALL), {"input_ids": IDS}), ALL)


def test_a_decoder_sees_itself_and_what_stands_before():
    assert torch.equal(visibility(build("gpt2", **SMALL), {"input_ids": IDS}), BEFORE)


def test_an_encoder_decoder_sees_all_of_the_source_and_what_it_wrote_before():
    model = build("t5", **SMALL)
    inputs = {"input_ids": IDS, "decoder_input_ids": IDS + 1}
    assert torch.equal(visibility(model, inputs), ALL)
    assert torch.equal(visibility(model, inputs, "decoder_input_ids"), BEFORE)


def test_what_is_masked_is_not_seen_and_the_mode_comes_back():
    model = build("bert", **SMALL).train()
    mask = torch.tensor([[1, 1, 1, 1, 0, 0]])
    seen = visibility(model, {"input_ids": IDS, "attention_mask": mask})
    assert model.training
    assert torch.equal(seen[:4], mask.float().expand(4, -1))
