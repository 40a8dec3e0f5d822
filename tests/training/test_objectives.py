"""What is masked, how much of it, and that only (seed, epoch, row) decide it."""

import copy
from collections import Counter

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from cookbook.data.tokenization import Packed, pack
from cookbook.training.objectives import (
    IGNORE,
    MaskedLMCollator,
    continuations,
    mask_tokens,
    next_sentence_pairs,
    sentences,
)
from cookbook.training.order import EpochSampler, Keyed, key_generator
from cookbook.training.stacking import HIDDEN

VOCABULARY, MASK = 1000, 4


def mask(ids, maskable=None, *, seed=0, **settings):
    ids = np.asarray(ids)
    maskable = np.ones(len(ids), bool) if maskable is None else np.asarray(maskable, bool)
    rng = np.random.default_rng(seed)
    return mask_tokens(ids, maskable, rng, mask_id=MASK, vocab_size=VOCABULARY, **settings)


IDS = st.lists(st.tuples(st.integers(5, VOCABULARY - 1), st.booleans()), max_size=70)


@given(IDS, st.integers(0, 99), st.floats(0.01, 1.0))
def test_exactly_the_share_is_masked_and_nothing_else_touched(tokens, seed, probability):
    ids = np.array([token for token, _ in tokens], int)
    maskable = np.array([allowed for _, allowed in tokens], bool)
    inputs, labels = mask(ids, maskable, seed=seed, probability=probability)
    chosen = labels != IGNORE
    count = maskable.sum()
    assert chosen.sum() == (max(1, round(probability * count)) if count else 0)
    assert not (chosen & ~maskable).any()
    assert (labels[chosen] == ids[chosen]).all()
    assert (inputs[~chosen] == ids[~chosen]).all()


def test_of_a_hundred_tokens_fifteen_are_asked():
    _, labels = mask(np.arange(100, 200))
    assert (labels != IGNORE).sum() == 15


@pytest.mark.parametrize("length", [1, 2, 3])
def test_even_the_shortest_text_is_asked_one_token(length):
    assert (mask(np.arange(10, 10 + length))[1] != IGNORE).sum() == 1


def test_of_the_asked_tokens_80_are_hidden_10_swapped_and_10_shown():
    ids = np.full(200_000, 7)
    inputs, labels = mask(ids)
    asked = inputs[labels != IGNORE]
    n = len(asked)
    assert n == 30_000
    # A random token is the same or the mask by chance once in a thousand.
    shares = {"hidden": (asked == MASK).mean(), "shown": (asked == 7).mean(),
              "swapped": ((asked != MASK) & (asked != 7)).mean()}  # fmt: skip
    by_chance = 0.1 / VOCABULARY
    expected = {"hidden": 0.8 + by_chance, "shown": 0.1 + by_chance, "swapped": 0.1 - 2 * by_chance}
    for fate, share in expected.items():
        assert abs(shares[fate] - share) < 4 * (share * (1 - share) / n) ** 0.5, fate
    swapped = asked[(asked != MASK) & (asked != 7)]
    assert len(set(swapped)) > 900 and swapped.min() >= 0 and swapped.max() < VOCABULARY


def test_every_place_is_equally_likely():
    counts = sum((mask(np.full(20, 7), seed=s)[1] != IGNORE).astype(int) for s in range(3000))
    share = 3 / 20
    assert np.abs(counts / 3000 - share).max() < 4 * (share * (1 - share) / 3000) ** 0.5


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60),
       st.integers(0, 99))  # fmt: skip
def test_whole_words_are_masked_whole_or_not_at_all(tokens, seed):
    continues = np.array([joined for joined, _ in tokens], bool)
    maskable = np.array([allowed for _, allowed in tokens], bool)
    _, labels = mask(np.full(len(tokens), 7), maskable, seed=seed, continues=continues)
    chosen, words, word = labels != IGNORE, [], []
    for place in np.flatnonzero(maskable):
        if word and (not continues[place] or place != word[-1] + 1):
            words.append(word)
            word = []
        word.append(int(place))
    words += [word] if word else []
    assert all(len(set(chosen[word])) == 1 for word in words)
    if words:
        wanted = max(1, round(0.15 * maskable.sum()))
        shortest = min(map(len, words))
        assert 1 <= chosen.sum() <= max(wanted, shortest)


def test_whole_words_of_one_piece_are_masked_to_the_exact_share():
    _, labels = mask(np.full(100, 7), continues=np.zeros(100, bool))
    assert (labels != IGNORE).sum() == 15


def test_a_hand_worked_word_mask():
    # Four words of 1, 3, 1 and 2 pieces; two tokens are wanted.
    continues = np.array([0, 0, 1, 1, 0, 0, 1], bool)
    allowed = [{0, 4}, {5, 6}]
    for seed in range(30):
        _, labels = mask(np.full(7, 9), continues=continues, probability=0.3, seed=seed)
        assert set(np.flatnonzero(labels != IGNORE)) in allowed


def test_wordpieces_that_continue_are_marked(tokenizer):
    found = continuations(tokenizer)
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    assert found.shape == (len(tokenizer),)
    assert {t for t, joined in zip(tokens, found, strict=True) if joined} == {
        t for t in tokens if t.startswith("##")
    }


@pytest.mark.parametrize("mark", ["Ġ", "▁"])
def test_in_byte_level_and_sentence_vocabularies_the_unmarked_pieces_continue(mark):
    class Tokenizer:
        all_special_tokens = ["<s>", "<mask>"]
        vocabulary = ["<s>", "<mask>", f"{mark}the", "re", f"{mark}re", ","]

        def __len__(self):
            return len(self.vocabulary)

        def convert_ids_to_tokens(self, ids):
            return [self.vocabulary[i] for i in ids]

    assert continuations(Tokenizer()).tolist() == [False, False, False, True, False, True]


@pytest.fixture
def rows(tokenizer):
    texts = [f"The solver computes the gradient of {n} tensors." * (n % 3 + 1) for n in range(12)]
    return [{"input_ids": tokenizer(text)["input_ids"]} for text in texts]


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_a_batch_is_padded_and_specials_and_padding_are_never_asked(rows, tokenizer):
    batch = MaskedLMCollator(tokenizer)([Keyed(rows)[row] for row in range(12)])
    longest = max(len(row["input_ids"]) for row in rows)
    assert {name: tuple(t.shape) for name, t in batch.items()} == dict.fromkeys(
        ["input_ids", "labels", "attention_mask"], (12, longest)
    )
    assert {t.dtype for t in batch.values()} == {torch.int64}
    original = torch.zeros(12, longest, dtype=torch.long)
    for number, row in enumerate(rows):
        size = len(row["input_ids"])
        original[number, :size] = torch.tensor(row["input_ids"])
        assert batch["attention_mask"][number].tolist() == [1] * size + [0] * (longest - size)
    special = torch.isin(original, torch.tensor(tokenizer.all_special_ids))
    asked = batch["labels"] != IGNORE
    assert not (asked & special).any() and asked.any(1).all()
    assert torch.equal(batch["input_ids"][~asked], original[~asked])
    assert torch.equal(batch["labels"][asked], original[asked])


def test_a_row_of_specials_only_is_asked_nothing(tokenizer):
    row = {"input_ids": [tokenizer.cls_token_id, tokenizer.unk_token_id, tokenizer.sep_token_id]}
    batch = MaskedLMCollator(tokenizer)([Keyed([row])[0]])
    assert (batch["labels"] == IGNORE).all()


def test_a_mask_is_a_function_of_seed_epoch_and_row_alone(rows, tokenizer):
    collate, keyed = MaskedLMCollator(tokenizer, seed=3), Keyed(rows)
    alone = collate([keyed[(1, 4)]])
    torch.manual_seed(99)
    np.random.seed(99)
    length = alone["input_ids"].shape[1]
    among = collate([keyed[(0, 2)], keyed[(1, 4)], keyed[(1, 5)]])
    assert torch.equal(among["input_ids"][1, :length], alone["input_ids"][0])
    assert torch.equal(among["labels"][1, :length], alone["labels"][0])
    for other in (
        collate([keyed[(2, 4)]]),
        MaskedLMCollator(tokenizer, seed=4)([keyed[(1, 4)]]),
    ):
        assert not torch.equal(other["labels"], alone["labels"])
    twin = collate([Keyed([rows[4]] * 5)[(1, 3)]])  # the same text, another row
    assert not torch.equal(twin["labels"], alone["labels"])


def test_masking_draws_nothing_from_the_global_states(rows, tokenizer):
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    MaskedLMCollator(tokenizer, whole_word=True)([Keyed(rows)[0]])
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()


def test_worker_processes_make_the_same_batches(rows, tokenizer):
    def batches(workers):
        sampler = EpochSampler(len(rows), seed=5)
        sampler.set_epoch(2)
        return list(torch.utils.data.DataLoader(
            Keyed(rows), batch_size=5, sampler=sampler, num_workers=workers,
            collate_fn=MaskedLMCollator(tokenizer),
        ))  # fmt: skip

    for here, there in zip(batches(0), batches(2), strict=True):
        assert same(here, there)


def test_rows_that_do_not_say_who_they_are_are_refused(rows, tokenizer):
    with pytest.raises(ValueError, match="wrap the dataset in cookbook.training.order.Keyed$"):
        MaskedLMCollator(tokenizer)(rows)


def test_a_tokenizer_without_a_mask_token_is_refused(rows):
    class Tokenizer:
        pad_token_id, mask_token_id = 0, None

    with pytest.raises(ValueError, match="^the tokenizer has no mask token"):
        MaskedLMCollator(Tokenizer())


def test_segments_positions_and_next_sentence_labels_go_with_their_rows(tokenizer):
    rows = [{"input_ids": [2, 9, 3, 8, 3], "token_type_ids": [0, 0, 0, 1, 1],
             "position_ids": [0, 1, 2, 0, 1], "next_sentence_label": 1},
            {"input_ids": [2, 9, 3], "token_type_ids": [0, 0, 0], "position_ids": [0, 1, 2],
             "next_sentence_label": 0}]  # fmt: skip
    batch = MaskedLMCollator(tokenizer)([Keyed(rows)[0], Keyed(rows)[1]])
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 1, 1], [0, 0, 0, 0, 0]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1], [0, 1, 2, 0, 0]]
    assert batch["next_sentence_label"].tolist() == [1, 0]


def test_an_attention_mask_that_a_row_brings_is_kept(tokenizer):
    row = {"input_ids": [2, 9, 9, 3, 0, 0], "attention_mask": [1, 1, 1, 1, 0, 0]}
    batch = MaskedLMCollator(tokenizer)([Keyed([row])[0]])
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 0, 0]]


def test_one_document_a_row_is_masked_by_length_and_counted_by_the_model(tokenizer):
    packed = pack([[9, 8, 7], [6, 5]], 4)
    batch = MaskedLMCollator(tokenizer)([Keyed(packed)[0], Keyed(packed)[1]])
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 0, 0, 0]]
    assert "position_ids" not in batch  # RoBERTa's begin at 2: a 0, 1, 2 … would be wrong there


def test_documents_packed_apart_see_only_themselves(tokenizer):
    packed = pack([[9, 8], [7], [6, 5, 4]], 4, cross_documents=False)
    batch = MaskedLMCollator(tokenizer)([Keyed(packed)[0], Keyed(packed)[1]])
    assert batch["attention_mask"].shape == (2, 1, 4, 4)
    assert set(batch["attention_mask"].unique().tolist()) == {0.0, HIDDEN}
    seen = batch["attention_mask"] == 0
    assert seen[0, 0].int().tolist() == [
        [1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1],
    ]  # fmt: skip
    assert seen[1, 0].int().tolist() == [
        [1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 1],
    ]  # fmt: skip
    assert batch["position_ids"].tolist() == [[0, 1, 0, 0], [0, 1, 2, 0]]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_no_kernel_lets_a_document_see_its_neighbour(tiny_bert, tokenizer, attention):
    model = tiny_bert(attn_implementation=attention).eval()
    packed = pack([[9, 8, 7], [6, 5, 4, 3, 2]], 8, cross_documents=False)
    batch = MaskedLMCollator(tokenizer)([Keyed(packed)[0]])
    assert packed.document_ids.tolist() == [[1, 1, 1, 2, 2, 2, 2, 2]]
    given = {name: batch[name] for name in ("attention_mask", "position_ids")}
    logits = []
    for last in (11, 12):
        ids = torch.tensor([[9, 8, 7, 6, 5, 4, 3, last]])
        logits.append(model(input_ids=ids, **given).logits.detach())
    assert torch.equal(logits[0][:, :3], logits[1][:, :3])
    assert not torch.equal(logits[0][:, 3:], logits[1][:, 3:])


def test_padding_of_packed_rows_is_never_asked_whatever_its_token():
    class Tokenizer:  # whose padding is an ordinary token, as in GPT-2
        pad_token_id, mask_token_id = 50, 4
        all_special_tokens, all_special_ids = ["[MASK]"], [4]

        def __len__(self):
            return 60

    packed = pack([[9, 8, 7]], 20, pad_id=50)
    for epoch in range(20):
        labels = MaskedLMCollator(Tokenizer())([Keyed(packed)[(epoch, 0)]])["labels"]
        assert (labels[0, 3:] == IGNORE).all() and (labels[0, :3] != IGNORE).sum() == 1


@pytest.mark.parametrize("family", ["Bert", "Roberta"])
def test_a_packed_row_gets_the_positions_that_the_architecture_wants(tokenizer, family):
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=40, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = getattr(transformers, f"{family}ForMaskedLM")(config).eval()
    packed = pack([list(range(10, 30))], 12, pad_id=tokenizer.pad_token_id)
    batch = MaskedLMCollator(tokenizer)([Keyed(packed)[0], Keyed(packed)[1]])
    batch.pop("labels")
    ids = torch.tensor(packed.input_ids).long()
    with torch.no_grad():
        packed_logits = model(**(batch | {"input_ids": ids})).logits
        plain = model(input_ids=ids, attention_mask=(ids != 0).long()).logits
    assert torch.allclose(packed_logits[0], plain[0], atol=1e-6)
    assert torch.allclose(packed_logits[1, :8], plain[1, :8], atol=1e-6)


@pytest.mark.parametrize("text, expected", [
    ("One. Two! Three?", ["One.", "Two!", "Three?"]), ("", []), ("  \n\n ", []),
    ("one line\n\nanother", ["one line", "another"]), ("v1.2 and e.g.this", ["v1.2 and e.g.this"]),
    ("第一句。第二句！", ["第一句。", "第二句！"]),
])  # fmt: skip
def test_sentences(text, expected):
    assert sentences(text) == expected


DOCUMENTS = [
    " ".join(f"Sentence {s} of document {d}." for s in range(2 + d % 4)) for d in range(60)
]


def parts_of(row, tokenizer):
    ids, segments = np.array(row["input_ids"]), np.array(row["token_type_ids"])
    assert ids[0] == tokenizer.cls_token_id
    assert [ids[segments == s][-1] for s in (0, 1)] == [tokenizer.sep_token_id] * 2
    return tokenizer.decode(ids[segments == 0][1:-1]), tokenizer.decode(ids[segments == 1][:-1])


def test_label_0_follows_and_label_1_is_of_another_document(tokenizer):
    plain = [tokenizer.decode(tokenizer(d, add_special_tokens=False)["input_ids"])
             for d in DOCUMENTS]  # fmt: skip
    rows = next_sentence_pairs(DOCUMENTS, tokenizer, length=400)
    assert len(rows) == len(DOCUMENTS)
    for own, row in zip(plain, rows, strict=True):
        first, second = parts_of(row, tokenizer)
        assert own.startswith(first)
        assert row["next_sentence_label"] == int(not own == f"{first} {second}")
        if row["next_sentence_label"] == 1:
            assert not own.endswith(second)
            assert sum(other.endswith(second) for other in plain) >= 1


def test_half_of_the_pairs_are_of_another_document(tokenizer):
    rows = next_sentence_pairs([f"First {n}. Second {n}." for n in range(1000)], tokenizer)
    share = np.mean([row["next_sentence_label"] for row in rows])
    assert abs(share - 0.5) < 4 * 0.5 / 1000**0.5


@given(st.integers(5, 60), st.integers(0, 9))
def test_a_pair_fits_and_holds_a_token_of_each_part(tokenizer, length, seed):
    for row in next_sentence_pairs(DOCUMENTS[:6], tokenizer, length=length, seed=seed):
        assert len(row["input_ids"]) == len(row["token_type_ids"]) <= length
        counts = Counter(row["token_type_ids"])
        assert counts[0] >= 3 and counts[1] >= 2


def test_what_is_cut_is_furthest_from_where_the_parts_meet(tokenizer):
    documents = ["a b c d e f g h. i j k l m n o p.", "x. y."]
    for seed in range(9):
        row = next_sentence_pairs(documents, tokenizer, length=11, seed=seed)[0]
        first, second = parts_of(row, tokenizer)
        assert first == "f g h."
        assert second == ("y." if row["next_sentence_label"] else "i j k l")


def test_pairs_are_a_function_of_the_seed(tokenizer):
    torch.manual_seed(1)
    first = next_sentence_pairs(DOCUMENTS, tokenizer, seed=1)
    torch.manual_seed(2)
    assert next_sentence_pairs(DOCUMENTS, tokenizer, seed=1) == first
    assert next_sentence_pairs(DOCUMENTS, tokenizer, seed=2) != first


def test_a_copy_of_a_document_does_not_serve_as_another_one(tokenizer):
    copies = ["One of them. Two of them. Three of them."] * 9
    rows = next_sentence_pairs([*copies, "Something else. Entirely so."], tokenizer)
    own = tokenizer.decode(tokenizer(copies[0], add_special_tokens=False)["input_ids"])
    for row in rows[:9]:
        _, second = parts_of(row, tokenizer)
        assert own.endswith(second) == (row["next_sentence_label"] == 0)
    # With nothing but copies there is nothing wrong to say.
    labels = [row["next_sentence_label"] for row in next_sentence_pairs(copies, tokenizer)]
    assert labels == [0] * 9


@pytest.mark.parametrize("documents", [[], ["One only."], ["One. Two.", "One only.", ""]])
def test_two_documents_of_two_sentences_are_needed(tokenizer, documents):
    count = sum(text.count(".") > 1 for text in documents)
    with pytest.raises(ValueError) as caught:
        next_sentence_pairs(documents, tokenizer)
    assert str(caught.value) == (
        f"{count} of {len(documents)} documents have two sentences; next sentence prediction needs "
        "at least two such documents"
    )


def test_a_length_without_room_for_both_parts_is_refused(tokenizer):
    with pytest.raises(ValueError, match="^length is 4: two parts and three special tokens need"):
        next_sentence_pairs(DOCUMENTS, tokenizer, length=4)


def test_long_documents_are_cut_without_a_warning(tokenizer, caplog):
    fresh = copy.deepcopy(tokenizer)  # a tokenizer warns but once in its life
    next_sentence_pairs(["One. " * 500, "Two. " * 500], fresh, length=16)
    assert not caplog.records


def test_a_packed_row_and_a_key_generator_are_what_the_masks_are_made_of(tokenizer):
    packed = Packed(np.full((1, 40), 9), np.ones((1, 40), int), np.arange(40)[None])
    expected = mask_tokens(
        np.full(40, 9), np.ones(40, bool), key_generator(7, 3, 0),
        mask_id=tokenizer.mask_token_id, vocab_size=len(tokenizer),
    )  # fmt: skip
    batch = MaskedLMCollator(tokenizer, seed=7)([Keyed(packed)[(3, 0)]])
    assert batch["input_ids"][0].tolist() == expected[0].tolist()
    assert batch["labels"][0].tolist() == expected[1].tolist()
