"""Slow imports of other packages that are deferred, in fresh interpreters."""

import json
import subprocess
import sys

import pytest

SCRIPT = """
import importlib, json, sys
import parcnet_train

def has(*names):
    return [name for name in sys.modules if name.startswith(names)]

facts = {}
parcnet_train.run("action=check")
facts["deferred"] = has("torch._dynamo", "scipy.signal", "torch.distributed.tensor")
facts["unused"] = has("parcnet_train.pages", "parcnet_train.report", "sklearn", "pycocotools")
import lightning_fabric.wrappers, torch
OptimizedModule = lightning_fabric.wrappers.OptimizedModule
linear = torch.nn.Linear(1, 1)
facts["linear is compiled"] = isinstance(linear, OptimizedModule)
facts["imported by isinstance"] = has("torch._dynamo")
roi_align = importlib.import_module("torchvision.ops.roi_align")
facts["compiles"] = roi_align.is_compile_supported("cpu") in (True, False)
facts["imported by a call"] = "torch._dynamo" in sys.modules
compiled = torch.compile(linear, backend="eager")
facts["compiled is compiled"] = isinstance(compiled, OptimizedModule)
import scipy.signal, torch._dynamo
facts["real module"] = torch._dynamo.OptimizedModule.__module__
facts["convolution"] = scipy.signal.convolve([1, 2], [3, 4]).tolist()
print(json.dumps(facts))
"""


def run_python(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def facts():
    return json.loads(run_python(SCRIPT))


def test_check_imports_neither_deferred_packages_nor_pages(facts):
    assert facts["deferred"] == []
    assert facts["unused"] == []


def test_deferred_class_knows_its_instances(facts):
    assert facts["linear is compiled"] is False
    assert facts["imported by isinstance"] == []
    assert facts["compiled is compiled"] is True


def test_deferred_function_is_imported_when_it_is_called(facts):
    assert facts["compiles"]
    assert facts["imported by a call"]


def test_real_modules_can_be_imported_afterwards(facts):
    assert facts["real module"] == "torch._dynamo.eval_frame"
    assert facts["convolution"] == [3, 10, 8]


def test_modules_that_are_imported_before_are_used():
    code = (
        "import torch._dynamo, parcnet_train, pytorch_lightning.utilities.compile as module\n"
        "print(module.OptimizedModule is torch._dynamo.OptimizedModule)"
    )
    assert run_python(code) == "True"


USES = """
import sys
import parcnet_train
from parcnet_train.compat.deferred import DYNAMO, stand_ins
with stand_ins(DYNAMO):
    {use}
import torch._dynamo.config
print(found is torch._dynamo.config, torch._dynamo.config.suppress_errors)
"""


@pytest.mark.parametrize(
    ("use", "suppresses"),
    [
        ("import torch._dynamo.config; found = torch._dynamo.config", False),
        ("from torch._dynamo import config as found; found.suppress_errors = True", True),
    ],
    ids=["submodule", "attribute"],
)
def test_everything_else_of_a_stand_in_is_the_real_module(use, suppresses):
    same, suppressed = run_python(USES.format(use=use)).split()
    assert suppressed == str(suppresses)
    if "import torch._dynamo.config" in use:
        assert same == "True"
