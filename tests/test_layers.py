from pathlib import Path

from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "parcnet_train"


def test_imports_only_go_down():
    # pyproject.toml lists the layers under tool.importlinter.
    config = str(ROOT / "pyproject.toml")
    assert lint_imports(config_filename=config, no_cache=True) == EXIT_STATUS_SUCCESS


def test_folders_stay_small():
    folders = {file.parent for file in PACKAGE.rglob("*.py")}
    sizes = {folder: len(list(folder.glob("*.py"))) for folder in folders}
    assert len(sizes) > 20
    assert sizes[PACKAGE] <= 12
    assert {folder: size for folder, size in sizes.items() if size > 16} == {}


def test_every_package_has_a_docstring():
    for folder in {file.parent for file in PACKAGE.rglob("*.py")}:
        assert (folder / "__init__.py").read_text().startswith('"""'), folder
