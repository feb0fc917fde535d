import re
from pathlib import Path

import pytest

from parcnet_train.actions import command
from parcnet_train.actions.command import wrong_place
from parcnet_train.distributed import user_errors

TORCHRUN = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "none"}


def test_torchrun_without_run_name_is_a_fault(monkeypatch):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    (fault,) = wrong_place(is_sweep=False, names_its_directory=True)
    assert "torchrun --standalone on one machine, --rdzv-id=NAME on several, or" in fault.message
    assert fault.key == "hydra.run.dir"
    assert wrong_place(is_sweep=False, names_its_directory=False) == []
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "mine")
    assert wrong_place(is_sweep=False, names_its_directory=True) == []
    (fault,) = wrong_place(is_sweep=True, names_its_directory=True)
    assert fault.message.startswith("-m: torchrun has started 2 processes of one sweep")


@pytest.mark.parametrize(
    ("arguments", "is_named"),
    [([], False), (["hydra.run.dir=here"], True)],
    ids=["no directory", "directory"],
)
def test_main_requires_a_run_name_from_torchrun(
    arguments, is_named, call_here, monkeypatch, capsys
):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(user_errors, "FIRST_WORD", 0)
    several = ["trainer=ddp", "trainer.accelerator=cpu"]
    seen = []
    monkeypatch.setattr(command, "start", lambda given, *_: seen.append(given))
    if is_named:
        call_here(*several, *arguments)
        (given,) = seen
        assert given[:3] == [*several, *arguments]
        assert "hydra.output_subdir=null" in given
        return
    with pytest.raises(SystemExit) as caught:
        call_here(*several, *arguments)
    assert caught.value.code == 2
    assert "gave no name to this run" in capsys.readouterr().err


@pytest.mark.parametrize("folder", ["runs", "runs/sweeps/multirun"])
def test_unwritable_sweep_directory_is_one_line(folder, call_here, tmp_path, capsys):
    (tmp_path / folder).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / folder).touch()
    with pytest.raises(SystemExit) as caught:
        call_here("-m", "seed=0,1")
    assert caught.value.code == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("error: hydra.sweep.dir=runs/sweeps/multirun cannot be written: ")
    assert error.endswith(". Fix: paths.runs=PATH")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            [],
            r"hydra.run.dir=runs/profile/[-_0-9]+ cannot be written: .*\. Fix: paths.runs=PATH",
        ),
        (
            ["hydra.run.dir=runs/profile"],
            r"hydra.run.dir=runs/profile cannot be written: .*\. Fix: hydra.run.dir=PATH",
        ),
    ],
    ids=["runs", "run"],
)
def test_unwritable_run_directory_is_one_line(arguments, line, call_here, tmp_path, capsys):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "profile").touch()
    with pytest.raises(SystemExit) as caught:
        call_here("action=profile", *arguments)
    assert caught.value.code == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(f"error: {line}", error)


def test_hydra_writes_to_the_claimed_directory(call_here, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(command, "start", lambda given, *_: seen.append(given[-1]))
    call_here("action=profile")
    call_here("action=profile", "hydra.run.dir=${hydra:runtime.choices.task}/here")
    call_here("action=profile", "hydra.run.dir=${now:%f}")
    own, named, timed = (text.removeprefix("hydra.run.dir='").removesuffix("'") for text in seen)
    assert Path(own).parent == Path("runs/profile")
    assert named == "classification/here"
    assert len({path.parent for path in tmp_path.rglob("run.json")}) == 3
    assert all((tmp_path / each / "run.json").is_file() for each in (own, named, timed))


def test_sweep_jobs_are_named_by_swept_values(call_here, monkeypatch):
    seen = []
    monkeypatch.setattr(command, "start", lambda given, *_: seen.append(given))
    call_here("-m", "seed=0,1", "backbone=parcnet_xs", "trainer.max_epochs=1,0")
    call_here("-m", "sweep=table2_classification", "seed=0,1")
    call_here("-m", "seed=0,1", "hydra.sweep.subdir=here")
    assert "hydra.sweep.subdir=${job_dir:seed,trainer.max_epochs}" in seen[0]
    assert "hydra.sweep.subdir=${job_dir:ablation,seed}" in seen[1]
    assert seen[2] == ["seed=0,1", "hydra.sweep.subdir=here"]
