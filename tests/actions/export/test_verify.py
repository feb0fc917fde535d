"""An exported file that does not match PyTorch is removed."""

import dataclasses
import re
import signal
from typing import ClassVar

import numpy as np
import pytest

from exporting import EXPORT
from parcnet_train.actions.export import export as exporting
from parcnet_train.actions.export import verify as verifying
from parcnet_train.deploy.formats.formats import FORMATS
from parcnet_train.errors import ExportError
from parcnet_train.runs.directories import RESULTS
from running import run


@pytest.mark.slow
def test_a_package_over_a_tolerance_is_removed(trained, tmp_path, monkeypatch):
    """Core ML's runtime, whose output differs here, exists on macOS only."""

    class Other:
        names = ("logits",)
        metadata: ClassVar[dict[str, str]] = {}

        def run(self, images):
            return {"logits": np.zeros((len(images), 10), np.float32)}

    form = dataclasses.replace(FORMATS["coreml"], open=lambda *_, **__: Other(), macos_only=False)
    monkeypatch.setitem(exporting.FORMATS, "coreml", form)
    with pytest.raises(ExportError, match=r"format=coreml: the file's output does not match"):
        run((*EXPORT, f"ckpt={trained[0]}", "export.format=coreml"), tmp_path)
    assert not list(tmp_path.glob("parcnet_xs*"))


def test_a_file_over_a_tolerance_is_removed(trained, tmp_path, monkeypatch):
    strict = dataclasses.replace(FORMATS["onnx"], tolerance=1e-12)
    monkeypatch.setitem(exporting.FORMATS, "onnx", strict)
    monkeypatch.setattr(verifying, "METRIC_TOLERANCE", -1.0)
    with pytest.raises(ExportError) as refusal:
        run((*EXPORT, f"ckpt={trained[0]}", "export.verify=metric"), tmp_path)
    message = str(refusal.value)
    assert message.startswith("export.format=onnx: the file's output does not match PyTorch")
    assert "logits differs by" in message
    assert re.search(r"val/top1 is 0\.\d+, PyTorch has 0\.\d+; expected a difference", message)
    assert message.endswith("export.verify=none")
    assert not list(tmp_path.glob("*.onnx"))
    assert not (tmp_path / RESULTS).exists()


def test_so_is_a_file_whose_comparison_is_interrupted(trained, tmp_path, monkeypatch):
    def press_ctrl_c(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(verifying.Comparing, "forward", press_ctrl_c)
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(KeyboardInterrupt):  # of which Lightning makes an exit code of 1
            run((*EXPORT, f"ckpt={trained[0]}"), tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)  # which Lightning switches off
    assert not list(tmp_path.glob("*.onnx"))


def test_so_are_all_its_parts(trained, tmp_path, monkeypatch):
    strict = dataclasses.replace(FORMATS["openvino"], tolerance=1e-12)
    monkeypatch.setitem(exporting.FORMATS, "openvino", strict)
    with pytest.raises(ExportError, match=r"format=openvino: the file's output does not match"):
        run((*EXPORT, f"ckpt={trained[0]}", "export.format=openvino"), tmp_path)
    assert not list(tmp_path.glob("parcnet_xs*"))
