import subprocess
import sys


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


def test_importing_the_package_does_not_import_torch():
    code = "import sys, parcnet_train; print('torch' in sys.modules, 'torchvision' in sys.modules)"
    assert run_python(code).stdout.split() == ["False", "False"]


def test_torchvision_can_be_imported_after_the_package():
    code = (
        "import parcnet_train, torchvision, torch; "
        "print(torch.ops.torchvision.nms(torch.tensor([[0., 0, 2, 2], [0, 0, 2, 2]]), "
        "torch.tensor([.5, .9]), .5).tolist())"
    )
    assert run_python(code).stdout.strip() == "[1]"


def test_albumentations_does_not_check_for_updates():
    code = (
        "import os; os.environ.pop('NO_ALBUMENTATIONS_UPDATE', None); import parcnet_train; "
        "print(os.environ['NO_ALBUMENTATIONS_UPDATE'])"
    )
    assert run_python(code).stdout.strip() == "1"
