"""What leaves Python says the same: any batch, any length, torch.export and ONNX."""

import numpy as np
import pytest
import torch

from cookbook.finetuning import exporting


@pytest.fixture
def model(tiny_bert):
    return tiny_bert("BertForSequenceClassification", num_labels=3, attn_implementation="sdpa")


def batch(rows, length):
    ids = torch.randint(5, 300, (rows, length))
    mask = torch.ones_like(ids)
    mask[0, length // 2 :] = 0
    return {"input_ids": ids, "attention_mask": mask}


def test_program_and_onnx_agree_with_the_model(model, tmp_path):
    model.train()
    exported = exporting.program(model)
    assert model.training
    model.eval()
    path = exporting.to_onnx(exported, tmp_path / "model.onnx")
    small = exporting.int8_onnx(path, tmp_path / "small.onnx")
    run, coarse = exporting.onnx_logits(path), exporting.onnx_logits(small)
    for shape in ((1, 2), (3, 17), (5, 64)):
        given = batch(*shape)
        with torch.no_grad():
            expected = model(**given).logits.numpy()
            assert np.allclose(exported.module()(**given).numpy(), expected, atol=1e-4)
        assert np.allclose(run(**given), expected, atol=1e-4)
        assert np.abs(coarse(**given) - expected).max() < 0.1
