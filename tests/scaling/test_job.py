import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cookbook.scaling import job
from cookbook.scaling.world import RanksError


@pytest.fixture
def folder(tmp_path, programs):
    programs[0]["write_rows"](tmp_path)
    return tmp_path


def test_rows_come_back_with_their_vocabulary(folder):
    rows, vocabulary = job.read_rows(folder / "rows.npz")
    assert len(rows) == 50 and rows.input_ids.shape == (50, 16)
    assert len(vocabulary) == 60 and vocabulary.mask_token_id == 4
    assert rows.input_ids[rows.document_ids == 0].tolist() == [0] * (800 - rows.tokens)


def test_a_tokenizer_that_cannot_mask(folder, programs):
    class Blind(programs[0]["Words"]):
        mask_token_id = None

    rows, _ = job.read_rows(folder / "rows.npz")
    with pytest.raises(ValueError, match="no mask token"):
        job.write_rows(folder / "blind.npz", rows, Blind())


def test_it_learns_and_leaves_what_it_found(folder, programs):
    options = programs[0]["options"](folder, steps=30, rate=0.02, output=str(folder / "out"))
    found = job.pretrain(**options)
    # Tokens are drawn at random: what can be learnt is that the first five never come.
    assert found["losses"][0] == pytest.approx(np.log(60), abs=0.1)
    assert np.mean(found["losses"][-5:]) < found["losses"][0]
    assert json.loads((folder / "out" / "run.json").read_text()) == found
    weights = load_file(folder / "out" / "weights.safetensors")
    assert job.fingerprint(weights) == found["fingerprint"]


def test_the_same_twice_and_another_with_another_seed(folder, programs):
    options = programs[0]["options"](folder, steps=2)
    first, again = (job.pretrain(**options)["fingerprint"] for _ in range(2))
    assert first == again != job.pretrain(**options, seed=1)["fingerprint"]


def test_words_and_arguments_are_the_same_thing():
    given = {"rows": "a.npz", "batch_size": 4, "strategy": "fsdp", "rate": 0.5}
    parsed = job.parse(job.options(given))
    assert parsed.items() >= given.items()
    assert parsed.keys() == job.OPTIONS.keys()
    with pytest.raises(SystemExit):
        job.parse(["--rows", "a.npz", "--speed", "9"])


def test_an_option_that_it_does_not_have(folder):
    with pytest.raises(ValueError, match="unknown options: batchsize"):
        job.pretrain(rows=str(folder / "rows.npz"), batchsize=4)


def test_it_does_not_train_on_fewer_ranks_than_asked_for(folder):
    with pytest.raises(RanksError, match="2 ranks were asked for and 1 came"):
        job.pretrain(rows=str(folder / "rows.npz"), ranks=2)


def test_prepare_sees_the_model_and_every_step(folder, programs):
    seen = []

    def prepare(model, world):
        seen.append(sum(p.numel() for p in model.parameters()))
        return lambda step, loss: seen.append(step)

    job.pretrain(prepare, **programs[0]["options"](folder, steps=3))
    assert seen[1:] == [1, 2, 3] and seen[0] > 0


def test_a_pretrained_model_has_its_weights(folder):
    _, vocabulary = job.read_rows(folder / "rows.npz")
    model = job.build("docbert", vocabulary)
    assert model.config.vocab_size > 8000 and not model.missing_keys
    assert not torch.equal(*(job.build("small", vocabulary, seed=s).embed.weight for s in (0, 1)))
