import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "parcnet_train"


def test_imports_only_go_down():
    # pyproject.toml lists the layers under tool.importlinter. The linter silences the loggers of
    # the process that it runs in, so it gets a process of its own.
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", code, "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_folders_stay_small():
    folders = {file.parent for file in PACKAGE.rglob("*.py")}
    sizes = {folder: len(list(folder.glob("*.py"))) for folder in folders}
    assert len(sizes) > 20
    assert sizes[PACKAGE] <= 12
    assert {folder: size for folder, size in sizes.items() if size > 16} == {}


def test_every_package_has_a_docstring():
    for folder in {file.parent for file in PACKAGE.rglob("*.py")}:
        assert (folder / "__init__.py").read_text().startswith('"""'), folder
