"""The accumulated gradient is that of one large batch, and the fast path is the plain one."""

import pytest
import torch
import transformers

from cookbook.data.tokenization import pack
from cookbook.training.objectives import IGNORE, MaskedLMCollator
from cookbook.training.order import Keyed
from cookbook.training.trainer import (
    MaskedLMTrainer,
    Trainer,
    head_of,
    masked_lm_loss,
    positions_only,
)

ROWS, MICRO, MICRO_BATCHES = 22, 8, 3  # 8 + 8 + 6: the last one is smaller


def arguments(folder, **given):
    settings = dict(
        output_dir=str(folder), max_steps=1, learning_rate=1.0, optim="sgd", weight_decay=0.0,
        lr_scheduler_type="constant", max_grad_norm=0.0, logging_steps=1, report_to="none",
        save_strategy="no", remove_unused_columns=False, use_cpu=True, disable_tqdm=True,
        dataloader_pin_memory=False,
    )  # fmt: skip
    return transformers.TrainingArguments(**(settings | given))


def one_step(kind, model, rows, collate, folder, *, micro, accumulate, **given):
    """(gradient, logged loss) of one step: at a rate of 1 the step is the gradient."""
    before = [p.detach().clone() for p in model.parameters()]
    args = arguments(
        folder, per_device_train_batch_size=micro, gradient_accumulation_steps=accumulate, **given
    )
    trainer = kind(model, args, data_collator=collate, train_dataset=Keyed(rows))
    trainer.train()
    gradient = [old - new.detach() for old, new in zip(before, model.parameters(), strict=True)]
    return gradient, next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry)


def difference(first, second):
    return max((a - b).abs().max().item() for a, b in zip(first, second, strict=True))


def norm(gradient):
    return sum(g.square().sum() for g in gradient).sqrt().item()


@pytest.fixture
def masked(tokenizer, tiny_bert):
    """Rows of very different lengths, so that no two micro-batches have as many labels."""
    texts = ["The solver computes the gradient of tensors. " * (1 + n * n % 7) for n in range(ROWS)]
    rows = [{"input_ids": tokenizer(text)["input_ids"][:60]} for text in texts]
    return lambda: (tiny_bert(), rows, MaskedLMCollator(tokenizer))


@pytest.fixture
def classifier(tokenizer, tiny_bert):
    rows = [{"input_ids": [2, 10 + n, 11 + n, 3], "labels": int(n % 5 == 0)} for n in range(ROWS)]

    def collate(rows):
        return {name: torch.tensor([row[name] for row in rows]) for name in ("input_ids", "labels")}

    return lambda: (tiny_bert("BertForSequenceClassification", num_labels=2), rows, collate)


@pytest.mark.parametrize("kind, task", [
    (Trainer, "classifier"), (Trainer, "masked"), (MaskedLMTrainer, "masked"),
])  # fmt: skip
def test_the_accumulated_gradient_is_that_of_one_large_batch(request, tmp_path, kind, task):
    make = request.getfixturevalue(task)
    large, its_loss = one_step(kind, *make(), tmp_path, micro=ROWS, accumulate=1)
    small, loss = one_step(kind, *make(), tmp_path, micro=MICRO, accumulate=MICRO_BATCHES)
    assert norm(large) > 0.1
    assert difference(large, small) < 1e-5
    assert loss == pytest.approx(its_loss, abs=2e-4)  # the log rounds


def test_the_library_by_itself_is_wrong_by_the_number_of_micro_batches(classifier, tmp_path):
    kind = transformers.Trainer
    large, _ = one_step(kind, *classifier(), tmp_path, micro=ROWS, accumulate=1)
    small, _ = one_step(kind, *classifier(), tmp_path, micro=MICRO, accumulate=MICRO_BATCHES)
    ratio = norm(small) / norm(large)
    if ratio == pytest.approx(1, abs=0.1):
        pytest.skip(
            f"transformers {transformers.__version__} has mended it: Trainer may be simpler"
        )
    assert ratio == pytest.approx(MICRO_BATCHES, rel=0.2)


def test_a_causal_loss_counts_the_labels_that_it_shifts(tmp_path):
    def make():
        torch.manual_seed(0)
        config = transformers.GPT2Config(
            vocab_size=60, n_embd=32, n_layer=1, n_head=2, n_positions=40, resid_pdrop=0.0,
            embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=1, eos_token_id=1,
        )  # fmt: skip
        rows = [{"input_ids": [n % 50 + i for i in range(2 + n % 5)]} for n in range(ROWS)]

        def collate(rows):
            width = max(len(row["input_ids"]) for row in rows)
            ids = [row["input_ids"] + [0] * (width - len(row["input_ids"])) for row in rows]
            labels = [row["input_ids"] + [IGNORE] * (width - len(row["input_ids"])) for row in rows]
            return {"input_ids": torch.tensor(ids), "labels": torch.tensor(labels)}

        return transformers.GPT2LMHeadModel(config), rows, collate

    if not hasattr(transformers.Trainer(make()[0], arguments(tmp_path)), "_loss_shifts_labels"):
        pytest.skip(f"transformers {transformers.__version__} counts labels that are never scored")
    large, _ = one_step(Trainer, *make(), tmp_path, micro=ROWS, accumulate=1)
    small, _ = one_step(Trainer, *make(), tmp_path, micro=MICRO, accumulate=MICRO_BATCHES)
    assert norm(large) > 0.1 and difference(large, small) < 1e-5


def test_label_smoothing_is_accumulated_right_on_both_paths(masked, tmp_path):
    plain, _ = one_step(MaskedLMTrainer, *masked(), tmp_path, micro=ROWS, accumulate=1)
    smooth = dict(label_smoothing_factor=0.3)
    large, _ = one_step(Trainer, *masked(), tmp_path, micro=ROWS, accumulate=1, **smooth)
    small, _ = one_step(
        MaskedLMTrainer, *masked(), tmp_path, micro=MICRO, accumulate=MICRO_BATCHES, **smooth
    )
    assert difference(large, small) < 1e-5
    assert difference(large, plain) > 1e-3


def test_one_processs_labels_are_its_own(classifier, tmp_path, monkeypatch):
    model, rows, collate = classifier()
    trainer = Trainer(model, arguments(tmp_path), data_collator=collate, train_dataset=Keyed(rows))

    def of_all_ranks(*_):
        raise AssertionError("this count is gathered from all processes")

    monkeypatch.setattr(trainer, "_get_num_items_in_batch", of_all_ranks)
    batch = collate(rows[:4])
    mean = trainer.compute_loss(model, batch)
    assert trainer.compute_loss(model, batch, num_items_in_batch=8).item() == pytest.approx(
        mean.item() / 2
    )


@pytest.mark.parametrize("given, seed", [
    ({"seed": 5}, 5), ({"seed": 5, "data_seed": 3}, 3), ({"seed": 5, "data_seed": 0}, 0),
])  # fmt: skip
def test_the_data_seed_decides_the_order(classifier, tmp_path, given, seed):
    model, rows, collate = classifier()
    args = arguments(tmp_path, **given)
    trainer = Trainer(model, args, data_collator=collate, train_dataset=Keyed(rows))
    assert trainer._get_train_sampler().seed == seed


def test_rows_that_are_not_keyed_are_sampled_by_the_library(classifier, tmp_path):
    model, rows, collate = classifier()
    trainer = Trainer(model, arguments(tmp_path), data_collator=collate, train_dataset=rows)
    trainer.train()
    assert trainer.state.global_step == 1 and not hasattr(trainer, "epoch_sampler")


def test_every_epoch_has_another_order_and_other_masks(masked, tmp_path):
    model, rows, collate = masked()
    seen = []

    def watching(batch_rows):
        seen.append([(row["epoch"], row["row"]) for row in batch_rows])
        return collate(batch_rows)

    args = arguments(tmp_path, max_steps=6, per_device_train_batch_size=8, learning_rate=1e-3)
    MaskedLMTrainer(model, args, data_collator=watching, train_dataset=Keyed(rows)).train()
    epochs = [sum(seen[start : start + 3], []) for start in (0, 3)]
    assert [{epoch for epoch, _ in keys} for keys in epochs] == [{0}, {1}]
    orders = [[row for _, row in keys] for keys in epochs]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(ROWS))
    assert orders[0] != orders[1]


FAMILIES = {
    "Bert": dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64),
    "Roberta": dict(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    ),
    "DistilBert": dict(dim=32, n_layers=2, n_heads=2, hidden_dim=64),
    "Albert": dict(
        hidden_size=32, embedding_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64,
    ),
    "Electra": dict(
        hidden_size=32, embedding_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64,
    ),
}  # fmt: skip


@pytest.fixture(params=FAMILIES)
def family(request, tokenizer):
    config = getattr(transformers, f"{request.param}Config")(
        vocab_size=len(tokenizer), max_position_embeddings=72, pad_token_id=0,
        **FAMILIES[request.param],
    )  # fmt: skip
    torch.manual_seed(0)
    return getattr(transformers, f"{request.param}ForMaskedLM")(config).eval()


@pytest.fixture
def batch(tokenizer):
    documents = [tokenizer("The solver computes the gradient. " * n)["input_ids"][:60]
                 for n in range(1, 7)]  # fmt: skip
    return MaskedLMCollator(tokenizer)([Keyed([{"input_ids": d} for d in documents])[row]
                                        for row in range(6)])  # fmt: skip


def test_the_fast_path_has_the_loss_and_the_gradient_of_the_plain_one(family, batch):
    plain = family(**batch)
    plain.loss.backward()
    gradients = [p.grad.clone() for p in family.parameters() if p.grad is not None]
    family.zero_grad()
    loss, logits = masked_lm_loss(family, batch)
    loss.backward()
    at = batch["labels"] != IGNORE
    assert logits.shape == (at.sum(), family.config.vocab_size)
    assert abs(loss.item() - plain.loss.item()) < 1e-4
    assert torch.allclose(logits, plain.logits[at], atol=1e-5)
    found = [p.grad for p in family.parameters() if p.grad is not None]
    assert difference(found, gradients) < 1e-5 and norm(gradients) > 0.01


def test_where_nothing_is_asked_the_loss_is_nought_and_not_nan(family, batch):
    batch["labels"] = torch.full_like(batch["labels"], IGNORE)
    loss, logits = masked_lm_loss(family, batch)
    assert loss.item() == 0 and logits.shape == (0, family.config.vocab_size)
    loss.backward()
    assert all(p.grad is None or not p.grad.any() for p in family.parameters())


@pytest.mark.parametrize("masked_only", [True, False])
def test_a_micro_batch_that_is_asked_nothing_adds_nothing(masked, tmp_path, masked_only):
    model, rows, collate = masked()
    batch = collate([Keyed(rows)[row] for row in range(4)])
    trainer = MaskedLMTrainer(model, arguments(tmp_path), masked_only=masked_only)
    mean = trainer.compute_loss(model, dict(batch))
    asked = int(batch["labels"].ne(IGNORE).sum())
    share = trainer.compute_loss(model, dict(batch), num_items_in_batch=torch.tensor(asked * 2))
    assert share.item() == pytest.approx(mean.item() / 2, rel=1e-6)
    batch["labels"] = torch.full_like(batch["labels"], IGNORE)
    nothing = trainer.compute_loss(model, dict(batch), num_items_in_batch=torch.tensor(asked))
    assert nothing.item() == 0


def test_the_plain_path_is_taken_when_asked_for(masked, tmp_path):
    model, rows, collate = masked()
    batch = collate([Keyed(rows)[row] for row in range(4)])
    shapes, losses = [], []
    for masked_only in (True, False):
        trainer = MaskedLMTrainer(model, arguments(tmp_path), masked_only=masked_only)
        loss, outputs = trainer.compute_loss(model, dict(batch), return_outputs=True)
        shapes.append(outputs["logits"].dim())
        losses.append(loss.item())
    assert shapes == [2, 3] and abs(losses[0] - losses[1]) < 1e-4


def test_masked_next_sentence_models_take_the_plain_path(tiny_bert, tokenizer, tmp_path):
    rows = [{"input_ids": [2, 9, 3, 8, 3], "token_type_ids": [0, 0, 0, 1, 1],
             "next_sentence_label": n % 2} for n in range(4)]  # fmt: skip
    model = tiny_bert("BertForPreTraining")
    batch = MaskedLMCollator(tokenizer)([Keyed(rows)[row] for row in range(4)])
    trainer = MaskedLMTrainer(model, arguments(tmp_path))
    assert torch.equal(trainer.compute_loss(model, dict(batch)), model(**batch).loss)


def test_the_hook_goes_even_when_the_model_fails(tiny_bert):
    model = tiny_bert()
    with pytest.raises(RuntimeError), positions_only(model, torch.zeros(1, 4, dtype=torch.bool)):
        raise RuntimeError
    assert not head_of(model)._forward_pre_hooks
    assert model(torch.tensor([[2, 9, 8, 3]])).logits.shape[:2] == (1, 4)


def test_the_head_is_found_behind_a_wrapper(tiny_bert):
    model = tiny_bert()
    wrapped = torch.nn.Module()
    wrapped.module = model
    assert head_of(model) is head_of(wrapped) is model.cls


def test_a_model_without_a_head_is_named(tiny_bert):
    with pytest.raises(ValueError, match="^BertModel has no head behind its encoder$"):
        head_of(tiny_bert("BertModel"))


def test_packed_rows_train_on_both_paths_alike(tiny_bert, tokenizer, tmp_path):
    documents = [list(range(10, 10 + n)) for n in (5, 9, 3, 12, 4, 7)]
    rows = pack(documents, 16, cross_documents=False)
    gradients = []
    for masked_only in (True, False):
        model = tiny_bert()

        def kind(*args, chosen=masked_only, **kwargs):
            return MaskedLMTrainer(*args, masked_only=chosen, **kwargs)

        found, _ = one_step(
            kind, model, rows, MaskedLMCollator(tokenizer), tmp_path, micro=2, accumulate=2
        )
        gradients.append(found)
    assert difference(*gradients) < 1e-5 and norm(gradients[0]) > 0.1


def test_training_prints_no_table_and_no_dictionaries(masked, tmp_path, capsys):
    model, rows, collate = masked()
    one_step(MaskedLMTrainer, model, rows, collate, tmp_path, micro=8, accumulate=1)
    assert capsys.readouterr().out == ""


def test_resuming_calls_no_tied_weight_missing_and_every_other_one(tiny_bert, tmp_path, caplog):
    model = tiny_bert()
    trainer = Trainer(model, arguments(tmp_path))
    stored = {name: value for name, value in model.state_dict().items() if "decoder" not in name}
    with caplog.at_level("WARNING"):
        trainer._issue_warnings_after_load(model.load_state_dict(stored, strict=False))
        assert "missing" not in caplog.text
        del stored["bert.embeddings.LayerNorm.weight"]
        trainer._issue_warnings_after_load(model.load_state_dict(stored, strict=False))
    assert "bert.embeddings.LayerNorm.weight" in caplog.text
    assert "decoder" not in caplog.text
