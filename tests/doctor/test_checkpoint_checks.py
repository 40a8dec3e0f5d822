"""M1: a backbone that is not the checkpoint's is found; what a new task adds is not."""

import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from cookbook.doctor import checkpoint_checks
from cookbook.doctor.checks import Skip, attempt
from cookbook.doctor.subject import Subject

CHECK = checkpoint_checks.check_backbone_is_loaded


def found(model, **given):
    return attempt(CHECK, Subject(model, **given))[0]


def trained(model):
    """As after training: every weight away from how it was drawn."""
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            torch.manual_seed(number)
            parameter.mul_(1 + 0.8 * torch.randn_like(parameter).abs())
    return model


@pytest.fixture
def folder(tiny_bert, tmp_path):
    trained(tiny_bert()).save_pretrained(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def test_a_classifier_on_a_loaded_backbone_is_healthy(folder):
    model = transformers.BertForSequenceClassification.from_pretrained(folder)
    assert found(model) == []


def test_a_classifier_made_from_the_configuration_alone_is_found(folder):
    config = transformers.AutoConfig.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    (one,) = found(model)
    assert (one.fault, one.severity) == ("M1", "error")
    assert one.measured["new"] == one.measured["compared"] > 8


def test_a_language_model_made_from_a_configuration_is_only_remarked_on(folder):
    config = transformers.AutoConfig.from_pretrained(folder)
    (one,) = found(transformers.AutoModelForMaskedLM.from_config(config))
    assert one.severity == "info"


@pytest.mark.parametrize(
    ("words", "own", "severity"), [(9, True, "warn"), (9, False, "info"), (2500, True, "info")]
)
def test_too_few_tokens_to_start_anew_beside_weights_that_fit(
    folder, tokenizer, words, own, severity, monkeypatch
):
    """By tokens to train on, and by whether the tokenizer is the checkpoint's too."""
    config = transformers.AutoConfig.from_pretrained(folder)
    model = transformers.AutoModelForMaskedLM.from_config(config)
    rows = [{"input_ids": [1] * words, "labels": [1] * words} for _ in range(64)]
    monkeypatch.setattr(tokenizer, "name_or_path", str(folder) if own else "another")
    (one,) = found(model, train_dataset=rows, processing_class=tokenizer)
    assert one.severity == severity


@pytest.mark.parametrize("head", ["BertForSequenceClassification", "BertForMaskedLM"])
def test_a_file_with_another_prefix_is_found(folder, head):
    stored = load_file(folder / "model.safetensors")
    save_file(
        {f"encoder_model.{k}": v for k, v in stored.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    (one,) = found(getattr(transformers, head).from_pretrained(folder))
    assert (one.fault, one.severity) == ("M1", "error")


def test_a_folder_that_is_gone_leaves_the_marks_of_loading(folder):
    healthy = transformers.BertForSequenceClassification.from_pretrained(folder)
    stored = load_file(folder / "model.safetensors")
    other = {f"encoder_model.{k}": v for k, v in stored.items()}
    save_file(other, folder / "model.safetensors", metadata={"format": "pt"})
    broken = transformers.BertForSequenceClassification.from_pretrained(folder)
    shutil.rmtree(folder)
    assert found(healthy) == []
    assert [one.fault for one in found(broken)] == ["M1"]


WIDER = {"hidden_size": 48, "intermediate_size": 96}


def widened(folder, **sizes):
    return transformers.BertForSequenceClassification.from_pretrained(
        folder, ignore_mismatched_sizes=True, **sizes
    )


def test_weights_that_do_not_fit_are_newly_drawn(folder):
    assert [(f.fault, f.severity) for f in found(widened(folder, **WIDER))] == [("M1", "error")]
    (some,) = found(widened(folder, intermediate_size=96))
    assert some.severity == "warn" and "do not fit" in some.evidence


def test_one_table_that_does_not_fit_is_no_lost_backbone(folder):
    assert found(widened(folder, max_position_embeddings=48)) == []
    # A smaller model of the same kind, from scratch, is meant to have other sizes.
    config = transformers.AutoConfig.from_pretrained(folder, **WIDER)
    assert found(transformers.BertForSequenceClassification(config)) == []


def read_by_hand(folder, head, old, new):
    fresh = head(transformers.AutoConfig.from_pretrained(folder))
    known = head.from_pretrained(folder).state_dict()
    fresh.load_state_dict({k.replace(old, new): v for k, v in known.items()}, strict=False)
    return fresh


@pytest.mark.parametrize("head", ["BertForSequenceClassification", "BertForMaskedLM"])
def test_embeddings_that_were_read_and_layers_that_were_not(folder, head):
    head = getattr(transformers, head)
    (one,) = found(read_by_hand(folder, head, ".layer.", ".blocks."))
    assert (one.fault, one.severity) == ("M1", "warn") and "embeddings" in one.evidence
    # Read whole, or but for a layer that is begun anew, it is healthy.
    assert found(read_by_hand(folder, head, ".layer.", ".layer.")) == []
    assert found(read_by_hand(folder, head, ".layer.1.", ".blocks.1.")) == []
    # So are embeddings that were read beside layers that have been trained since.
    late = read_by_hand(folder, head, ".layer.", ".blocks.")
    trained(late.bert.encoder)
    assert [f.severity for f in found(late)] in ([], ["info"])


@pytest.mark.parametrize("name", ["LoHaConfig", "LoKrConfig", "LoraConfig", "VeraConfig"])
def test_adapters_of_any_name_are_no_backbone(folder, name):
    import peft

    model = transformers.BertForSequenceClassification.from_pretrained(folder)
    config = getattr(peft, name)(task_type="SEQ_CLS", r=16, target_modules=["query", "value"])
    assert found(peft.get_peft_model(model, config)) == []


def test_layers_that_the_file_lacks_are_found(folder):
    path = folder / "model.safetensors"
    kept = {k: v for k, v in load_file(path).items() if ".layer.1." not in k}
    save_file(kept, path, metadata={"format": "pt"})
    (one,) = found(transformers.BertForSequenceClassification.from_pretrained(folder))
    assert (one.fault, one.severity) == ("M1", "warn")
    assert ".layer.1." in one.evidence


def test_weights_drawn_anew_after_loading_are_found(folder):
    model = transformers.BertForSequenceClassification.from_pretrained(folder)
    for module in model.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Embedding):
            module.reset_parameters()
    assert [one.severity for one in found(model)] == ["error"]


def test_a_top_layer_drawn_anew_on_purpose_is_healthy(folder):
    model = transformers.BertForSequenceClassification.from_pretrained(folder)
    for module in model.bert.encoder.layer[-1].modules():
        if isinstance(module, torch.nn.Linear):
            module.reset_parameters()
    assert found(model) == []


def test_a_checkpoint_that_was_never_trained_is_itself(tiny_bert, tmp_path):
    tiny_bert().save_pretrained(tmp_path)
    assert found(transformers.BertForTokenClassification.from_pretrained(tmp_path)) == []


def test_a_fine_tuned_model_with_more_words_is_healthy(folder):
    model = transformers.BertForSequenceClassification.from_pretrained(folder)
    model.resize_token_embeddings(model.config.vocab_size + 3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * parameter.std() * torch.randn_like(parameter))
    assert found(model) == []


FAMILIES = [
    ("GPT2ForSequenceClassification",
     lambda: transformers.GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=300)),
    ("ViTForImageClassification",
     lambda: transformers.ViTConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
                                    intermediate_size=64, image_size=16, patch_size=4)),
    ("T5ForSequenceClassification",
     lambda: transformers.T5Config(d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2,
                                   vocab_size=300, feed_forward_proj="relu")),
    ("LlamaForSequenceClassification",
     lambda: transformers.LlamaConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
                                      intermediate_size=64, vocab_size=300)),
]  # fmt: skip


@pytest.mark.parametrize(("head", "config"), FAMILIES, ids=[head for head, _ in FAMILIES])
def test_families(head, config, tmp_path):
    kind = getattr(transformers, head)
    assert attempt(CHECK, Subject(kind(config())))[1] == "does not apply"  # from scratch, no name
    trained(kind(config())).save_pretrained(tmp_path)
    assert found(kind.from_pretrained(tmp_path)) == []
    new = kind(transformers.AutoConfig.from_pretrained(tmp_path))
    assert [one.fault for one in found(new)] == ["M1"]
    # Without a file at hand the twin tells the same.
    new.config._name_or_path = "someone/model"
    assert [one.fault for one in found(new)] == ["M1"]
    trained(new)
    assert found(new) == []


def test_peft_keeps_the_backbone_it_wraps(folder):
    import peft

    model = transformers.BertForSequenceClassification.from_pretrained(folder)
    lora = peft.LoraConfig(task_type="SEQ_CLS", target_modules=["query"])
    assert found(peft.get_peft_model(model, lora)) == []


def test_a_module_without_a_name_does_not_apply():
    with pytest.raises(Skip, match="does not apply"):
        list(CHECK(Subject(torch.nn.Linear(2, 2))))


class Two(torch.nn.Module):
    """A model of one's own around encoders that name a checkpoint."""

    def __init__(self, *encoders):
        super().__init__()
        self.encoders, self.head = torch.nn.ModuleList(encoders), torch.nn.Linear(32, 8)


def encoder(folder, loaded, **changes):
    config = transformers.AutoConfig.from_pretrained(folder, **changes)
    made = transformers.BertModel.from_pretrained(folder) if loaded else None
    return made if loaded else transformers.AutoModel.from_config(config)


def pairs(tokenizer, count):
    ids = tokenizer("the solver computes a median of two tensors")["input_ids"]
    return [{"text_ids": ids, "pair_ids": ids} for _ in range(count)]


@pytest.mark.parametrize(
    ("loaded", "count", "expected"),
    [((False,), 40, ["warn"]), ((False, False), 40, ["warn", "warn"]),
     ((False,), 40_000, ["info"]),  # enough rows to begin anew
     ((True,), 40, []), ((True, False), 40, [])],  # a teacher, and its student from scratch
)  # fmt: skip
def test_an_encoder_inside_a_model_of_ones_own(folder, tokenizer, loaded, count, expected):
    tokenizer.name_or_path, before = str(folder), tokenizer.name_or_path
    rows = pairs(tokenizer, count)
    try:
        model = Two(*(encoder(folder, one) for one in loaded))
        said = found(model, train_dataset=rows, processing_class=tokenizer)
    finally:
        tokenizer.name_or_path = before
    assert [(one.fault, one.severity) for one in said] == [("M1", how) for how in expected]


def test_layers_without_a_checkpoint_say_nothing(folder, tokenizer):
    config = transformers.BertConfig(vocab_size=64, hidden_size=32, num_attention_heads=2)
    assert found(Two(transformers.BertModel(config))) == []
    assert found(torch.nn.Linear(3, 3)) == []


def of_one_seed(tiny_bert, folder, seed=0):
    """A model drawn as the file's was, before that was trained on."""
    model = tiny_bert(seed=seed)
    model.config._name_or_path = str(folder)
    return model


def test_weights_that_are_alike_since_both_were_drawn_with_one_seed(tiny_bert, folder):
    stored = load_file(folder / "model.safetensors")["bert.encoder.layer.0.output.dense.weight"]
    model = of_one_seed(tiny_bert, folder)
    own = model.bert.encoder.layer[0].output.dense.weight
    assert checkpoint_checks.cosine(own, stored) > 0.2
    assert [one.fault for one in found(model)] == ["M1"]


def test_weights_that_are_the_file_s_or_went_on_from_there(tiny_bert, folder, tmp_path):
    model = of_one_seed(tiny_bert, folder)
    model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    assert found(model) == []
    for parameter in model.parameters():  # trained on
        parameter.data += 0.1 * parameter.std(correction=0) * torch.randn_like(parameter)
    assert found(model) == []
    untrained = of_one_seed(tiny_bert, tmp_path / "untrained")
    untrained.save_pretrained(tmp_path / "untrained")
    assert found(untrained) == []  # a file of what was just made
