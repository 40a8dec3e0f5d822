"""Bottlenecks go in without a change of the answers, and alone train."""

import pytest
import torch

from cookbook.finetuning import adapters
from cookbook.maths.adapters import Bottleneck

BATCH = {"input_ids": torch.tensor([[2, 5, 6, 3], [2, 9, 8, 3]])}


@pytest.mark.parametrize(("both", "count"), [(True, 4), (False, 2)])
def test_the_model_is_the_same_function_after_insertion(new, both, count):
    model = new().eval()
    before = model(**BATCH).logits
    adapters.insert(model, 4, after_attention=both)
    assert torch.equal(model(**BATCH).logits, before)
    assert sum(isinstance(module, Bottleneck) for module in model.modules()) == count
    assert len(adapters.adapter_names(model)) == 4 * count


def test_each_adapter_matters_once_it_has_learnt(new):
    model = adapters.insert(new().eval(), 4, after_attention=True)
    before = model(**BATCH).logits
    for module in [m for m in model.modules() if isinstance(m, Bottleneck)]:
        kept = module.up.weight.data.clone()
        module.up.weight.data.normal_()
        assert not torch.allclose(model(**BATCH).logits, before)
        module.up.weight.data = kept


@pytest.mark.parametrize("strategy", ["houlsby", "pfeiffer"])
def test_the_encoder_keeps_its_bits(job, new, strategy):
    trained = getattr(adapters, strategy)(job, size=4)
    start = new().state_dict()
    end = {n.replace(".linear.", "."): p for n, p in trained.model.state_dict().items()}
    moved = {name for name in start if not torch.equal(start[name], end[name])}
    norms = {name for name in start if "LayerNorm" in name}
    encoder = {name for name in moved if "pooler" not in name and "classifier" not in name}
    assert encoder == (norms if strategy == "houlsby" else set())
    ups = [m.up.weight for m in trained.model.modules() if isinstance(m, Bottleneck)]
    assert ups and all(up.abs().sum() > 0 for up in ups)
