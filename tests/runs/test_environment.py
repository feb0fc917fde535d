"""Package versions and hardware of a run."""

from parcnet_train.runs.environment import packages


def test_packages_are_dependencies_without_developer_tools():
    versions = packages()
    assert {"parcnet-train", "hydra-core", "numpy", "torchvision"} <= versions.keys()
    assert not {"ruff", "mypy", "pre-commit"} & versions.keys()
