"""Published weights of a small network."""

import pytest
import timm
import torch

import golden


@pytest.fixture(scope="module")
def reference():
    """Return timm's smallest MobileViT, with three classes."""
    model = timm.create_model("mobilevit_xxs", num_classes=3).eval()
    model.load_state_dict(golden.weights_of(model))
    return model


@pytest.fixture
def source(reference, tmp_path):
    torch.save(reference.state_dict(), tmp_path / "published.pt")
    return tmp_path / "published.pt"
