"""Slow imports of other packages that are deferred, in fresh interpreters."""

import subprocess
import sys

SLOW = ("torch._dynamo", "scipy.signal", "torch.distributed.tensor")


def run_python(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_check_imports_no_deferred_package():
    code = (
        "import sys, parcnet_train; parcnet_train.run('action=check'); "
        f"print([name for name in {SLOW!r} if name in sys.modules])"
    )
    assert run_python(code).splitlines()[-1] == "[]"


def test_check_imports_no_page_or_report():
    code = (
        "import sys, parcnet_train; parcnet_train.run('action=check'); "
        "print([name for name in sys.modules if name.startswith(('parcnet_train.pages', "
        "'parcnet_train.report', 'sklearn', 'pandas', 'pycocotools'))])"
    )
    assert run_python(code).splitlines()[-1] == "[]"


def test_real_modules_can_be_imported_afterwards():
    code = (
        "import parcnet_train, pytorch_lightning, torchvision, torchmetrics\n"
        "import torch, torch._dynamo, scipy.signal\n"
        "from torch._dynamo import OptimizedModule\n"
        "print(torch._dynamo.utils.is_compile_supported('cpu') in (True, False), "
        "OptimizedModule.__module__, scipy.signal.convolve([1, 2], [3, 4]).tolist())"
    )
    expected = "True torch._dynamo.eval_frame [3, 10, 8]"
    assert run_python(code) == expected


def test_modules_that_are_imported_before_are_used():
    code = (
        "import torch._dynamo, parcnet_train, pytorch_lightning.utilities.compile as module\n"
        "print(module.OptimizedModule is torch._dynamo.OptimizedModule)"
    )
    assert run_python(code) == "True"


def test_deferred_class_knows_its_instances():
    code = (
        "import sys, parcnet_train, torch, lightning_fabric.wrappers as module\n"
        "before = isinstance(torch.nn.Linear(1, 1), module.OptimizedModule), "
        "'torch._dynamo' in sys.modules\n"
        "compiled = torch.compile(torch.nn.Linear(1, 1), backend='eager')\n"
        "print(*before, isinstance(compiled, module.OptimizedModule))"
    )
    assert run_python(code) == "False False True"


def test_deferred_function_is_called():
    code = (
        "import sys, parcnet_train, torchvision.ops.roi_align as module\n"
        "import importlib\n"
        "module = importlib.import_module('torchvision.ops.roi_align')\n"
        "before = 'torch._dynamo' in sys.modules\n"
        "print(before, module.is_compile_supported('cpu') in (True, False), "
        "'torch._dynamo' in sys.modules)"
    )
    assert run_python(code) == "False True True"
