"""A head on the mean of the patches: it reads all of them, and no [CLS]."""

import math

import torch
import torch.nn.functional as F

from cookbook.models import build
from cookbook.models.pooled import PooledClassifier
from cookbook.models.surgery import pour


def test_logits_by_hand_and_a_first_loss_of_ln_10():
    torch.manual_seed(0)
    model = PooledClassifier(build("vit", dropout=0.0).vit, 10).eval()
    pixels, labels = torch.randn(40, 1, 8, 8), torch.arange(40) % 10
    states = model.vit(pixels).last_hidden_state
    assert states.shape == (40, 17, 32)
    mean = F.layer_norm(states[:, 1:].sum(1) / 16, (32,))
    expected = mean @ model.classifier.weight.T + model.classifier.bias
    torch.testing.assert_close(model(pixels).logits, expected, rtol=1e-5, atol=1e-6)
    assert abs(model(pixels, labels).loss.item() - math.log(10)) < 0.05


def test_the_encoder_of_an_autoencoder_pours_in_whole():
    mae, model = build("mae", seed=1), PooledClassifier(build("vit", seed=2).vit, 10)
    report = pour(model, mae.state_dict())
    own = set(model.state_dict())
    assert own - {name for name in mae.state_dict() if name.startswith("vit")} == {
        "norm.weight", "norm.bias", "classifier.weight", "classifier.bias"}  # fmt: skip
    assert "of another shape: 0" in str(report)
    torch.testing.assert_close(
        model.vit.embeddings.position_embeddings, mae.vit.embeddings.position_embeddings
    )
