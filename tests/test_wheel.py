"""The wheel: built, installed into an empty environment, run from another folder."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def call(*command, cwd):
    # Nothing but its own environment may tell an interpreter where packages are.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of an environment that holds the wheel and what it asks for, alone."""
    folder = tmp_path_factory.mktemp("wheel")
    # Hatchling is among the development tools: no network, no second environment.
    build = ["build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    call(sys.executable, "-m", *build, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", with_pip=True)
    interpreter = folder / "env" / "bin" / "python"
    constraints = str(ROOT / "constraints.txt")
    install = ["pip", "install", "--quiet", "--no-compile", "--constraint", constraints]
    call(interpreter, "-m", *install, str(wheel), cwd=folder)
    return interpreter


def test_the_wheel_runs_from_another_folder(python, tmp_path):
    where = "import parcnet_train.config as c; print(c.CONF)"
    conf = Path(call(python, "-c", where, cwd=tmp_path).strip())
    assert conf.is_relative_to(python.parents[1])
    shipped = {str(file.relative_to(conf)) for file in conf.rglob("*.yaml")}
    assert shipped == {
        str(file.relative_to(ROOT / "conf")) for file in (ROOT / "conf").rglob("*.yaml")
    }
    out = call(python, "-m", "parcnet_train", "debug=tiny", "backbone=parcnet_xs", cwd=tmp_path)
    assert "parcnet_xs on demo" in out
    assert list(tmp_path.glob("runs/classification/parcnet_xs-demo/*/results.json"))
