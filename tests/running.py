"""Runs inside the test process, with the same composition and checks as a command."""

import copy
import functools
import json
import os
import re
import sys
from pathlib import Path

import pytest

from expected import expected_of
from parcnet_train.actions import fit as training
from parcnet_train.actions.command import function_of
from parcnet_train.build import build_backbone, meta_device
from parcnet_train.check.config import check
from parcnet_train.config.compose import CONF, choices, compose_config, to_plain
from parcnet_train.config.overrides import typed
from parcnet_train.distributed.launch import launch
from parcnet_train.runs.directories import read_values
from parcnet_train.sweeps.grid import register_resolvers

# Parts of the page of every training, see `page_parts`; one of several steps has curves too.
WHOLE_PAGE = {"multiply_adds", "image_size", "quality", "examples", "data", "batches"}

TINY = ("debug=tiny", "backbone=parcnet_xs", "backbone.depths=[1,1,1]", "recipe.image_size=32")

# Overrides of the training that tests share, see conftest.py.
TRAINED = (*TINY, "recipe.ema.decay=0.5", "recipe.schedule.warmup_steps=0")

MULTI_SCALE = [
    "recipe.image_size=64",
    "recipe.multi_scale.rule=balanced",
    "recipe.multi_scale.largest=1.25",
]

# A folder of your own, as --config-dir takes it: its backbones and experiments are tested too.
OWN = os.environ.get("PARCNET_TRAIN_CONFIG_DIR")
FOLDERS = [CONF, *([Path(OWN)] if OWN else [])]
CONFIG_FILES = [
    file
    for folder in FOLDERS
    for file in sorted(folder.glob("*/*.yaml"))
    if file.parent.name != "hydra"
]


def files_of(group):
    """The files of a group by the names that choose them."""
    return {file.stem: file for file in CONFIG_FILES if file.parent.name == group}


def family_of(file):
    """The family of a backbone, whose sizes are the same code."""
    found = re.search(r"family/(\w+)@_here_", file.read_text())
    return found[1] if found else file.stem


def smallest(files):
    """The smallest size of each family; of timm's networks, the example in timm.yaml."""
    families = {}
    for name, file in files.items():
        size = (name != family_of(file), expected_of(file).parameters, name)
        families.setdefault(family_of(file), []).append(size)
    return {min(sizes)[-1] for sizes in families.values()}


BACKBONE_FILES = files_of("backbone")
# Networks that a library has, apart from one of timm's; they get the contract tests, slowly.
OF_LIBRARIES = sorted(
    name
    for name, file in BACKBONE_FILES.items()
    if family_of(file) in ("timm", "torchvision") and name != "timm"
)
BACKBONES = sorted(BACKBONE_FILES.keys() - OF_LIBRARIES)
# A family has its contract tests in the default suite by its smallest size, unless it is large.
LARGE = 9_000_000  # parameters
LARGER = sorted(
    name
    for name in BACKBONES
    if name not in smallest(BACKBONE_FILES) or expected_of(BACKBONE_FILES[name]).parameters > LARGE
)
LARGER_SLOWLY = [pytest.param(n, marks=pytest.mark.slow) if n in LARGER else n for n in BACKBONES]
OF_LIBRARIES_SLOWLY = [pytest.param(name, marks=pytest.mark.slow) for name in OF_LIBRARIES]


def configure(overrides, output=None, config_dir=None):
    """Return the plain configuration of a command line, and its faults."""
    register_resolvers()
    config, faults = compose_config(overrides, config_dir or OWN)
    if output is not None:
        config.paths.output = str(output)
    plain = to_plain(config, choices(config.hydra), typed(config.hydra))
    found = [*faults, *plain.faults, *check(plain.values, plain.borrowed)]
    return plain.values, [fault.message for fault in found]


def faults_of(*overrides):
    """Return the faults of a command line."""
    return configure(overrides)[1]


@functools.cache
def faultless(overrides):
    values, faults = configure(overrides)
    assert faults == []
    return values


def composed(*overrides):
    """Return the plain configuration of a faultless command line, composed once for all tests."""
    return copy.deepcopy(faultless(overrides))


@functools.cache
def is_dense(backbone):
    """Return whether a backbone has the levels that detection and segmentation need."""
    with meta_device():
        return len(build_backbone(composed(f"backbone={backbone}")).levels) > 1


def run(overrides, output, draws=False):
    """Run an action in the directory `output`, as the command does.

    The page is only made on demand, since it takes most of the time of a small training.
    """
    values, faults = configure(overrides, output)
    assert faults == []
    return act(values, draws)


def act(values, draws=False):
    """Run the action of a plain configuration."""
    Path(values["paths"]["output"]).mkdir(parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        if not draws:
            patch.setattr(training, "publish", lambda *_: None)
        return function_of(values["action"])(values)


def page_parts(output):
    """Return the parts of the page of a run; without the page, none."""
    values = read_values(output / "report.json") if (output / "report.html").is_file() else {}
    return {*values, *values.get("sections", {})} - {"sections"}


def launched(overrides, processes, output):
    """Run a command in several processes on the CPU, and return its results."""
    command = [
        sys.executable,
        "-m",
        "parcnet_train",
        "task.pictures=0",
        *(each for each in overrides if not each.startswith("trainer=")),
        "trainer=ddp",
        "trainer.accelerator=cpu",
        f"trainer.devices={processes}",
        f"hydra.run.dir={output}",
    ]
    assert launch(command, processes) == 0
    return json.loads((output / "results.json").read_text())
