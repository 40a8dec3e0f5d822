import warnings
from functools import partial

import pytest
import torch
from torch import nn

from cookbook.training import mistake_runs as runs
from cookbook.training import mistakes
from cookbook.training.trainer import Trainer

TEXTS = [f"Return the number of rows {i} of a sparse matrix.\nMore." for i in range(40)]


@pytest.fixture(scope="module")
def tokenizer():
    return runs.gpt_tokenizer(TEXTS, 120)


@pytest.fixture(scope="module")
def rows(tokenizer):
    return runs.first_lines(TEXTS, tokenizer, 64)


def test_rows_hold_the_first_line_between_its_ends(rows, tokenizer):
    assert len(rows) == len(TEXTS)
    first = rows[0]["input_ids"]
    assert first[0] == tokenizer.bos_token_id and first[-1] == tokenizer.eos_token_id
    assert "More" not in tokenizer.decode(first)
    assert runs.first_lines(["too short\nfor it", TEXTS[0]], tokenizer, 4) == []


def test_batches_are_the_same_for_one_seed_and_go_on_after_an_epoch(rows, tokenizer):
    collate = partial(mistakes.label_text, tokenizer=tokenizer, length=64)
    a, b, c = (list(runs.draw(rows, collate, 16, 5, seed=seed)) for seed in (0, 0, 1))
    assert len(a) == 5 and a[0]["input_ids"].shape == (16, 64)
    assert all(torch.equal(x["input_ids"], y["input_ids"]) for x, y in zip(a, b, strict=True))
    assert not torch.equal(a[0]["input_ids"], c[0]["input_ids"])


def test_a_gpt_learns_and_starts_alike(rows, tokenizer):
    collate = partial(mistakes.label_text, tokenizer=tokenizer, length=64)
    how = {"steps": 12, "size": "tiny", "length": 64, "rate": 1e-2}
    (_, one), (_, two) = (runs.train_gpt(rows, collate, tokenizer, **how) for _ in range(2))
    assert one == two and one[-1][1] < one[0][1] - 0.5


def test_a_run_tells_its_watcher_and_measures():
    model, told = nn.Linear(2, 1), []
    batches = [torch.ones(4, 2)] * 3
    ran = runs.run(
        model, batches, torch.optim.SGD(model.parameters(), 0.1),
        loss_of=lambda m, x: m(x).square().mean(), measure=lambda: model.bias.item(),
        on_step=lambda loss, batch: told.append((loss.item(), batch.shape)),
    )  # fmt: skip
    assert [loss for _, loss in ran.loss] == [loss for loss, _ in told]
    assert told[0][1] == (4, 2) and ran.loss[-1][1] < ran.loss[0][1]
    assert ran.measured[-1] == (3, model.bias.item())


def test_only_what_lies_below_the_layers_is_frozen(tiny_bert):
    model = tiny_bert("BertForSequenceClassification")
    runs.freeze_embeddings(model)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen and all("embeddings" in name for name in frozen)


def test_wrapped_layers_answer_as_before(tiny_bert):
    model, ids = tiny_bert().eval(), torch.arange(5, 15).view(2, 5)
    before, calls = model(input_ids=ids).logits, []

    def counting(forward, *args, **kwargs):
        calls.append(forward)
        return forward(*args, **kwargs)

    after = runs.wrap_layers(model, counting)(input_ids=ids).logits
    assert torch.equal(before, after) and len(calls) == model.config.num_hidden_layers


@pytest.mark.parametrize(
    ("head", "a_layer"), [("BertForSequenceClassification", 6), ("BertForMaskedLM", 6)]
)
def test_the_matrices_of_the_layers_and_no_others(tiny_bert, head, a_layer):
    model = tiny_bert(head)
    names = runs.layer_matrices(model)
    assert len(names) == a_layer * model.config.num_hidden_layers
    assert all(isinstance(model.get_submodule(name), nn.Linear) for name in names)
    assert not any("pooler" in name or "classifier" in name for name in names)


def test_pairs_are_unit_vectors_that_ignore_padding(tiny_bert):
    model = runs.Pairs(tiny_bert("BertModel")).eval()
    ids, mask = torch.tensor([[5, 6, 7], [5, 6, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    left, right = model(ids, mask, ids[1:, :2], mask[1:, :2])
    assert torch.allclose(left.norm(dim=-1), torch.ones(2))
    assert torch.allclose(left[1], right[0], atol=1e-6)


def test_pairs_are_cut_and_padded_side_by_side(tokenizer):
    rows = runs.pair_rows({"text": TEXTS[:3], "text_pair": TEXTS[3:6]}, tokenizer, (4, 9))
    assert {len(row["input_ids"]) for row in rows} == {4}
    batch = runs.collate_pairs(rows, tokenizer)
    assert batch["pair_ids"].shape == batch["pair_mask"].shape == (3, 9)


@pytest.mark.parametrize(("kind", "times"), [(None, 2.0), (Trainer, 1.0)])
def test_the_library_multiplies_by_the_micro_batches_and_ours_does_not(
    tiny_bert, tmp_path, kind, times
):
    ids = [{"input_ids": [5 + i, 6, 7], "labels": i % 2} for i in range(16)]
    first = {}
    for parts in (1, 2):
        trainer = runs.their_trainer(
            tiny_bert("BertForSequenceClassification"), ids, None, steps=1, size=4 // parts,
            accumulation=parts, kind=kind, output_dir=tmp_path,
        )  # fmt: skip
        trainer.train()
        first[parts] = runs.logged(trainer)[0][1]
    assert first[2] / first[1] == pytest.approx(times, rel=1e-3)


def test_each_loss_is_recorded_as_it_is():
    heard = []
    loss_fn = runs.recording(lambda x: x.log().sum(), heard)
    loss_fn(torch.tensor([1.0])), loss_fn(torch.tensor([-1.0]))
    assert heard[0] == 0.0 and heard[1] != heard[1]


def test_quiet_is_over_when_it_ends():
    with pytest.warns(UserWarning, match="after"):
        with runs.quiet():
            warnings.warn("within", stacklevel=1)
        warnings.warn("after", stacklevel=1)
