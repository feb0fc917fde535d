"""Files of published weights."""

import collections
import pickle
import sys
from pathlib import Path

import pytest
import torch

from converting import refused
from parcnet_train.checkpoints.published_files import read_published


def wrapped(state, kind):
    other = {name: torch.zeros_like(value) for name, value in state.items()}
    return {
        "bare": (state, None),
        "parallel": ({f"module.{name}": value for name, value in state.items()}, None),
        "authors": (
            {"epoch": 3, "model_state_dict": other, "ema_state_dict": state, "best_metric": 0.5},
            "ema_state_dict",
        ),
        "without average": ({"model_state_dict": state, "ema_state_dict": None}, None),
        "timm": ({"state_dict": other, "state_dict_ema": state, "arch": "x"}, "state_dict_ema"),
        "lightning": ({"state_dict": state}, "state_dict"),
        "model": ({"model": {f"module.{n}": value for n, value in state.items()}}, "model"),
    }[kind]


@pytest.mark.parametrize(
    "kind", ["bare", "parallel", "authors", "without average", "timm", "lightning", "model"]
)
def test_weights_are_found_inside_training_checkpoints(kind, tmp_path):
    state = {"a.weight": torch.rand(2), "a.bias": torch.rand(2)}
    content, entry = wrapped(state, kind)
    torch.save(content, tmp_path / "checkpoint.pt")
    found, taken = read_published(tmp_path / "checkpoint.pt")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], value) for name, value in state.items())
    assert taken == (entry if kind != "without average" else "model_state_dict")


def test_missing_safetensors_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    (tmp_path / "a.safetensors").write_bytes(b"")
    fault = refused(tmp_path / "a.safetensors")
    assert "not installed" in fault
    assert "pip install safetensors" in fault


class Code:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


def test_files_are_read_without_executing_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"a": torch.zeros(1)}, "args": Code()}, tmp_path / "crafted.pt")
    message = refused(tmp_path / "crafted.pt")
    assert "crafted.pt cannot be read" in message
    assert "torch.save" in message
    (tmp_path / "crafted.bin").write_bytes(pickle.dumps(Code()))
    assert "nothing in a file is executed" in refused(tmp_path / "crafted.bin")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": torch.zeros(1), "b": 3}, "entry 'b' is of type int; expected names and tensors"),
        ({"state_dict": {"a": [1.0]}}, "entry 'a' is of type list; expected names and tensors"),
        ({3: torch.zeros(1)}, "entry 3 is of type Tensor; expected names and tensors"),
        ([torch.zeros(1)], "the content is of type list; expected a state dict"),
        ({}, "the content is empty; expected a state dict"),
        (
            {"a": torch.eye(2).to_sparse()},
            "'a' is a tensor of sparse_coo float32 on the cpu device",
        ),
        ({"a": torch.zeros(1, device="meta")}, "'a' is a tensor of strided float32 on the meta d"),
        ({"a": torch.zeros(1, dtype=torch.cfloat)}, "'a' is a tensor of strided complex64 on the"),
        (collections.OrderedDict(a=torch.zeros(1)), "number of classes of task=classification"),
    ],
    ids=str,
)
def test_files_without_a_state_dict_of_plain_tensors_are_errors(content, message, tmp_path):
    torch.save(content, tmp_path / "published.pt")
    assert message in refused(tmp_path / "published.pt")
