"""Local Hugging Face data sets."""

import datasets
import pytest

from huggingface_rows import rows_of, saved


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """Use a separate cache and no network."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: pytest.fail("no network is needed"))


@pytest.fixture
def root(image_folder, tmp_path):
    rows = {"train": rows_of(image_folder / "train"), "validation": rows_of(image_folder / "val")}
    saved(rows, tmp_path / "saved")
    return tmp_path / "saved"
