"""`load` on real sets that nobody here wrote; skipped where `COOKBOOK_DATA_DIR` names none."""

import os

import pytest
from datasets import Value

from cookbook.data import splits
from cookbook.data.sources import load

SETS = {  # name -> (roles, rows of each split that is given, kind of label)
    "banking77": ({"text", "label"}, {"test": 3080}, 77),
    "cola": ({"text", "label"}, {"validation": 1043}, 2),
    "imdb_label_errors": ({"text", "label"}, {}, 2),
    "mnist": ({"image", "label"}, {"test": 10000}, 10),
    "noto_emoji": ({"image", "caption"}, {}, None),
    "sms_spam": ({"text", "label"}, {}, 2),
    "snli_small": ({"text", "text_pair", "label"}, {"test": 9824}, 3),
    "snli_triplets": ({"text", "text_pair"}, {"test": 2929}, None),
    "stsb": ({"text", "text_pair", "label"}, {"train": 5749, "test": 1379}, "float32"),
    "stsb_zh": ({"text", "text_pair", "label"}, {"validation": 1458}, "float32"),
    "tatoeba_en_zh": ({"source", "target"}, {}, None),
    "tinyshakespeare": ({"text"}, {}, None),
    "waimai_zh": ({"text", "label"}, {}, 2),
    "wikitext2": ({"text"}, {"train": 36719, "validation": 3761, "test": 4359}, None),
    "wnut17": ({"tokens", "tags"}, {"train": 3394, "validation": 1009, "test": 1287}, None),
    "xquad_en": ({"context", "question", "answers"}, {"train": 0, "test": 1190}, None),
    "xquad_zh": ({"context", "question", "answers"}, {"train": 0, "test": 1190}, None),
    "zh_poems": ({"text"}, {}, None),
    "zh_wiki": ({"text"}, {}, None),
}  # sst2 is like cola, only ten times longer


@pytest.mark.parametrize("name", SETS)
def test_real_sets_are_understood(name):
    folder = os.environ.get("COOKBOOK_DATA_DIR")
    if not folder:
        pytest.skip("COOKBOOK_DATA_DIR is not set: no real data to load")
    if not os.path.exists(os.path.join(folder, name)):
        pytest.skip(f"COOKBOOK_DATA_DIR has no {name}")
    dataset = load(name)
    expected, rows, label = SETS[name]
    assert list(dataset) == list(splits.NAMES)
    assert expected <= set(dataset["test"].column_names)
    assert rows.items() <= dataset.num_rows.items()
    found = dataset["test"].features.get("label")
    if isinstance(label, int):
        assert found.num_classes == label
    else:
        assert found == (label and Value(label))
