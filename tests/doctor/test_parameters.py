import peft
import pytest
import torch
from torch import nn

from cookbook.doctor import parameters


def mlp():
    return nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.1), nn.Linear(4, 2))


def test_an_optimizer_of_all_parameters_lacks_none():
    model = mlp()
    found = parameters.facts(model, [torch.optim.SGD(model.parameters(), 0.1)])
    assert (found["lacking"], found["foreign"], found["trainable"]) == ([], 0, 4)


def test_stale_parameters_are_foreign_and_alike():
    model = mlp()
    optimizer = torch.optim.SGD(mlp().parameters(), 0.1)
    found = parameters.facts(model, [optimizer])
    assert len(found["lacking"]) == 4 and found["foreign_alike"] == 4


def test_a_chosen_head_is_told_from_a_forgotten_one():
    model = mlp()
    head, body = model[2].parameters(), model[0].parameters()
    assert parameters.facts(model, [torch.optim.SGD(head, 0.1)])["head_only"]
    assert not parameters.facts(model, [torch.optim.SGD(body, 0.1)])["head_only"]


def test_dropout_between_frozen_weights_does_not_count():
    model = nn.ModuleDict({"body": mlp(), "head": nn.Sequential(nn.Dropout(0.2), nn.Linear(2, 2))})
    assert len(parameters.dropouts(model)) == 2
    model["body"].requires_grad_(False)
    assert parameters.dropouts(model) == [model["head"][0]]
    model["head"][0].p = 0.0
    assert parameters.dropouts(model) == []


def test_lora_and_prompts_are_recognised(tiny_bert):
    config = peft.LoraConfig(target_modules=["query"], r=2)
    lora = peft.get_peft_model(tiny_bert("BertForSequenceClassification"), config)
    held = parameters.lora_bs(lora)
    assert held and not any(b.any() for b in held.values())
    assert parameters.prompt_method(lora) == ""
    for name, parameter in lora.named_parameters():
        parameter.requires_grad = "lora_A" in name  # B is frozen, and so stays zero
    assert parameters.lora_bs(lora).keys() == held.keys()
    lora.requires_grad_(False)
    assert parameters.lora_bs(lora) == {}
    prompt = peft.PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3)
    tuned = peft.get_peft_model(tiny_bert("BertForSequenceClassification"), prompt)
    assert parameters.prompt_method(tuned) == "PROMPT_TUNING"


@pytest.mark.parametrize(
    ("clears", "cleared"), [(range(99), 4), ((), 0), ((4,), 1), ((0, 1, 2), 1)]
)  # fmt: skip
def test_lora_is_looked_at_around_its_steps(tiny_bert, clears, cleared):
    """Cleared behind every step; never; once, as a merge does it; while it is being made."""
    config = peft.LoraConfig(target_modules=["query"], r=2)
    lora = peft.get_peft_model(tiny_bert("BertForSequenceClassification"), config)
    bs, facts = parameters.LoraBs(lora), {}
    for step in range(10):
        bs.before(step)
        for b in bs.held.values():
            b.data.fill_(0.1)
        bs.after(step, facts)
        if step in clears:
            for b in bs.held.values():
                b.data.zero_()
    assert facts.get("lora_cleared", 0) == cleared and facts["lora_zero"] == 0


def test_lacking_parameters_are_watched_for_gradients_and_movement():
    model, facts = mlp(), {}
    lacking = parameters.Lacking(model, ["0.weight", "2.weight"])
    model(torch.ones(1, 4)).sum().backward()
    lacking.look(1, facts)
    assert facts == {"lacking_graded": ["0.weight", "2.weight"], "lacking_moved": False}
    with torch.no_grad():
        model[0].weight.add_(1)
    lacking.look(3, facts)
    assert facts["lacking_moved"]


def test_the_main_optimizer_holds_most_of_the_weights():
    few, many = nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    first, second = (torch.optim.SGD(m.parameters(), 0.1) for m in (few, many))
    weights = [*few.parameters(), *many.parameters()]
    assert parameters.main_optimizer([first, second], weights) is second
    assert parameters.main_optimizer([first, second], few.parameters()) is first
    assert parameters.main_optimizer([object()], weights) is None


def test_parameters_that_thaw_are_followed_into_the_optimizer():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model[1].parameters(), lr=0.1)
    lacking, known = parameters.Lacking(model, []), {}
    model(torch.ones(1, 2)).sum().backward()
    lacking.look(2, known, optimizer.param_groups)
    assert "thawed" not in known
    model[0].requires_grad_(True)
    model(torch.ones(1, 2)).sum().backward()
    lacking.look(3, known, optimizer.param_groups)
    assert known["thawed"] == ["0.weight", "0.bias"] and known["thawed_looks"] == 1
    optimizer.add_param_group({"params": model[0].parameters()})
    lacking.look(4, known, optimizer.param_groups)
    assert known["thawed"] == [] and known["thawed_looks"] == 1
