"""Adapters by hand equal peft's with the same weights, and start as what they adapt."""

import peft
import pytest
import torch
from torch import nn

from cookbook.maths.adapters import (
    Bottleneck,
    LoRALinear,
    bias_names,
    dora_weight,
    ia3,
    with_prompt,
)


class Net(nn.Module):
    """One linear layer with a name that peft can be pointed at."""

    def __init__(self, dtype):
        super().__init__()
        self.dense = nn.Linear(6, 5, dtype=dtype)

    def forward(self, x):
        return self.dense(x)


@pytest.fixture
def net(dtype, draw):
    net = Net(dtype)
    net.dense.weight.data = draw(5, 6, dtype=dtype)
    net.dense.bias.data = draw(5, dtype=dtype)
    return net


@pytest.fixture
def factors(draw, dtype):
    return draw(2, 6, dtype=dtype), draw(5, 2, dtype=dtype)


def with_peft(net, factors, dtype, **settings):
    config = peft.LoraConfig(r=2, lora_alpha=6, target_modules=["dense"], **settings)
    model = peft.get_peft_model(net, config, autocast_adapter_dtype=False).to(dtype)
    layer = model.base_model.model.dense
    layer.lora_A.default.weight.data, layer.lora_B.default.weight.data = (
        f.clone() for f in factors
    )
    return model, layer


def by_hand(net, factors):
    ours = LoRALinear(net.dense, rank=2, alpha=6)
    ours.a.data, ours.b.data = (f.clone() for f in factors)
    return ours


def test_lora_equals_peft(net, factors, dtype, draw, assert_equal):
    ours, x = by_hand(net, factors), draw(3, 6, dtype=dtype)
    theirs, layer = with_peft(net, factors, dtype)
    assert_equal(ours, theirs, x)
    pairs = [(ours.a, layer.lora_A.default.weight), (ours.b, layer.lora_B.default.weight)]
    for leaf in (leaf for pair in pairs for leaf in pair):
        leaf.grad = None
    for model in (ours, theirs):
        model(x).square().sum().backward()
    for mine, peers in pairs:
        torch.testing.assert_close(mine.grad, peers.grad)


def test_merged_equals_unmerged_and_pefts_merge(net, factors, dtype, draw, assert_equal):
    ours, x = by_hand(net, factors), draw(3, 6, dtype=dtype)
    merged = ours.merged()
    assert_equal(ours, merged, x)
    theirs, _ = with_peft(net, factors, dtype)
    torch.testing.assert_close(merged.weight, theirs.merge_and_unload().dense.weight)


def test_lora_starts_as_the_layer_and_only_the_factors_train(draw):
    layer, x = nn.Linear(6, 5).double(), draw(3, 6)
    adapted = LoRALinear(layer, rank=3)
    assert torch.equal(adapted(x), layer(x))
    before = layer.weight.clone()
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], 0.1)
    for _ in range(2):  # at the first step B alone has a gradient
        optimizer.zero_grad()
        adapted(x).square().sum().backward()
        optimizer.step()
    assert torch.equal(layer.weight, before) and layer.weight.grad is None
    assert adapted.a.grad.abs().sum() > 0
    delta = adapted.merged().weight - before
    assert 0 < torch.linalg.matrix_rank(delta) <= 3


def test_a_layer_without_bias_merges(draw):
    adapted = LoRALinear(nn.Linear(4, 4, bias=False).double(), rank=1)
    adapted.b.data = draw(4, 1)
    x = draw(2, 4)
    torch.testing.assert_close(adapted.merged()(x), adapted(x))


def test_rank_0_is_refused():
    with pytest.raises(ValueError, match="rank is 0: a product of rank 1 is the least"):
        LoRALinear(nn.Linear(2, 2), rank=0)


def test_dora_equals_peft_in_value_and_gradient(net, factors, dtype, draw, assert_equal):
    a, b = factors
    weight, bias = net.dense.weight.detach().clone(), net.dense.bias.detach().clone()
    theirs, layer = with_peft(net, factors, dtype, use_dora=True)
    magnitude = draw(5, dtype=dtype).abs() + 0.5
    vector = layer.lora_magnitude_vector.default.weight
    vector.data = magnitude.clone()

    def ours(x):
        return nn.functional.linear(x, dora_weight(weight, a, b, 3.0, magnitude), bias)

    x = draw(3, 6, dtype=dtype)
    assert_equal(ours, theirs, x)
    pairs = [
        (a.requires_grad_(), layer.lora_A.default.weight),
        (b.requires_grad_(), layer.lora_B.default.weight),
        (magnitude.requires_grad_(), vector),
    ]
    for leaf in (leaf for pair in pairs for leaf in pair):
        leaf.grad = None
    for model in (ours, theirs):
        model(x).square().sum().backward()
    for mine, peers in pairs:  # of A and B only with the norm held constant
        torch.testing.assert_close(mine.grad, peers.grad)


def test_dora_starts_as_the_weight(draw):
    weight, a, b = draw(5, 6), draw(2, 6), torch.zeros(5, 2, dtype=torch.float64)
    torch.testing.assert_close(dora_weight(weight, a, b, 2.0, weight.norm(dim=1)), weight)


def test_ia3_equals_peft(net, dtype, draw, assert_equal):
    weight, bias = net.dense.weight.detach().clone(), net.dense.bias.detach().clone()
    config = peft.IA3Config(target_modules=["dense"], feedforward_modules=[])
    theirs = peft.get_peft_model(net, config, autocast_adapter_dtype=False).to(dtype)
    rescale = draw(5, dtype=dtype)
    theirs.base_model.model.dense.ia3_l.default.data = rescale.view(5, 1).clone()
    assert_equal(lambda x: ia3(x, weight, bias, rescale), theirs, draw(3, 6, dtype=dtype))


def test_a_bottleneck_is_the_identity_at_the_start_and_learns(draw):
    module, h = Bottleneck(8, 2).double(), draw(2, 5, 8)
    assert torch.equal(module(h), h)
    module(h).square().sum().backward()
    assert module.up.weight.grad.abs().sum() > 0  # or it would stay the identity for ever


def test_a_bottleneck_by_hand(draw):
    module, h = Bottleneck(3, 1).double(), draw(4, 3)
    for parameter in module.parameters():
        parameter.data = draw(*parameter.shape)
    bent = torch.nn.functional.gelu(h @ module.down.weight.T + module.down.bias)
    torch.testing.assert_close(module(h), h + bent * module.up.weight[:, 0] + module.up.bias)


def test_biases_get_the_gradient_that_full_fine_tuning_gives_them(tiny_bert):
    batch = {"input_ids": torch.tensor([[2, 5, 6, 3]]), "labels": torch.tensor([1])}
    full, few = (tiny_bert("BertForSequenceClassification") for _ in range(2))
    names = set(bias_names(few))
    for name, parameter in few.named_parameters():
        parameter.requires_grad_(name in names)
    for model in (full, few):
        model.eval()(**batch).loss.backward()
    grads = dict(full.named_parameters())
    for name, parameter in few.named_parameters():
        if name in names:
            torch.testing.assert_close(parameter.grad, grads[name].grad)
        else:
            assert parameter.grad is None
    assert {name.rpartition(".")[2] for name in names} == {"bias"}


def test_a_prompt_equals_pefts(tiny_bert, draw):
    model = tiny_bert("BertForSequenceClassification").eval()
    config = peft.PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3)
    theirs = peft.get_peft_model(model, config).eval()
    prompt = theirs.prompt_encoder.default.embedding.weight
    ids, mask = torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]]), torch.tensor([[1] * 4, [1, 1, 1, 0]])
    embedded = model.get_input_embeddings()(ids)
    longer, longer_mask = with_prompt(embedded, mask, prompt)
    with torch.no_grad():
        ours = model(inputs_embeds=longer, attention_mask=longer_mask).logits
        expected = theirs(input_ids=ids, attention_mask=mask).logits
    torch.testing.assert_close(ours, expected)
