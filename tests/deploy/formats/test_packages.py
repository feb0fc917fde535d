"""Optional packages."""

import json
import sys

import pytest

from parcnet_train.deploy.formats.packages import needed
from parcnet_train.errors import ConfigError


def test_installed_package_is_imported():
    assert needed("json", "onnx") is json


def test_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "MNN", None)
    with pytest.raises(ConfigError, match=r"MNN is not installed.*pip install 'parcnet-train\[mnn"):
        needed("MNN", "mnn")
