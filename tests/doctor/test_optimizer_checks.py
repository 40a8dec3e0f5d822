"""O2, O6, O8, O10, P3, P4: found where broken; frozen, tied and shared holdings are healthy."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW

from cookbook.doctor import optimizer_checks
from cookbook.doctor.checks import attempt
from cookbook.doctor.subject import Subject


def found(check, model, **given):
    return attempt(getattr(optimizer_checks, f"check_{check}"), Subject(model, **given))[0]


def verdicts(check, model, **given):
    return [(one.fault, one.severity) for one in found(check, model, **given)]


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2))


HOLDS = "optimizer_holds_the_model"


def test_an_optimizer_of_a_stale_head_is_found(net):
    optimizer = AdamW(net.parameters())
    net[2] = nn.Linear(8, 3)
    (one,) = found(HOLDS, net, optimizer=optimizer)
    assert (one.fault, one.severity, dict(one.measured)) == (
        "O6", "error", {"missing": 2, "foreign": 2})  # fmt: skip
    assert "2.weight" in one.evidence


def test_an_optimizer_built_before_the_embedding_was_replaced_is_found(tiny_bert):
    model = tiny_bert()
    optimizer = AdamW(model.parameters())
    model.resize_token_embeddings(model.config.vocab_size + 5)  # in place: the parameter stays
    assert verdicts(HOLDS, model, optimizer=optimizer) == []
    model.set_input_embeddings(nn.Embedding(model.config.vocab_size, 32))
    model.tie_weights()
    assert verdicts(HOLDS, model, optimizer=optimizer) == [("O6", "error")]


def test_an_optimizer_that_lacks_some_parameters_is_found(net, tiny_bert):
    some = AdamW(list(net.parameters())[1:])
    assert verdicts(HOLDS, net, optimizer=some) == [("O6", "warn")]
    model = tiny_bert("BertForSequenceClassification")
    head = AdamW(model.classifier.parameters())
    assert verdicts(HOLDS, model, optimizer=head) == [("O6", "warn")]


def test_an_optimizer_built_before_the_adapter_is_found(tiny_bert):
    import peft

    model = tiny_bert("BertForSequenceClassification")
    optimizer = AdamW(model.parameters())
    model = peft.get_peft_model(model, peft.LoraConfig(target_modules=["query"]))
    assert verdicts(HOLDS, model, optimizer=optimizer) == [("O6", "error")]
    after = AdamW(p for p in model.parameters() if p.requires_grad)
    assert verdicts(HOLDS, model, optimizer=after) == []


def test_healthy_holdings(net, tiny_bert):
    assert verdicts(HOLDS, net, optimizer=AdamW(net.parameters())) == []
    for parameter in net[0].parameters():
        parameter.requires_grad_(False)
    assert verdicts(HOLDS, net, optimizer=AdamW(net.parameters())) == []  # frozen ones inside
    rest = AdamW(p for p in net.parameters() if p.requires_grad)
    assert verdicts(HOLDS, net, optimizer=rest) == []
    tied = tiny_bert()
    assert verdicts(HOLDS, tied, optimizer=AdamW(tied.parameters())) == []
    assert verdicts(HOLDS, torch.compile(net, backend="eager"), optimizer=rest) == []


def test_two_optimizers_count_together(net):
    both = (SGD(net[0].parameters(), 0.1), AdamW(net[1:].parameters()))
    assert verdicts(HOLDS, net, optimizer=both) == []
    gan = nn.ModuleDict({"generator": nn.Linear(2, 2), "discriminator": nn.Linear(2, 1)})
    one = AdamW(gan["generator"].parameters())
    assert verdicts(HOLDS, gan, optimizer=one) == [("O6", "info")]


def test_a_part_that_the_loss_depends_on_is_no_second_optimizers(net):
    rows = [(torch.randn(net[0].in_features), 0) for _ in range(4)]
    head = AdamW(net[-1].parameters())
    given = {"optimizer": head, "train_dataset": rows, "loss_fn": lambda out, y: out.square().sum()}
    assert verdicts(HOLDS, net, **given) == [("O6", "warn")]
    given["loss_fn"] = lambda out, y: net[-1].bias.sum()
    assert verdicts(HOLDS, net, **given) == [("O6", "info")]


def test_parameters_of_the_loss_and_master_copies_may_be_held(net):
    loss = nn.Linear(2, 2)
    optimizer = AdamW([*net.parameters(), *loss.parameters()])
    assert verdicts(HOLDS, net, optimizer=optimizer, loss_fn=lambda o, y: loss(o).sum()) == []
    net.half()
    masters = AdamW([p.detach().float().clone() for p in net.parameters()])
    assert verdicts(HOLDS, net, optimizer=masters) == []


def test_accelerates_wrapper_is_opened(net):
    from accelerate import Accelerator
    from accelerate.optimizer import AcceleratedOptimizer

    Accelerator()  # the wrapper asks for it
    assert verdicts(HOLDS, net, optimizer=AcceleratedOptimizer(AdamW(net.parameters()))) == []
    stale = AcceleratedOptimizer(AdamW(nn.Linear(2, 2).parameters()))
    assert verdicts(HOLDS, net, optimizer=stale) == [("O6", "error")]


RATE = "rate_is_not_zero"


def test_a_rate_of_zero_is_found(net):
    assert verdicts(RATE, net, optimizer=SGD(net.parameters(), lr=0.0)) == [("O2", "error")]
    assert verdicts(RATE, net, args=SimpleNamespace(learning_rate=0.0)) == [("O2", "error")]
    assert verdicts(RATE, net, optimizer=AdamW(net.parameters(), lr=1e-10)) == [("O2", "warn")]
    swapped = AdamW(net.parameters(), lr=1e-8, eps=1e-3)
    assert verdicts(RATE, net, optimizer=swapped) == [("O2", "warn")]
    assert verdicts(RATE, net, optimizer=AdamW(net.parameters(), lr=1e-7)) == []  # of preferences


def test_a_warm_up_that_begins_at_zero_is_healthy(net):
    optimizer = AdamW(net.parameters(), lr=1e-3)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 10)
    assert optimizer.param_groups[0]["lr"] == 0
    assert verdicts(RATE, net, optimizer=optimizer) == []


def test_one_group_at_zero_is_deliberate(net):
    groups = [{"params": net[0].parameters(), "lr": 0.0}, {"params": net[1:].parameters()}]
    assert verdicts(RATE, net, optimizer=AdamW(groups, lr=1e-3)) == []
    assert verdicts(RATE, net, optimizer=torch.optim.Adafactor(net.parameters(), lr=1e-3)) == []


def test_strong_decay_on_norms(net):
    decay = "decay_spares_norms"
    heavy = AdamW(net.parameters(), weight_decay=0.1)
    assert verdicts(decay, net, optimizer=heavy) == [("O8", "warn")]
    assert verdicts(decay, net, optimizer=AdamW(net.parameters(), weight_decay=0.05)) == [
        ("O8", "info")
    ]
    assert verdicts(decay, net, optimizer=AdamW(net.parameters())) == []
    split = AdamW([
        {"params": [p for p in net.parameters() if p.dim() > 1], "weight_decay": 0.1},
        {"params": [p for p in net.parameters() if p.dim() == 1], "weight_decay": 0.0},
    ])  # fmt: skip
    assert verdicts(decay, net, optimizer=split) == []


def test_prompts_with_a_low_rate_are_advised(tiny_bert):
    import peft

    config = peft.PromptTuningConfig(num_virtual_tokens=2, task_type="SEQ_CLS")
    model = peft.get_peft_model(tiny_bert("BertForSequenceClassification"), config)
    check = "prompts_have_a_high_rate"
    low, high = (SimpleNamespace(learning_rate=rate) for rate in (5e-5, 1e-2))
    assert verdicts(check, model, args=low) == [("O10", "info")]
    assert verdicts(check, model, args=high) == []
    assert verdicts(check, tiny_bert(), args=low) == []


def test_half_weights_under_a_scaler_are_found(net):
    check, fp16 = "precision_is_consistent", SimpleNamespace(fp16=True, learning_rate=1e-3)
    assert verdicts(check, net, args=fp16) == []
    assert verdicts(check, net.half(), args=fp16) == [("P4", "error")]
    net.requires_grad_(False)
    net[2].float().requires_grad_(True)  # a frozen half backbone under a trained float head
    assert verdicts(check, net, args=fp16) == []


def test_bf16_weights_with_a_tiny_rate_are_advised(net):
    check = "precision_is_consistent"
    net.bfloat16()
    assert verdicts(check, net, args=SimpleNamespace(learning_rate=1e-5)) == [("P3", "info")]
    assert verdicts(check, net, args=SimpleNamespace(learning_rate=1e-3)) == []


def test_an_optimizer_that_cannot_be_read_is_passed_over(net):
    assert attempt(
        optimizer_checks.check_optimizer_holds_the_model, Subject(net, optimizer=object())
    ) == ([], "the optimizer has no param_groups")


def test_a_schedule_that_begins_anew_under_an_optimizer_that_has_made_steps_is_k2(net):
    def told(steps, along, first=0.1, last=1.0):
        optimizer = AdamW(net.parameters(), lr=1e-3)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, first, last, total_iters=100)
        for _ in range(steps):
            for parameter in net.parameters():
                parameter.grad = torch.ones_like(parameter)
            optimizer.step()
            if along:
                schedule.step()
        return verdicts("schedule_goes_on", net, optimizer=optimizer, lr_scheduler=schedule)

    assert told(30, along=False) == [("K2", "warn")]
    assert told(30, along=False, first=1.0, last=0.0) == []  # a second stage begins at the top
    moments = torch.optim.lr_scheduler.LinearLR(AdamW(net.parameters()), last_epoch=-1)
    moments.last_epoch = 20  # loaded, and the optimizer was not
    for made, expected in ((AdamW, [("K2", "warn")]), (SGD, [])):
        fresh = made(net.parameters(), lr=0.1)
        given = {"optimizer": fresh, "lr_scheduler": moments}
        assert verdicts("schedule_goes_on", net, **given) == expected
    heavy = SGD(net.parameters(), lr=0.1, momentum=0.9)  # its state counts no steps
    given = {"optimizer": heavy, "lr_scheduler": moments}
    assert verdicts("schedule_goes_on", net, **given) == [("K2", "warn")]
    heavy.step()
    assert verdicts("schedule_goes_on", net, **given) == []
    assert told(30, along=True) == [] and told(3, along=False) == [] and told(0, along=False) == []
