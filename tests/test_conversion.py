"""Parity with the authors' implementation, and the published parameter counts."""

import pytest
import torch

import golden
from parcnet_train.backbones.mobilevit import MobileViT
from parcnet_train.backbones.parcnet import ParCNet
from parcnet_train.conversion import convert_state_dict
from parcnet_train.heads.classifier import Classifier
from parcnet_train.model import Model

NETWORKS = {
    "parcnet_s": lambda: ParCNet((16, 32, 64), (96, 128, 160), (192, 256, 320), (2, 4, 3)),
    "mobilevit_s": lambda: MobileViT((16, 32, 64), (96, 128, 160), (144, 192, 240), (2, 4, 3)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_classification_matches_the_authors_outputs(name):
    stored = golden.read(f"{name}_classification")
    backbone = NETWORKS[name]()
    model = Model(backbone, Classifier(backbone.levels, 1000)).eval()
    assert sum(p.numel() for p in model.parameters()) == stored["params"]
    model.load_state_dict(convert_state_dict(golden.state_dict(stored)))
    for case in stored["cases"]:
        with torch.inference_mode():
            logits = model(golden.image(case["image"]).flip(1)).double().flatten()
        want = case["outputs"]["logits"]
        tolerance = 1e-4 * want["std"]
        got = logits[want["index"]]
        assert torch.allclose(got, torch.tensor(want["value"]).double(), rtol=0, atol=tolerance)
        assert logits.mean().item() == pytest.approx(want["mean"], abs=tolerance)
        assert logits.std().item() == pytest.approx(want["std"], abs=tolerance)
