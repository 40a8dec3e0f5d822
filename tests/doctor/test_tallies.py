import pytest
import torch
from torch import nn

from cookbook.doctor import tallies


def test_confusion_of_scores_and_of_classes():
    scores, labels = torch.tensor([[2.0, 1.0], [0.0, 1.0], [0.0, 1.0]]), torch.tensor([0, 1, 0])
    expected = [[1, 1], [0, 1]]
    assert tallies.confusion(scores, labels).tolist() == expected
    assert tallies.confusion(torch.tensor([0, 1, 1]), labels).tolist() == expected
    ignored = tallies.confusion(scores, torch.tensor([0, -100, 0]))
    assert int(ignored.sum()) == 2


def test_what_is_no_classification_has_no_confusion():
    assert tallies.confusion(torch.randn(3, 5, 7), torch.zeros(3, 5, dtype=torch.long)) is None
    assert tallies.confusion(torch.randn(3, 1), torch.zeros(3)) is None
    assert tallies.confusion(torch.randn(3), torch.zeros(3, dtype=torch.long)) is None


def test_equal_batches_have_equal_fingerprints():
    a = {"x": torch.arange(6), "y": torch.ones(2, dtype=torch.bfloat16)}
    b = {"x": torch.arange(6), "y": torch.ones(2, dtype=torch.bfloat16)}
    assert tallies.fingerprint(a) == tallies.fingerprint(b)
    assert tallies.fingerprint(a) != tallies.fingerprint({**b, "x": torch.arange(6).flip(0)})
    assert tallies.fingerprint(a["x"]) == tallies.fingerprint([a["x"]])


def test_own_loss_and_labels():
    loss = nn.functional.mse_loss(torch.ones(2), torch.zeros(2))
    assert tallies.own_loss({"loss": loss}) is loss and tallies.own_loss((loss, 1)) is loss
    assert tallies.own_loss(torch.ones(2)) is None
    labels = torch.tensor([1])
    assert tallies.labels_of({"labels": labels}) is labels
    assert tallies.labels_of((torch.ones(1), labels)) is labels
    assert tallies.labels_of(None) is None


def test_average_of_nothing_is_none():
    assert tallies.average([]) is None and tallies.average([torch.tensor([1.0, 3.0])]) == 2.0


def test_embeddings_of_an_encoder_and_of_a_bare_matrix(tiny_bert):
    states = tiny_bert("BertModel")(torch.randint(5, 50, (4, 6)))
    assert tallies.embeddings(states, 4).shape == (4, states.last_hidden_state.shape[-1])
    matrix = torch.randn(4, 8)
    assert tallies.embeddings(matrix, 4) is matrix
    assert tallies.embeddings(matrix, 5) is None and tallies.embeddings(None, 4) is None


def test_each_labelled_token_of_a_tagger_counts():
    scores = torch.nn.functional.one_hot(torch.tensor([[0, 1, 1], [1, 0, 0]]), 2).float()
    labels = torch.tensor([[0, 1, -100], [0, -100, -100]])
    assert tallies.confusion(scores, labels, tokens=True).tolist() == [[1, 1], [0, 1]]
    assert tallies.confusion(scores, labels[:, :2], tokens=True) is None


def test_surprise_is_the_cross_entropy_of_labelled_rows():
    scores, labels = torch.randn(2, 5, 3), torch.tensor([[0, 1, 2, -100, 1], [2, -100, 0, 0, 1]])
    mean = torch.nn.functional.cross_entropy(scores.flatten(0, 1), labels.flatten())
    assert tallies.surprise(scores, labels, tokens=True).item() == pytest.approx(8 * mean.item())
    assert tallies.surprise(labels[0], labels[0]) is None  # classes, no scores


def test_rates_of_labels_leave_out_what_is_ignored_or_no_class():
    assert tallies.rates(None, torch.tensor([0, 2, 2, -100]), 3) == [1, 0, 2]
    assert tallies.rates([1, 1], torch.rand(3), 2) == [1, 1]
    assert tallies.rates(None, torch.tensor([0, 1]), 50_000) is None  # words


def test_padded_batches_and_masks_that_the_model_was_not_given(tiny_bert):
    ids, mask = torch.ones(2, 4, dtype=torch.long), torch.ones(2, 4, dtype=torch.long)
    padded = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    batch, model = {"input_ids": ids, "attention_mask": padded}, tiny_bert()

    def noted(given, batch=batch, model=model):
        facts = {}
        tallies.note_mask(facts, model, given, batch)
        return facts.get("padded", 0), facts.get("withheld", 0)

    assert noted(((), {"input_ids": ids})) == (1, 1)
    assert noted(((ids,), {})) == (1, 1)
    assert noted(((ids,), {}), model=nn.Embedding(9, 2)) == (0, 0)  # it takes no mask
    assert noted(((), dict(batch))) == (1, 0)
    assert noted(((ids, padded), {})) == (1, 0)
    assert noted(((batch,), {})) == (0, 0)  # a model of one's own takes the whole batch
    assert noted(((), {"input_ids": ids}), {"input_ids": ids, "attention_mask": mask}) == (0, 0)
    assert noted(((), {"input_ids": ids}), (ids, padded)) == (0, 0) == noted(None)


def test_questions_that_mostly_have_no_answer_are_two_classes():
    starts = torch.tensor([0, 0, 0, 0, 3])
    logits = torch.zeros(5, 6)
    logits[:, 0] = 4.0
    scores, labels = tallies.answered(spans(logits), {"start_positions": starts})
    assert labels.tolist() == [0, 0, 0, 0, 1] and scores.argmax(1).tolist() == [0] * 5
    torch.testing.assert_close(scores.softmax(1)[:, 0], logits.softmax(1)[:, 0])
    few = {"start_positions": torch.tensor([0, 2, 3, 1, 3])}
    assert tallies.answered(spans(logits), few) is None
    assert tallies.answered({"logits": logits}, {"labels": starts}) is None


def spans(logits):
    return {"start_logits": logits, "end_logits": logits}
