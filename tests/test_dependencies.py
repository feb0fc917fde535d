"""Imported packages, declared requirements and pinned versions agree."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OWN = ("parcnet_train", "hydra_plugins")
# Modules that only an extra installs.
OF_EXTRAS = {
    "MNN": "mnn",
    "ai_edge_litert": "litert",
    "cleanlab": "cleanlab",
    "datasets": "huggingface",
    "huggingface_hub": "huggingface",
    "executorch": "executorch",
    "optuna": "optuna",
    "pyarrow": "huggingface",
    "litdata": "pack",
    "ncnn": "ncnn",
    "onnxruntime": "onnx",
    "openvino": "openvino",
    "tifffile": "tiff",
    "timm": "timm",
    "wandb": "wandb",
}


def named(requirements):
    """Return the requirements of a list by the names of their distributions."""
    found = map(Requirement, requirements)
    return {canonicalize_name(each.name): each for each in found}


def pinned(name):
    """Return the pins of a constraints file as they are spelled, by the names of packages."""
    lines = (ROOT / name).read_text().splitlines()
    return named(line for line in lines if line and not line.startswith("#"))


def imported(file):
    """Return the packages that a module imports, also inside its functions."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (each.name.split(".")[0] for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0]


def test_imported_packages_are_declared():
    modules = {name for file in sorted((ROOT / "src").rglob("*.py")) for name in imported(file)}
    foreign = modules - {*OWN, *sys.stdlib_module_names}
    assert {"cv2", "scipy", "safetensors", "torch"} <= foreign
    distributions = packages_distributions()
    required, extras = named(PROJECT["dependencies"]), PROJECT["optional-dependencies"]
    for module in sorted(foreign):
        names = {canonicalize_name(name) for name in distributions.get(module, [module])}
        if module in OF_EXTRAS:
            assert names & {*named(extras[OF_EXTRAS[module]]), canonicalize_name(module)}, module
        else:
            assert names & required.keys(), f"{module} is imported, none of {names} is asked for"


def test_lightning_release_loads_checkpoints_safely():
    wanted = named(PROJECT["dependencies"])["pytorch-lightning"].specifier
    assert wanted.contains("2.6.6")
    assert not any(wanted.contains(f"2.6.{patch}") for patch in range(6))


@pytest.mark.parametrize("version", ["2.6.2", "2.6.3"])
def test_unsafe_lightning_releases_are_excluded_by_constraints(version):
    pins = pinned("constraints.txt")
    assert not pins["lightning"].specifier.contains(version)
    assert pins["lightning"].specifier.contains("2.6.6")
    lists = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    assert all(
        "lightning" not in named(each) for each in lists
    )  # otherwise they must exclude the releases, too


def assert_met(requirements, pins):
    for requirement in named(requirements).values():
        pin = pins[canonicalize_name(requirement.name)]
        (version,) = re.findall(r"^==(.+)$", str(pin.specifier))
        assert requirement.specifier.contains(version), requirement


def test_pinned_versions_meet_the_requirements():
    assert_met(PROJECT["dependencies"], pinned("constraints.txt"))


@pytest.mark.parametrize(
    ("environment", "names"),
    [("runtimes", ["litert", "executorch"]), ("hydra14", ["optuna", "slurm"])],
)
def test_pinned_versions_of_an_environment_meet_the_requirements(environment, names):
    """Its pins replace those of constraints.txt, by their spelling."""
    pins, own = pinned("constraints.txt"), pinned(f"constraints-{environment}.txt")
    for name in pins.keys() & own.keys():
        assert pins[name].name == own[name].name
        assert pins[name].specifier != own[name].specifier
    extras = PROJECT["optional-dependencies"]
    lists = [PROJECT["dependencies"], *(extras[name] for name in names)]
    assert_met([each for requirements in lists for each in requirements], pins | own)
