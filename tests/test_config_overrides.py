import sys

from hydra.conf import ConfigSourceInfo
from hydra.types import RunMode

from parcnet_train.config import compose_config, names_its_directory
from parcnet_train.config_overrides import command_of


def test_the_command_of_a_run_makes_the_same_run_in_its_directory(tmp_path):
    folder = tmp_path / "it's here"
    typed = ["seed=3", "hydra.sweep.dir=elsewhere", "hydra.verbose=true", "hydra.mode=MULTIRUN"]
    config, faults = compose_config(typed)
    assert faults == []
    hydra = config.hydra
    hydra.runtime.output_dir = str(folder)
    source = ConfigSourceInfo(path=str(tmp_path), schema="file", provider="command-line")
    hydra.runtime.config_sources.append(source)
    python, *module, config_dir, seed, verbose, mode, run_dir = command_of(hydra)
    assert (python, module) == (sys.executable, ["-m", "parcnet_train"])
    assert (config_dir, seed) == (f"--config-dir={tmp_path}", "seed=3")
    assert (verbose, mode) == ("hydra.verbose=true", "hydra.mode=RUN")
    again, faults = compose_config([run_dir])
    assert (again.hydra.run.dir, faults) == (str(folder), [])
    *_, resumed, ckpt = command_of(hydra, ckpt=str(folder))
    again, _ = compose_config([resumed, ckpt])
    assert again.ckpt == str(folder)
    assert names_its_directory(config)
    assert not names_its_directory(again)


def test_a_job_of_a_sweep_has_what_else_its_file_says(tmp_path):
    """One run of it: the file may say that it is several."""
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "mine.yaml").write_text(
        "# @package _global_\nrecipe: {epochs: 7}\n"
        "hydra: {mode: MULTIRUN, sweeper: {params: {seed: '0,1'}}}\n"
    )
    config, faults = compose_config(["sweep=mine", "seed=1"], str(tmp_path))
    assert faults == []
    config.hydra.runtime.output_dir = "here"
    overrides = [text for text in command_of(config.hydra)[3:] if not text.startswith("-")]
    job, faults = compose_config(overrides, str(tmp_path))
    assert faults == []
    assert (job.recipe.epochs, job.seed, job.hydra.mode) == (7, 1, RunMode.RUN)
    assert job.hydra.run.dir == "here"


def test_a_sweep_over_an_interval_is_composed_from_its_start():
    config, faults = compose_config(["recipe.optimizer.lr=interval(0.001,0.1)"])
    assert (config.recipe.optimizer.lr, faults) == (0.001, [])


def test_a_glob_finds_configs_beside_ours(tmp_path):
    (tmp_path / "experiment").mkdir()
    for name in ("mine_a", "mine_b"):
        (tmp_path / "experiment" / f"{name}.yaml").write_text("# @package _global_\nseed: 3\n")
    config, faults = compose_config(["experiment=glob(mine*)"], str(tmp_path))
    assert (config.hydra.runtime.choices.experiment, config.seed, faults) == ("mine_a", 3, [])
    _, (fault,) = compose_config(["experiment=glob(a/*)"], str(tmp_path))
    assert fault.startswith("experiment=glob(a/*) stands for no value, so there is nothing to run")
    assert "mine_a, mine_b" in fault
