"""The command line: in a separate process, or called here, from an empty folder."""

import json
import os
import re
import subprocess
import sys

import pytest

from documentation import DOCS
from parcnet_train.actions import command
from running import TINY

MODULE = ("-m", "parcnet_train")


IMPORTS = (sys.executable, "-X", "importtime")  # lists imports on stderr


SLOW = {"torch", "torchvision", "pytorch_lightning", "cv2", "matplotlib"}


def call(*arguments, cwd, python=(sys.executable,)):
    command = [*python, *MODULE, *arguments]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )


def imported(done):
    """Return the modules that a process of `IMPORTS` has imported."""
    names = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "omegaconf" in names
    return names


def test_help_shows_groups_choices_and_examples_without_torch(tmp_path):
    done = call("--help", cwd=tmp_path, python=IMPORTS)
    assert done.returncode == 0
    assert SLOW.isdisjoint(imported(done))
    groups = "task backbone head data recipe tuned trainer logger experiment ablation debug sweep"
    for group in groups.split():
        assert re.search(rf"^{group}: \w+", done.stdout, re.MULTILINE), group
    assert re.search(r"^backbone: .*parcnet_s, parcnet_xs", done.stdout, re.MULTILINE)
    assert done.stdout.count("  python -m parcnet_train") >= 5
    # `make schema` writes it anew.
    assert done.stdout == (DOCS / "reference" / "help.txt").read_text("utf-8")
    assert list(tmp_path.iterdir()) == []


def test_cfg_job_is_complete_and_needs_no_torch(tmp_path):
    done = call("--cfg", "job", "data=imagenet", "data.root=/data", cwd=tmp_path, python=IMPORTS)
    assert SLOW.isdisjoint(imported(done))
    assert "root: /data" in done.stdout
    assert "_target_: parcnet_train.models.backbones.parcnet.ParCNet" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_all_faults_are_printed_and_nothing_is_written(call_here, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        call_here("backbone=parcnet_z", "recipe.optimizer.lrr=1", "trainer.max_epochs=0")
    assert caught.value.code == 2
    errors = capsys.readouterr().err
    lines = errors.strip().splitlines()
    assert len(lines) == 3
    assert all(line.startswith("error: ") for line in lines)
    for key in ("backbone=parcnet_z", "recipe.optimizer.lrr", "trainer.max_epochs=0"):
        assert key in errors
    assert list(tmp_path.iterdir()) == []


def test_value_that_hydra_cannot_parse_is_one_fault(call_here, capsys):
    with pytest.raises(SystemExit) as caught:
        call_here("data=imagefolder", "data.root=~/it's")
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: data.root=~/it's")
    assert "character ~ " in line


def test_several_values_without_multirun_are_refused(call_here, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        call_here("seed=0,1", *TINY)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "seed=0,1" in line
    assert "-m" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_profile_reads_no_data_and_gives_no_warnings(tmp_path):
    settings = ["action=profile", "backbone=mobilevit_xxs", "data=imagenet", "paths.cache=cache"]
    done = call(*settings, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "mobilevit_xxs, 1 x 3 x 256 x 256, 1000 classes" in done.stdout
    (file,) = tmp_path.glob("runs/profile/*/results.json")
    assert json.loads(file.read_text())["backbone"] == "mobilevit_xxs"
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_options_may_follow_overrides(call_here, tmp_path, capsys):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nseed: -1\n")
    with pytest.raises(SystemExit) as caught:
        call_here("action=check", f"--config-dir={tmp_path}", "experiment=mine")
    assert caught.value.code == 2
    assert "seed=-1" in capsys.readouterr().err


def test_user_error_during_a_run_is_one_line(call_here, tmp_path, capsys):
    for split in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
    with pytest.raises(SystemExit) as caught:
        call_here("debug=tiny", "data=imagefolder", f"data.root={tmp_path}")
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(r"^error: data\.root: .*train.a contains no image", line)


def test_tab_completion_offers_groups_choices_and_keys(tmp_path):
    script = """
    eval "$(parcnet-train -sc install=bash)"
    complete -p parcnet-train >/dev/null || exit 3
    COMP_LINE="parcnet-train $1"; COMP_POINT=${#COMP_LINE}; COMP_CWORD=1
    hydra_bash_completion
    printf '%s\\n' "${COMPREPLY[@]}"
    """
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])  # noqa: PTH120
    for typed, expected in {
        "backbone=parcnet_": "backbone=parcnet_s",
        "recipe.optim": "recipe.optimizer.",
        "trai": "trainer=",
    }.items():
        done = subprocess.run(
            ["bash", "-c", script, "bash", typed],
            env={**os.environ, "PATH": path},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert expected in done.stdout.split(), typed


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["sweep=table2_classification"],
            "sweep=table2_classification needs -m",
        ),
        (
            ["-m", "sweep=table2_classification,table2_detection"],
            "sweep=table2_classification,table2_detection: expected one sweep",
        ),
        (
            ["-m", "debug=glob(a/*)"],
            "debug=glob(a/*) matches no value, so there is nothing to run; available: tiny",
        ),
        (
            ["-m", "seed=range(0,0)"],
            "seed=range(0,0) matches no value, so there is nothing to run",
        ),
        (["-m", "seed=0,1", "hydra.launcher.n_job=2"], "hydra.launcher.n_job: there is no such"),
    ],
)
def test_invalid_sweep_is_one_line(arguments, line, call_here, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        call_here(*arguments)
    assert caught.value.code == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: {line}")
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_before_a_job_starts_is_one_line(call_here, monkeypatch, capsys):
    def start(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "start", start)
    with pytest.raises(SystemExit) as caught:
        call_here("-m", "seed=0,1")
    assert caught.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_sweep_config_may_be_empty(call_here, tmp_path, capsys):
    own = tmp_path / "own" / "sweep"
    own.mkdir(parents=True)
    params = "{ablation: glob(x*), backbone: glob(parcnet_*), seed: 3}"
    (own / "mine.yaml").write_text(
        f"# @package _global_\nhydra:\n  sweeper:\n    params: {params}\n"
    )
    with pytest.raises(SystemExit):
        call_here("-m", "--config-dir=own", "sweep=mine")
    (error,) = capsys.readouterr().err.splitlines()
    assert error == (
        "error: hydra.sweeper.params: ablation=glob(x*) matches no value, so there is nothing "
        "to run"
    )
