"""Composition and `check`: every config file is good, every fault is named."""

import subprocess
import sys

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

import running
from faults import assert_one_is
from parcnet_train.config.compose import CONF, GROUPS, NO_CONFIG, compose_plain
from parcnet_train.errors import ConfigError
from running import CONFIG_FILES, composed, configure, faults_of


@pytest.mark.parametrize("task", ["classification", "detection", "segmentation"])
@pytest.mark.parametrize("more", [[], ["debug=tiny"], ["recipe.epochs=5", "recipe.batch_size=64"]])
def test_recipe_finetune_has_a_part_for_each_task(task, more, image_folder, coco, voc):
    layouts = {
        "classification": ("imagefolder", image_folder),
        "detection": ("coco_format", coco),
        "segmentation": ("voc_format", voc),
    }
    data, root = layouts[task]
    values, faults = running.configure(
        [f"task={task}", f"data={data}", f"data.root={root}", "recipe=finetune", *more]
    )
    assert faults == []
    recipe = values["recipe"]
    of_task = {"classification": "crop_scale", "detection": "crop", "segmentation": "short_side"}
    assert of_task[task] in recipe["augmentation"]
    assert recipe["batch_size"] == recipe["reference_batch"]
    assert recipe["schedule"]["warmup_steps"] == 0
    if not more:
        assert recipe["epochs"]["at_least"] == values["trainer"]["max_epochs"]["at_least"] == 30
    elif "recipe.epochs=5" in more:
        assert recipe["epochs"] == values["trainer"]["max_epochs"] == 5


@pytest.mark.parametrize("more", [["ablation=table2_row9"], ["experiment=voc_parcnet_s"]], ids=str)
def test_recipe_finetune_follows_the_task_of_other_groups(more, coco, voc):
    root = voc if "experiment" in more[0] else coco
    data = [] if "experiment" in more[0] else ["data=coco"]
    values, faults = running.configure([*more, *data, "recipe=finetune", f"data.root={root}"])
    assert faults == []
    assert values["recipe"]["batch_size"] == 8


def test_every_group_of_the_folder_is_known():
    assert {f.parent.name for f in CONFIG_FILES} - {"callbacks", "tuned"} <= set(GROUPS)


def test_experiment_beats_tuned_and_shell_beats_experiment(tmp_path):
    values, _ = running.configure(["experiment=imagenet_mobilevit_s", f"data.root={tmp_path}"])
    assert values["recipe"]["optimizer"]["lr"] == 0.002  # tuned for the experiment's backbone
    assert values["head"]["dropout"] == 0.1
    values, _ = running.configure(
        ["experiment=imagenet_mobilevit_s", f"data.root={tmp_path}", "recipe.optimizer.lr=0.5"]
    )
    assert values["recipe"]["optimizer"]["lr"] == 0.5


def test_a_null_of_an_optional_group_is_what_it_has_anyway():
    assert faults_of("debug=null", "experiment=null", "ablation=null") == []


def test_imagenet_gets_the_recipe_of_the_paper_untouched(imagenet):
    values, faults = running.configure(["data=imagenet", f"data.root={imagenet}"])
    recipe = values["recipe"]
    assert faults == []
    # Paper, section 4.1.
    assert recipe["epochs"] == values["trainer"]["max_epochs"] == 300
    assert recipe["optimizer"] == {
        "_target_": "torch.optim.AdamW",
        "_partial_": True,
        "lr": 0.004,
        "betas": [0.9, 0.999],
        "weight_decay": 0.025,
    }
    assert recipe["schedule"]["min_lr"] == 0.0004
    assert recipe["schedule"]["warmup_steps"] == 3000
    assert recipe["label_smoothing"] == values["task"]["label_smoothing"] == 0.1
    assert recipe["batch_size"] * 8 == 1024
    assert values["data"]["image_size"] == 256
    assert values["data"]["num_classes"] == 1000


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["backbone.heads=5"], "a new key is added with a plus: +backbone.heads=..."),
        (["data=imagenet"], "data.root has no value. Fix: data.root=..."),
        (
            ["backbone=null"],
            "backbone=null: there is no such config; expected one of … convnext_xt",
        ),
        (["ablation=[]"], "ablation=[]: there is no such config; expected one of proof_big_kernel"),
        (["paths.runs=nowhere", "ckpt=last"], "expected last.ckpt in a run of nowhere/"),
        (["a b=1"], "'a b=1' cannot be read"),
        (["hydra/launcher=ray"], "submitit_slurm. Fix: pip install 'parcnet-train[ray]'"),
        (["backbone=parcnet_s,parcnet_q"], "backbone=parcnet_q: there is no such config"),
        (["seed=${seeed}"], "seed: Interpolation key 'seeed' not found"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_each_fault_is_named(overrides, message):
    assert_one_is(message, faults_of(*overrides))


def test_another_configuration_can_be_composed_while_hydra_runs():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        plain = compose_plain(["backbone=parcnet_xs", "data=nowhere", "data.root=${none}"])
        assert GlobalHydra.instance().is_initialized()
    assert plain.values["choices"]["backbone"] == "parcnet_xs"
    assert [NO_CONFIG in fault.message for fault in plain.faults] == [True, False]
    assert not GlobalHydra.instance().is_initialized()


def test_a_broken_file_beside_ours_is_a_fault(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nrecipe: {epoch: 3}\n")
    _, faults = running.configure(["experiment=mine"], config_dir=str(tmp_path))
    assert faults == ["recipe.epoch: there is no such key; did you mean epochs?"]
    (tmp_path / "experiment" / "bad.yaml").write_text("defaults: [nowhere]\n")
    with pytest.raises(ConfigError, match="nowhere"):
        running.configure(["experiment=bad"], config_dir=str(tmp_path))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_with_a_byte_order_mark_is_named(encoding, tmp_path):
    folder = tmp_path / "it's [mine], größer=ours"
    file = folder / "experiment" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("# @package _global_\nseed: 3\n", encoding)
    with pytest.raises(ConfigError, match="byte order mark") as raised:
        running.configure(["experiment=mine"], config_dir=str(folder))
    assert str(file) in str(raised.value)
    file.write_text(file.read_text(encoding), "utf-8")
    assert running.configure(["experiment=mine"], config_dir=str(folder))[0]["seed"] == 3


@pytest.mark.parametrize(
    ("text", "line"),
    [("a: {b: ${c}}\n", 1), ("a: 1\n\tb: 2\n", 2), ("a: [1\n", 2), ("a: 'b\n", 2)],
)
def test_config_file_that_is_not_yaml_is_named_with_its_line(text, line, tmp_path):
    (tmp_path / "recipe").mkdir()
    file = tmp_path / "recipe" / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as raised:
        running.configure(["recipe=mine"], config_dir=str(tmp_path))
    assert str(raised.value).startswith(f"{file}, line {line}: ")
    assert str(raised.value).endswith("; expected YAML. Fix: correct the file")


@pytest.mark.parametrize("text", ["seed: 3\n", "", "- 3\n"])
def test_experiment_without_its_package_line_is_told_so(text, tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    _, faults = running.configure(["experiment=mine"], config_dir=str(tmp_path))
    (fault,) = faults
    assert fault.startswith("experiment=mine: ")
    assert fault.endswith("Fix: let its file begin with the line # @package _global_")


def test_config_dir_that_does_not_exist_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"^--config-dir=\S+nowhere: there is no such folder; "):
        running.configure([], config_dir=str(tmp_path / "nowhere"))


def test_folder_with_the_name_of_a_config_is_ignored(tmp_path):
    (tmp_path / "experiment" / "mine.yaml").mkdir(parents=True)
    assert running.configure([], config_dir=str(tmp_path))[1] == []


def test_composition_needs_no_torch():
    code = (
        "import sys; from parcnet_train.config.compose import compose_config;"
        "from parcnet_train.sweeps.grid import register_resolvers;"
        "register_resolvers(); compose_config([]); import parcnet_train.__main__;"
        "print(sorted(m for m in sys.modules if m in ('torch', 'numpy', 'cv2')))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_sweeper_that_is_not_installed_is_named(tmp_path):
    (tmp_path / "sweep").mkdir()
    file = tmp_path / "sweep" / "mine.yaml"
    file.write_text("# @package _global_\ndefaults: [override /hydra/sweeper: nowhere]\n")
    with pytest.raises(ConfigError, match="'hydra/sweeper/nowhere'; this Hydra plugin is not inst"):
        running.configure(["sweep=mine"], config_dir=str(tmp_path))


@pytest.mark.parametrize(
    ("override", "chosen"),
    [
        ("logger=[tensorboard,wandb]", ["tensorboard", "wandb"]),
        ("logger=[wandb]", "wandb"),
        ("logger=wandb", "wandb"),
        ("seed=1", "csv"),
    ],
)
def test_several_loggers_are_named(override, chosen):
    assert composed(override)["choices"]["logger"] == chosen


def test_several_loggers_of_a_file_are_named(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /logger: [csv, tensorboard]\n"
    )
    values, faults = configure(["experiment=mine"], config_dir=str(tmp_path))
    assert (values["choices"]["logger"], faults) == (["csv", "tensorboard"], [])


def test_several_experiments_are_named(tmp_path):
    (tmp_path / "experiment").mkdir()
    for name in ("one", "two"):
        (tmp_path / "experiment" / f"{name}.yaml").write_text("# @package _global_\nseed: 3\n")
    values, _ = configure(["experiment=[one,two]"], config_dir=str(tmp_path))
    assert values["choices"]["experiment"] == ["one", "two"]


@pytest.mark.parametrize("group", ["task", "backbone", "head", "data", "recipe", "trainer"])
def test_a_list_of_what_a_run_has_one_of_is_refused(group):
    names = sorted(file.stem for file in (CONF / group).glob("*.yaml"))[:2]
    (fault,) = faults_of(f"{group}=[{','.join(names)}]")
    assert fault.startswith(f"{group}=[{','.join(names)}]: ")
    assert f"-m {group}={','.join(names)}" in fault
