import re
import shlex
import sys
from types import SimpleNamespace

import pytest
from hydra import initialize_config_dir
from hydra.conf import ConfigSourceInfo
from hydra.types import RunMode
from omegaconf import OmegaConf

from parcnet_train.config.compose import CONF, as_meant, compose_config, names_its_directory
from parcnet_train.config.overrides import command_of, overrides_of, parse
from parcnet_train.data.classification.module import ImageFolderData
from parcnet_train.data.detection.module import CocoData
from parcnet_train.data.segmentation.module import VocData


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
    _, (found,) = compose_config(["experiment=glob(a/*)"], str(tmp_path))
    assert found.message.startswith("experiment=glob(a/*)")
    assert "mine_a, mine_b" in found.message


PATHS = [
    *("~", "~/flowers", "/data/~x", "/data/a=b", "=", "it's", '5" floppy', 'it\'s "both"', "a(1)"),
    *("a{b", "{a}", "}", "a]b", "a#b", "#", "a!b", "!", "a;b", "a&b", "a<b>c", "a`b", "a^b"),
    *("/data/größe", "/データ/花", "it's\\", "(\\", "'", '"', "a, b (c) [d] {e} $f", " ~ "),
]


@pytest.mark.parametrize("path", PATHS)
def test_what_hydra_cannot_read_is_printed_as_it_has_to_be_typed(path):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        _, (found,) = parse([f"data.root={path}"])
        told, _, command = found.message.partition("type ")
        assert told.startswith(f"data.root={path}")
        special = next(each for each in path if not re.match(r"[a-zA-Z0-9/ \\]", each))
        assert f"the character {special} " in told
        (override,), faults = parse(shlex.split(command))
    assert (override.key_or_group, override.value(), faults) == ("data.root", path, [])


def test_what_was_typed_as_told_is_composed():
    _, (found,) = compose_config(["data.root=~/it's"])
    config, faults = compose_config(shlex.split(found.message.partition("type ")[2]))
    assert (config.data.root, faults) == ("~/it's", [])


@pytest.mark.parametrize("text", ["data.root", "data root=x", "data.root:x"])
def test_what_has_no_key_is_asked_for_one(text):
    _, (found,) = compose_config([text])
    assert repr(text) in found.message
    assert "key=value" in found.message


@pytest.mark.parametrize(
    "text", ["2012", "007", "1e3", "1_000", "+5", "-3", "1.50", "true", "False", "nan", "inf"]
)
def test_a_number_is_a_text_where_only_a_text_is_allowed(text):
    keys = ("data.root", "data.train_dir", "paths.runs", "paths.cache", "ckpt", "input")
    keys += ("backbone.pretrained", "report.runs", "+logger.csv.prefix", "logger.csv.name")
    config, faults = compose_config([f"{key}={text}" for key in keys])
    assert faults == []
    assert {OmegaConf.select(config, key.lstrip("+")) for key in keys} == {text}


def test_so_are_the_words_of_a_list_the_values_of_a_sweep_and_the_folders_of_hydra(tmp_path):
    given = ["task=segmentation", "data=voc_format", "data.names=[0,1e3,cat,true]", "data.root=7"]
    config, faults = compose_config(
        [*given, "data.val_list=1", "report.runs=[2023, '2024']", "hydra.run.dir=2012"]
    )
    assert faults == []
    assert list(config.data.names) == ["0", "1e3", "cat", "true"]
    assert list(config.report.runs) == ["2023", "2024"]
    assert (config.data.val_list, config.hydra.run.dir) == ("1", "2012")
    config, faults = compose_config(["data.root=1_0,20"])
    assert (config.data.root, faults) == ("1_0", [])
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "2012.yaml").write_text("# @package _global_\nseed: 3\n")
    config, faults = compose_config(["experiment=2012"], str(tmp_path))
    assert (config.seed, faults) == (3, [])


@pytest.mark.parametrize("key", ["hydra.run.dir", "hydra.sweep.dir"])
def test_a_tilde_is_the_home_folder_where_hydra_writes(key, monkeypatch):
    monkeypatch.setenv("HOME", "/home/it's me")
    config, faults = compose_config([f'{key}="~/runs"'])
    assert faults == []
    assert OmegaConf.select(config, key) == "/home/it's me/runs"


def test_a_tilde_is_the_home_folder_in_every_path_of_a_data_set(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = {
        "image_size": 32,
        "batch_size": 2,
        "augmentation": SimpleNamespace(repeats=1),
        "root": "~/flowers",
    }
    images = ImageFolderData(**settings, train_dir="~/train")
    assert images.root == tmp_path / "flowers"
    assert (images.train_folder, images.val_folder) == (
        tmp_path / "train",
        tmp_path / "flowers" / "val",
    )
    boxes = CocoData(**settings, train_annotations="~/train.json", val_images="~/images")
    assert boxes.train_annotations == tmp_path / "train.json"
    assert boxes.val_images == tmp_path / "images"
    masks = VocData(**settings, train_list="~/train", masks="~/masks")
    assert masks.train_list == tmp_path / "train.txt"
    assert masks.masks == str(tmp_path / "masks")


def test_what_may_be_a_number_or_nothing_stays_one():
    given = ["ckpt=null", "seed=7", "data.num_workers=2", "recipe.accumulate=2", "compile=true"]
    config, faults = compose_config([*given, "data.num_classes=null", "hydra.output_subdir=null"])
    assert faults == []
    assert (config.ckpt, config.seed, config.data.num_workers) == (None, 7, 2)
    assert (config.recipe.accumulate, config.compile, config.data.num_classes) == (2, True, None)
    assert config.hydra.output_subdir is None
    config, _ = compose_config(["data.root=null"])  # which `check` refuses
    assert config.data.root is None


def test_hydra_gets_texts_that_it_reads_as_meant():
    given = ["seed=3", "data.root=7.0", "data.val_dir=12,13", "paths.runs='a,b'"]
    config, faults = compose_config(given)
    assert faults == []
    meant = ["seed=3", "data.root='7.0'", "data.val_dir='12','13'", "paths.runs='a,b'"]
    assert [each.input_line for each in as_meant(overrides_of(given), config)] == meant
