import ast
from pathlib import Path

import parcnet_train

PACKAGE = Path(parcnet_train.__file__).parent
COMPAT = "parcnet_train.compat"
PREPARED = {"albumentations", "pytorch_lightning", "timm", "torchmetrics", "torchvision"}


def first_of_them(path):
    """What a file imports first of `compat` and of what that prepares, wherever in its text."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.lineno, node.module))
    names = (name for _, name in sorted(found))
    return next((name for name in names if name == COMPAT or name.split(".")[0] in PREPARED), None)


def is_prepared(path):
    """Whether `compat` comes first, in the file or in a package around it."""
    packages = [folder / "__init__.py" for folder in path.parents if PACKAGE in folder.parents]
    return any(first_of_them(file) == COMPAT for file in (path, *packages))


def test_every_module_can_be_imported_alone():
    files = [path for path in sorted(PACKAGE.rglob("*.py")) if first_of_them(path) is not None]
    assert len(files) > 10
    assert [str(path) for path in files if not is_prepared(path)] == []
