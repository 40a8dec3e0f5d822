import json
import math

import numpy as np
import pytest
import torch

from cookbook.doctor.findings import Curve, Finding, jsonable


def test_the_remedy_is_the_catalogues_unless_a_better_one_is_known():
    assert Finding("T2", "error", "…").remedy == "set the labels of padding to -100"
    assert Finding("T2", "error", "…", remedy="mend line 3").remedy == "mend line 3"


@pytest.mark.parametrize(("fault", "severity"), [("Z9", "error"), ("T2", "fatal")])
def test_unknown_ids_and_severities_are_refused(fault, severity):
    with pytest.raises(ValueError, match="Z9|fatal"):
        Finding(fault, severity, "…")


def test_to_dict_is_plain_json_even_for_numbers_that_json_lacks():
    curve = Curve({"loss": [(0, 1.0), (1, math.nan)]}, bound=np.float32(2.0))
    measured = {"share": torch.tensor(0.5), "worst": math.inf, "rows": np.int64(3), "name": "x"}
    plain = Finding("P1", "error", "…", measured=measured, curve=curve).to_dict()
    again = json.loads(json.dumps(plain, allow_nan=False))
    assert again["measured"] == {"share": 0.5, "worst": "inf", "rows": 3, "name": "x"}
    assert again["curve"]["lines"]["loss"] == [[0, 1.0], [1, "nan"]]
    assert again["curve"]["bound"] == 2.0


def test_jsonable_writes_what_it_does_not_know_as_words():
    assert jsonable(torch.float32) == "torch.float32"
    assert jsonable(True) is True
