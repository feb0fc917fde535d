import re

import pytest
from hydra.core.hydra_config import HydraConfig

from parcnet_train.config.compose import CONF, compose_config
from parcnet_train.runs.directories import named_runs
from parcnet_train.sweeps.grid import MOST, jobs_of, params_of, register_resolvers, swept_keys


@pytest.mark.parametrize(
    "name", sorted(file.stem for file in (CONF / "sweep").glob("table2*.yaml"))
)
def test_sweep_configs_name_existing_rows(name):
    config, faults = compose_config([f"sweep={name}"])
    assert faults == []
    (rows,) = params_of(config.hydra).values()
    wanted = rows.split(",")
    assert len(set(wanted)) == len(wanted)
    assert all((CONF / "ablation" / f"{row}.yaml").is_file() for row in wanted)
    assert config.hydra.sweep.dir == f"runs/sweeps/{name}"


def listed(*overrides, is_sweep=True):
    """Return the jobs of a command line."""
    return jobs_of(is_sweep, overrides, compose_config(overrides)[0].hydra)


def test_jobs_are_the_product_of_all_values():
    jobs = listed("recipe.epochs=3", "seed=range(0,2)", "ablation=glob(table2_row1*)")
    assert (jobs.count, len(jobs.overrides)) == (10, 10)
    job = jobs.overrides["seed=1 ablation=table2_row10"]
    assert job == ["recipe.epochs=3", "seed=1", "ablation=table2_row10"]
    assert listed("seed=0").overrides == {"": ["seed=0"]}
    assert listed("sweep=table2").count == 13
    assert listed("sweep=table2", is_sweep=False).count == 1


def test_large_sweep_lists_each_value_once_with_first_values_of_other_keys():
    jobs = listed("seed=range(0,20)", "recipe.epochs=1,2,3")
    assert (jobs.count, len(jobs.overrides)) == (60, 22)
    assert jobs.overrides["seed=19 recipe.epochs=1"] == ["seed=19", "recipe.epochs=1"]
    assert "seed=0 recipe.epochs=3" in jobs.overrides
    jobs = listed("seed=range(0,10000)")
    assert (jobs.count, len(jobs.overrides)) == (10000, MOST)


def folder_of(*overrides, swept=("ablation", "seed"), runs="runs"):
    """Return the directory of a job, as Hydra's launchers resolve it."""
    register_resolvers()
    subdir = f"hydra.sweep.subdir=${{job_dir:{','.join(swept)}}}"
    config, faults = compose_config([*overrides, subdir, f"paths.runs={runs}"])
    assert faults == []
    return config.hydra.sweep.subdir


def test_job_directory_has_swept_values_and_hash(tmp_path):
    folder = folder_of("ablation=table2_row1", "seed=3")
    assert re.fullmatch(r"table2_row1_seed-3-[0-9a-f]{12}", folder)
    assert folder_of("seed=3", "ablation=table2_row1").endswith(folder[-12:])
    assert folder_of("ablation=table2_row1", "seed=3", "logger=tensorboard") == folder
    assert folder_of("ablation=table2_row1", "seed=4")[-12:] != folder[-12:]
    values = ("recipe.image_size", "data.root")
    strange = folder_of(
        "recipe.image_size=[32,64]", "data=imagefolder", "data.root='/a b/=c'", swept=values
    )
    assert strange.startswith("image_size--32-64_root--a-b-c-")
    assert re.fullmatch("[0-9a-f]{12}", folder_of("seed=3", swept=()))


def test_job_keeps_its_directory_in_a_sweep_over_other_keys(tmp_path):
    folder = folder_of("ablation=table2_row1", "seed=3", runs=tmp_path)
    (tmp_path / "sweeps" / "multirun" / folder).mkdir(parents=True)
    assert folder_of("ablation=table2_row1", "seed=3", swept=["seed"], runs=tmp_path) == folder
    assert folder_of("ablation=table2_row1", "seed=4", swept=["seed"], runs=tmp_path) != folder


def test_home_folder_is_expanded_in_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    register_resolvers()
    config, faults = compose_config(["paths.runs='~/x'", "action=profile"])
    assert faults == []
    assert config.hydra.sweep.dir == f"{tmp_path}/x/sweeps/multirun"
    HydraConfig.instance().set_config(config)
    assert config.hydra.run.dir.startswith(f"{tmp_path}/x/profile/")
    assert named_runs("~/x", "detection", "parcnet_s", "coco").is_relative_to(tmp_path)


def test_swept_keys_of_command_line_and_sweep_config():
    overrides = ["sweep=table2_classification", "seed=0,1", "+new=range(3)", "backbone=parcnet_s"]
    config, _ = compose_config(overrides)
    assert swept_keys(overrides, config.hydra) == ["ablation", "seed", "new"]
