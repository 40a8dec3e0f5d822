"""ROUGE equals Google's script, answers score as SQuAD's, BLEU and chrF are sacrebleu's."""

import numpy as np
import pytest

from cookbook.evaluation import generation

WORDS = ["the", "a", "Cat", "sat", "on", "mat-", "dog's", "1984", "ran.", "über"]


def random_pairs(count, longest=12):
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield tuple(" ".join(rng.choice(WORDS, rng.integers(0, longest))) for _ in range(2))


def test_rouge_equals_googles_on_1000_random_cases():
    from rouge_score.rouge_scorer import RougeScorer

    theirs = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
    for found, wanted in random_pairs(1000):
        expected = theirs.score(wanted, found)
        ours = {
            "rouge1": generation.rouge_n(found, wanted),
            "rouge2": generation.rouge_n(found, wanted, 2),
            "rougeL": generation.rouge_l(found, wanted),
        }
        for name, value in ours.items():
            assert tuple(value) == pytest.approx(tuple(expected[name]), abs=1e-12), (found, wanted)


def test_answers_score_as_in_squads_script():
    from torchmetrics.functional.text import squad

    for found, wanted in random_pairs(1000, 6):
        answers = [{"answers": {"answer_start": [0], "text": [wanted]}, "id": "1"}]
        expected = squad([{"prediction_text": found, "id": "1"}], answers)
        f1, exact = (float(expected[name]) / 100 for name in ("f1", "exact_match"))
        assert generation.exact_match(found, [wanted]) == exact
        if found and wanted:  # torchmetrics is SQuAD 1.1's: two empty answers share no word
            assert generation.answer_f1(found, [wanted]) == pytest.approx(f1, abs=1e-6)


def test_the_best_of_several_answers_counts():
    assert generation.answer_f1("the red tower", ["Paris", "red tower"]) == 1.0
    assert generation.answer_f1("x", []) == 0.0


def test_corpus_bleu_is_not_the_mean_of_sentences():
    import sacrebleu

    found = ["the cat sat on the mat today", "dogs ran in the big park near me"]
    wanted = ["the cat sat on the mat", "dogs ran in a big park near me"]
    whole = generation.bleu(found, wanted)
    assert whole == pytest.approx(sacrebleu.corpus_bleu(found, [wanted]).score)
    single = [generation.bleu([f], [w]) for f, w in zip(found, wanted, strict=True)]
    assert abs(whole - np.mean(single)) > 0.1


def test_chinese_is_compared_by_characters():
    assert generation.bleu(["我喜欢红色的猫"], ["我喜欢红色的狗"], language="zh") > 50
    assert generation.bleu(["我喜欢红色的猫"], ["我喜欢红色的狗"]) < 10


def test_pairs_that_do_not_fit_are_refused():
    for score in (generation.rouge, generation.bleu, generation.chrf):
        with pytest.raises(ValueError, match="1 candidates for 2 references"):
            score(["a"], ["a", "b"])
