import torch
import torch.utils.checkpoint
from torch import nn

from cookbook.doctor import gradients
from cookbook.doctor.subject import Subject


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 1)

    def forward(self, x):
        h = torch.utils.checkpoint.checkpoint(self.first, x.requires_grad_(), use_reentrant=True)
        return self.second(torch.relu(h)).mean()


def test_the_gradient_is_that_of_backward_and_no_grad_is_touched():
    torch.manual_seed(0)
    model, x = Checkpointed(), torch.randn(5, 3)
    model(x).backward()
    wanted = [p.grad.clone() for p in model.parameters()]
    kept = [p.grad for p in model.parameters()]
    found = gradients.gradients(lambda: model(x), list(model.parameters()))
    assert all(torch.allclose(a, b) for a, b in zip(found, wanted, strict=True))
    assert all(p.grad is g for p, g in zip(model.parameters(), kept, strict=True))


def test_what_no_graph_reaches_has_no_gradient_and_sparse_rows_come_dense():
    table, other = nn.Embedding(5, 2, sparse=True), nn.Linear(2, 2)
    parameters = [table.weight, other.weight]
    found = gradients.gradients(lambda: table(torch.tensor([1, 1])).sum(), parameters)
    assert found[1] is None and found[0].tolist()[1] == [2.0, 2.0]


def test_running_statistics_and_random_numbers_stay():
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout())
    before, state = model[0].running_mean.clone(), torch.get_rng_state()
    with gradients.undisturbed(model):
        model(torch.randn(8, 2))
    assert torch.equal(model[0].running_mean, before) and torch.equal(torch.get_rng_state(), state)


def test_a_decoder_that_shifts_has_one_target_less_in_each_row(tiny_bert):
    import transformers

    labels = torch.tensor([[1, 2, 3, -100], [1, 2, 3, 4]])
    batch = {"input_ids": labels.clamp_min(0), "labels": labels}
    size = {"vocab_size": 9, "n_positions": 8, "n_embd": 8, "n_layer": 1, "n_head": 1}
    decoder = Subject(transformers.GPT2LMHeadModel(transformers.GPT2Config(**size)))
    assert gradients.label_counts(decoder, batch) == (5, 7)
    assert gradients.label_counts(Subject(tiny_bert()), batch) == (7, 7)
    assert gradients.label_counts(Subject(nn.Linear(1, 1)), (labels, labels[:, 0])) == (2, 2)


def test_a_trainers_own_loss_counts_first():
    class Doubling:
        def compute_loss(self, model, inputs, return_outputs=False):
            outputs = model(inputs["input"])
            return 2 * outputs.mean(), outputs

    model, batch = nn.Linear(2, 1), {"input": torch.ones(3, 2)}
    loss, outputs = gradients.training_loss(Subject(model, trainer=Doubling()), batch)
    assert torch.allclose(loss, 2 * outputs.mean()) and outputs.shape == (3, 1)


def test_a_few_matrices_from_first_to_last():
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(20)))
    chosen = list(gradients.sampled(model, 5))
    assert chosen[0] == "0.weight" and chosen[-1] == "19.weight" and len(chosen) == 5
