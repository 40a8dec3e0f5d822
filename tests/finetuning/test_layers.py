"""Layers are found by what they are, not by what an architecture calls them."""

import pytest
import torch
import transformers

from cookbook.finetuning.layers import layers_of, matrices, sublayer_outputs

SMALL = {"vocab_size": 60, "num_labels": 2}
BERT = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}


def distilbert():
    config = transformers.DistilBertConfig(**SMALL, dim=16, n_layers=3, n_heads=2, hidden_dim=24)
    return transformers.DistilBertForSequenceClassification(config)


def roberta():
    config = transformers.RobertaConfig(**SMALL, **BERT)
    return transformers.RobertaForSequenceClassification(config)


def bert():
    return transformers.BertForSequenceClassification(transformers.BertConfig(**SMALL, **BERT))


@pytest.mark.parametrize("make", [bert, roberta, distilbert])
def test_layers_and_their_parts(make):
    model = make()
    layers = layers_of(model)
    assert len(layers) == 3
    names = matrices(model)
    assert len(names) == 18 and not [name for name in names if "classif" in name or "pool" in name]
    for layer in layers:
        shapes = [layer.get_submodule(name).weight.shape for name in sublayer_outputs(layer)]
        assert shapes == [(16, 16), (16, 24)]


@pytest.mark.parametrize("make", [bert, roberta, distilbert])
def test_the_first_of_them_is_where_attention_ends(make):
    """Silencing it leaves nothing of attention: the answer no longer depends on other tokens."""
    model, ids = make().eval(), torch.tensor([[5, 6, 7, 8], [5, 9, 9, 9]])
    for layer in layers_of(model):
        module = layer.get_submodule(sublayer_outputs(layer)[0])
        torch.nn.init.zeros_(module.weight)
    with torch.no_grad():
        first = model.base_model(ids)[0][:, 0]
    torch.testing.assert_close(first[0], first[1])


def test_shared_layers_are_named():
    config = transformers.AlbertConfig(**SMALL, **BERT, embedding_size=8)
    model = transformers.AlbertForSequenceClassification(config)
    with pytest.raises(ValueError, match="AlbertForSequenceClassification has no list of 3 layers"):
        layers_of(model)


def test_another_kind_of_layer_is_named():
    with pytest.raises(ValueError, match="Linear holds 1 linear maps, not the six of an encoder"):
        sublayer_outputs(torch.nn.Linear(2, 2))
