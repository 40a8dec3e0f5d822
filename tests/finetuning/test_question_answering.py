"""The best span is the best of all spans, over all windows, and reads as it stands."""

import numpy as np
from datasets import Dataset

from cookbook.data import answer_spans
from cookbook.finetuning import question_answering as answering
from cookbook.finetuning.encoding import collator
from cookbook.finetuning.tuning import tune
from cookbook.models import load_model, load_tokenizer


def test_the_best_span_equals_brute_force():
    rng = np.random.default_rng(0)
    for _ in range(200):
        size, longest = rng.integers(2, 12), int(rng.integers(1, 6))
        start, end = rng.normal(size=(2, size))
        allowed = rng.random(size) < 0.7
        allowed[-1] = True
        every = [
            (start[i] + end[j], i, j)
            for i in range(size) for j in range(i, min(size, i + longest))
            if allowed[i] and allowed[j]
        ]  # fmt: skip
        score, i, j = max(every)
        first, last, value = answering.best_span(start, end, allowed, longest)
        assert (first, last) == (i, j) and np.isclose(value, score - start[0] - end[0])


def test_answers_come_from_the_window_that_has_them(checkpoint):
    contexts = [
        "number 1 is a solver. " + "text " * 40 + "matrix is the answer",
        "estimator number 5. " + "solver " * 30,
    ]
    answers = ["the answer", "number 5"]
    dataset = Dataset.from_list(
        [
            {
                "context": c,
                "question": "what?",
                "answers": {"text": [a], "answer_start": [c.index(a)]},
            }
            for c, a in zip(contexts, answers, strict=True)
        ]
    )
    tokenizer = load_tokenizer(checkpoint)
    windows = answer_spans.windows(dataset, tokenizer, max_length=48, stride=12)
    assert len(windows.rows) > 2
    model = load_model(checkpoint, "question-answering", hidden_dropout_prob=0.0)
    tune(model, windows.rows, collator(tokenizer), learning_rate=5e-3, max_steps=40, batch_size=8,
         label_names=answering.LABELS, output_dir=checkpoint + "-out")  # fmt: skip
    found = answering.answers(model, windows, contexts, tokenizer)
    assert found == answers
    right = answering.scores(found, dataset["answers"])
    assert right["exact"].tolist() == right["f1"].tolist() == [1, 1]


def test_rows_to_train_on_are_those_with_an_answer_and_some_without():
    rows = [{"end_positions": int(i < 4), "number": i} for i in range(20)]
    windows = answer_spans.Windows(rows, list(range(20)), [[]] * 20)
    found = [row["number"] for row in answering.mixed(windows, share=0.5)]
    assert found[:4] == [0, 1, 2, 3] and len(set(found)) == 6
    assert len(answering.mixed(windows, share=9)) == 20


def test_an_empty_context_has_no_answer(checkpoint):
    dataset = Dataset.from_list([{"context": "", "question": "what?"}])
    tokenizer = load_tokenizer(checkpoint)
    windows = answer_spans.windows(dataset, tokenizer, max_length=48, stride=12)
    model = load_model(checkpoint, "question-answering")
    assert answering.answers(model, windows, [""], tokenizer) == [""]
    assert answering.nearest_sentence("what?", "") == ""


def test_the_baseline_takes_the_sentence_or_the_one_behind_it():
    text = "A solver.\n\nx, y : int\n    Both sides. More.\ntol : float\n    Bound."
    assert answering.nearest_sentence("what is `tol`?", text) == "Bound."
    assert answering.nearest_sentence("what is `x, y`?", text) == "Both sides."
