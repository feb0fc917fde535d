"""The wheel is built, installed in an empty environment, and run from another folder."""

import importlib.metadata
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def call(*command, cwd):
    # An interpreter may find packages only in its own environment.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def needed(requirements):
    """Return the packages that meet some requirements, and those that these require in turn."""
    found, left = {}, [(requirement, ("",)) for requirement in requirements]
    while left:
        text, extras = left.pop()
        wanted = Requirement(text)
        is_wanted = wanted.marker is None or any(
            wanted.marker.evaluate({"extra": extra}) for extra in extras
        )
        key = (wanted.name, frozenset(wanted.extras))
        if is_wanted and key not in found:
            found[key] = package = importlib.metadata.distribution(wanted.name)
            assert wanted.specifier.contains(package.version, prereleases=True), text
            left += [(each, ("", *wanted.extras)) for each in package.requires or ()]
    return found.values()


def linked(wheel, folder):
    """Create an environment with the wheel and links to its dependencies."""
    venv.create(folder)
    (site,) = folder.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(site)
    (information,) = site.glob("*.dist-info")
    for package in needed(importlib.metadata.Distribution.at(information).requires):
        for name in {file.parts[0] for file in package.files} - {"..", "__pycache__"}:
            if not (site / name).exists():  # shared by several packages
                (site / name).symlink_to(package.locate_file(name))


def installed(wheel, folder):
    """Create an environment in which pip has installed the wheel and its dependencies."""
    venv.create(folder, with_pip=True)
    constraints = str(ROOT / "constraints.txt")
    install = ["pip", "install", "--quiet", "--no-compile", "--constraint", constraints]
    call(folder / "bin" / "python", "-m", *install, str(wheel), cwd=folder)


@pytest.fixture(
    scope="module",
    params=[linked, pytest.param(installed, marks=pytest.mark.slow)],
    ids=lambda fill: fill.__name__,
)
def python(request, tmp_path_factory):
    """Interpreter of an environment with only the wheel and its dependencies."""
    folder = tmp_path_factory.mktemp("wheel")
    # Hatchling is one of the development tools, so no network or second environment is needed.
    build = ["build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    call(sys.executable, "-m", *build, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    request.param(wheel, folder / "env")
    return folder / "env" / "bin" / "python"


def test_wheel_runs_from_another_folder(python, tmp_path):
    where = "import parcnet_train.config.compose as c; print(c.CONF)"
    conf = Path(call(python, "-c", where, cwd=tmp_path).strip())
    assert conf.is_relative_to(python.parents[1])
    shipped = {str(file.relative_to(conf)) for file in conf.rglob("*.yaml")}
    assert shipped == {
        str(file.relative_to(ROOT / "conf")) for file in (ROOT / "conf").rglob("*.yaml")
    }
    out = call(python, "-m", "parcnet_train", "debug=tiny", "backbone=parcnet_xs", cwd=tmp_path)
    assert "parcnet_xs on demo" in out
    assert list(tmp_path.glob("runs/classification/parcnet_xs-demo/*/results.json"))
