"""M2: layers in Python lists are found; what is hidden on purpose is not."""

import types

import pytest
import torch
from torch import nn

from cookbook.doctor import unlisted_probes
from cookbook.doctor.checks import attempt
from cookbook.doctor.subject import Subject

ARGS = types.SimpleNamespace(per_device_train_batch_size=4)
ROWS = [{"x": torch.randn(6), "labels": i % 3} for i in range(16)]
OUTSIDE = nn.Linear(8, 3)


class Net(nn.Module):
    """A body, and a head that is kept as `keep` says."""

    def __init__(self, keep):
        super().__init__()
        self.body, self.given = nn.Linear(6, 8), None
        keep(self)

    def forward(self, x, labels=None):
        hidden = self.body(x).relu()
        logits = self.answer(hidden)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return {"logits": logits, "loss": loss}


def in_a_list(net):
    net.heads = [nn.Linear(8, 3)]
    net.answer = lambda hidden: net.heads[0](hidden)


def in_a_dict(net):
    net.heads = {"task": nn.Linear(8, 3)}
    net.answer = lambda hidden: net.heads["task"](hidden)


def weights_in_a_tuple(net):
    net.mix = (nn.Parameter(torch.randn(8, 3)),)
    net.answer = lambda hidden: hidden @ net.mix[0]


def outside(net):
    net.answer = lambda hidden: OUTSIDE(hidden)


def found(model, **given):
    subject = Subject(model, train_dataset=ROWS, **({"args": ARGS} | given))
    said, reason = attempt(unlisted_probes.check_weights_are_listed, subject)
    assert "failed" not in reason, reason
    return [(one.fault, one.severity) for one in said]


@pytest.mark.parametrize("keep", [in_a_list, in_a_dict, weights_in_a_tuple, outside])
def test_layers_that_no_list_of_parameters_holds(keep):
    model = Net(keep)
    assert found(model) == [("M2", "warn")]
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    assert found(model, args=None, optimizer=optimizer) == [("M2", "warn")]


def listed(net):
    net.heads = nn.ModuleList([nn.Linear(8, 3)])
    net.answer = lambda hidden: net.heads[0](hidden)


def listed_twice(net):
    """A list of what is registered elsewhere."""
    net.head = nn.Linear(8, 3)
    net.order = [net.body, net.head]
    net.answer = lambda hidden: net.order[1](hidden)


def frozen_in_a_list(net):
    """A fixed random projection that is not saved."""
    net.fixed, net.head = [nn.Linear(8, 8).requires_grad_(False)], nn.Linear(8, 3)
    net.answer = lambda hidden: net.head(net.fixed[0](hidden))


def teacher_without_gradients(net):
    net.teacher, net.head = [nn.Linear(8, 3)], nn.Linear(8, 3)

    def answer(hidden):
        with torch.no_grad():
            past = net.teacher[0](hidden)
        return net.head(hidden) + 0.1 * past

    net.answer = answer


def pretrained_features(net):
    """Loaded by transformers, and kept out of the checkpoint."""
    net.features, net.head = [nn.Linear(8, 8)], nn.Linear(8, 3)
    for parameter in net.features[0].parameters():
        parameter._is_hf_initialized = True
    net.answer = lambda hidden: net.head(net.features[0](hidden))


def weights_by_a_network(net):
    net.maker = nn.Linear(1, 24)
    net.answer = lambda hidden: hidden @ net.maker(torch.ones(1)).view(8, 3)


@pytest.mark.parametrize(
    "keep", [listed, listed_twice, frozen_in_a_list, teacher_without_gradients,
             pretrained_features, weights_by_a_network],
)  # fmt: skip
def test_what_is_listed_or_hidden_on_purpose(keep):
    assert found(Net(keep)) == []


def test_an_optimizer_that_was_given_them():
    model = Net(in_a_list)
    every = [*model.parameters(), *model.heads[0].parameters()]
    assert found(model, optimizer=torch.optim.SGD(every, 0.1)) == []
    two = [torch.optim.SGD(p, 0.1) for p in (model.parameters(), model.heads[0].parameters())]
    assert found(model, optimizer=two) == []
    assert found(model, args=None) == []  # nobody knows what an optimizer will be given


class Own:
    """A trainer that makes an optimizer of its own."""

    def create_optimizer(self):
        """Not called."""


def test_a_trainer_that_makes_its_own_optimizer_may_know_them():
    assert found(Net(in_a_list), trainer=Own()) == []
