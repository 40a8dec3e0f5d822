"""An int8 copy answers alike, is smaller, and leaves the model as it was."""

import copy

import pytest
import torch

from cookbook.finetuning import compression, quantization


def test_smaller_alike_and_a_copy(tiny_bert):
    model = tiny_bert("BertForSequenceClassification", num_labels=4, intermediate_size=512).eval()
    before = copy.deepcopy(model.state_dict())
    small = quantization.dynamic_int8(model)
    ids = torch.randint(5, 300, (6, 12))
    with torch.no_grad():
        theirs, ours = model(ids).logits, small(ids).logits
    assert not torch.equal(theirs, ours)  # or nothing was quantised
    assert (theirs - ours).abs().max() < 0.1 * theirs.abs().max() + 0.02
    layers = [compression.bytes_on_disk(m.bert.encoder) for m in (model, small)]
    assert layers[1] < 0.4 * layers[0]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_without_an_engine_it_says_so(monkeypatch):
    monkeypatch.setattr(type(torch.backends.quantized), "supported_engines", ["none"])
    with pytest.raises(ValueError, match="no engine"):
        quantization.dynamic_int8(torch.nn.Linear(2, 2))
