import pytest
import torch
import torch.utils.checkpoint
import transformers
from torch import nn

from cookbook.doctor import examination, gradient_probes
from cookbook.doctor.subject import Subject

functional = nn.functional


class Deep(nn.Module):
    """Four layers; `between` acts on what stands before layer `at`; a head that nobody uses."""

    def __init__(self, at=2, between=lambda h: h, residual=False):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(4))
        self.out, self.unused = nn.Linear(6, 3), nn.Linear(6, 3)
        self.at, self.between, self.residual = at, between, residual

    def forward(self, x):
        for i, layer in enumerate(self.layers):
            x = self.between(x) if i == self.at else x
            h = torch.tanh(layer(x))
            x = x + h if self.residual else h
        self.unused(x)
        return self.out(x)


def pairs(count=16):
    draw = torch.Generator().manual_seed(0)
    return [(torch.randn(6, generator=draw), i % 3) for i in range(count)]


def found(model, data=None, loss_fn=functional.cross_entropy, **given):
    subject = Subject(model, train_dataset=data or pairs(), loss_fn=loss_fn, **given)
    said, why = examination.attempt(gradient_probes.check_cut_gradient, subject)
    assert why in ("", "does not apply"), why
    return said


def said_m8(said):
    return [(f.fault, f.severity) for f in said] == [("M8", "error")]


@pytest.mark.parametrize("cut", [
    lambda h: h.detach(), lambda h: h.data, lambda h: torch.tensor(h.tolist()),
])  # fmt: skip
def test_layers_before_a_detach_are_named_from_first_to_last(cut):
    said = found(Deep(2, cut))
    assert said_m8(said)
    assert said[0].measured["first"] == "layers.0.weight"
    assert said[0].measured["last"] == "layers.1.bias" and "detach" in said[0].remedy


@pytest.mark.parametrize("flat", [
    lambda h: (h * 8).round() / 8, torch.sign, lambda h: (h > 0).float() * h.detach() + 0 * h,
])  # fmt: skip
def test_layers_before_a_step_whose_slope_is_zero(flat):
    said = found(Deep(2, flat))
    assert said_m8(said)
    assert said[0].measured["last"] == "layers.1.bias" and "rounding" in said[0].remedy


def without_answer(model):
    """Its head begins at zero: nothing before it gets a slope yet, and nothing moves the loss."""
    nn.init.zeros_(model.out.weight)
    return model


def masked(model):
    for parameter in model.layers.parameters():
        parameter.register_hook(torch.zeros_like)
    return model


@pytest.mark.parametrize("model", [
    Deep(2, lambda h: h + (h.round() - h).detach()),  # straight through
    without_answer(Deep()), masked(Deep()), Deep(2, lambda h: (h * 8).round() / 8, True).half(),
])  # fmt: skip
def test_slopes_of_zero_that_are_meant(model):
    half = next(model.parameters()).dtype
    assert found(model, [(x.to(half), y) for x, y in pairs()]) == []


def test_a_loss_at_its_floor_has_no_slope_anywhere():
    assert found(Deep(), loss_fn=lambda out, y: torch.relu(out - 1e4).mean()) == []


class Aside(Deep):
    def forward(self, x):
        for i, layer in enumerate(self.layers):
            h = torch.tanh(layer(x))
            x = x + (h.detach() if i == 1 else h)
        return self.out(x)


def test_a_branch_that_is_cut_beside_the_residual_is_named():
    said = found(Aside())
    assert said_m8(said) and said[0].measured["first"] == "layers.1.weight"


class NoGrad(Deep):
    def forward(self, x):
        with torch.no_grad():
            return super().forward(x)


def test_a_loss_without_gradient():
    said = found(NoGrad())
    assert said_m8(said) and "no gradient back to the model" in said[0].evidence


def test_a_head_that_nobody_uses_and_frozen_layers_are_no_cut():
    assert found(Deep()) == []
    frozen = Deep(2, lambda h: h.detach())
    for p in frozen.layers[:2].parameters():
        p.requires_grad_(False)
    assert found(frozen) == []


def test_features_that_the_optimizer_does_not_hold_are_no_cut():
    model = Deep(4)
    model.forward = lambda x: model.out(Deep.forward(model, x).detach().repeat(1, 2))
    optimizer = torch.optim.SGD(model.out.parameters())
    assert found(model, optimizer=optimizer) == []
    assert said_m8(found(model))


class LayerDrop(Deep):
    """A layer is left out at random in training, as in Wav2Vec2."""

    def forward(self, x):
        for i, layer in enumerate(self.layers):
            if i != 1 or not self.training or torch.rand(()) < 0.5:
                x = torch.tanh(layer(x))
        return self.out(x)


@pytest.mark.parametrize("seed", range(4))
def test_a_layer_that_is_dropped_at_random_is_no_cut(seed):
    model = LayerDrop()
    torch.manual_seed(seed)
    assert found(model) == []


class Followed(nn.Module):
    """A student and a teacher that follows it: the teacher gets no gradient by right."""

    def __init__(self):
        super().__init__()
        self.student, self.teacher = nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x):
        with torch.no_grad():
            wanted = self.teacher(x)
        return self.student(x) - wanted


def test_a_teacher_is_moved_not_trained():
    assert found(Followed(), loss_fn=lambda out, y: out.square().mean()) == []


class Checkpointed(nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(20, 6)
        self.inside, self.out, self.reentrant = nn.Linear(6, 6), nn.Linear(6, 3), reentrant
        self.table.requires_grad_(False)

    def forward(self, x):
        h = torch.utils.checkpoint.checkpoint(
            self.inside, self.table(x), use_reentrant=self.reentrant
        )
        return self.out(h.mean(1))


def test_reentrant_checkpointing_behind_a_frozen_embedding():
    data = [(torch.randint(0, 20, (5,)), i % 3) for i in range(8)]
    said = found(Checkpointed(True), data)
    assert said_m8(said) and "use_reentrant=False" in said[0].remedy
    assert "reentrant" in said[0].evidence and said[0].measured["first"] == "inside.weight"
    assert found(Checkpointed(False), data) == []
    thawed = Checkpointed(True)
    thawed.table.requires_grad_(True)
    assert found(thawed, data) == []


def vit():
    torch.manual_seed(0)
    return transformers.ViTForImageClassification(transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        image_size=16, patch_size=8, num_channels=1, num_labels=3,
    ))  # fmt: skip


def images():
    return [{"pixel_values": torch.randn(1, 16, 16), "labels": i % 3} for i in range(8)]


def arguments(tmp_path, **settings):
    return transformers.TrainingArguments(tmp_path, report_to="none", use_cpu=True, **settings)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_that_only_the_arguments_ask_for(tmp_path, reentrant):
    model = vit()
    for name, p in model.named_parameters():
        p.requires_grad_("embeddings" not in name)
    args = arguments(tmp_path, gradient_checkpointing=True,
                     gradient_checkpointing_kwargs={"use_reentrant": reentrant})  # fmt: skip
    attributes = [set(vars(m)) for m in model.modules()]
    said = found(model, images(), None, args=args)
    assert said_m8(said) if reentrant else said == []
    assert not model.is_gradient_checkpointing
    assert [set(vars(m)) for m in model.modules()] == attributes


def test_a_decoder_with_an_adapter_and_checkpointing(tmp_path):
    peft = pytest.importorskip("peft")

    def make():
        torch.manual_seed(0)
        base = transformers.GPT2LMHeadModel(transformers.GPT2Config(
            vocab_size=50, n_positions=32, n_embd=32, n_layer=2, n_head=2))  # fmt: skip
        return peft.get_peft_model(base, peft.LoraConfig(target_modules=["c_attn"], r=2))

    data = [{"input_ids": (x := torch.randint(0, 50, (8,))), "labels": x} for _ in range(8)]
    asked = {"gradient_checkpointing_kwargs": {"use_reentrant": True}}
    args = arguments(tmp_path, gradient_checkpointing=True, **asked)
    assert found(make(), data, None) == []
    assert found(make(), data, None, args=args) == []  # the library lets the inputs ask for it
    broken = make()
    broken.gradient_checkpointing_enable(**asked)
    broken.disable_input_require_grads()
    said = found(broken, data, None)
    assert said_m8(said) and "enable_input_require_grads" in said[0].remedy


@pytest.mark.parametrize("head", [
    "BertForSequenceClassification", "BertForMaskedLM", "BertForPreTraining",
    "BertForTokenClassification",
])  # fmt: skip
def test_bert_has_parts_that_nobody_uses(tiny_bert, head):
    label = 1 if head.endswith("Classification") and "Token" not in head else torch.ones(12).long()
    data = [{"input_ids": torch.arange(5, 17), "labels": label} for _ in range(8)]
    model = tiny_bert(head, hidden_dropout_prob=0.1)
    assert found(model, data, None) == []


def test_an_encoder_whose_pooler_is_not_read(tiny_bert):
    data = [{"input_ids": torch.arange(5, 17), "labels": 1} for _ in range(8)]
    loss_fn = lambda out, batch: out.last_hidden_state[:, 0].square().mean()  # noqa: E731
    assert found(tiny_bert("BertModel"), data, loss_fn) == []


class Experts(nn.Module):
    """Rows go to one of two experts by their sign; nothing is ever negative."""

    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(6, 3) for _ in range(2))
        self.router_bias = nn.Parameter(torch.zeros(2))

    def forward(self, x):
        chosen = int((x.square().sum() + self.router_bias).argmax())
        return self.experts[chosen](x)


def test_an_expert_that_is_not_chosen_is_no_cut():
    assert found(Experts()) == []
