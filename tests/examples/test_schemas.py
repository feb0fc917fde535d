"""Files of examples/ against the schemas of SkyPilot and Kubeflow, in the environment of them.

`make examples` makes it. It has neither torch nor this package, so nothing is imported from them.
"""

import copy
from pathlib import Path

import pytest
import yaml

EXAMPLES = Path(__file__).parents[2] / "examples"
# Imports of SkyPilot warn about its other packages.
pytestmark = [pytest.mark.examples, pytest.mark.filterwarnings("ignore")]


def example(name):
    return yaml.safe_load((EXAMPLES / name).read_text("utf-8"))


@pytest.fixture
def sky_checks(tmp_path, monkeypatch):
    """Check a SkyPilot task by the schemas of the task, its resources and its buckets."""
    monkeypatch.setenv("HOME", str(tmp_path))  # SkyPilot writes there when it is imported
    monkeypatch.setenv("SKYPILOT_DISABLE_USAGE_COLLECTION", "1")
    from sky.utils import schemas
    from sky.utils.common_utils import validate_schema

    def check(task):
        validate_schema(task, schemas.get_task_schema())
        validate_schema(task["resources"], schemas.get_resources_schema())
        for mount in task["file_mounts"].values():
            validate_schema(mount, schemas.get_storage_schema())

    return check


def test_skypilot_accepts_its_example(sky_checks):
    sky_checks(example("skypilot.yaml"))


@pytest.mark.parametrize(
    ("section", "key", "message"),
    [
        (None, "node", "did you mean 'num_nodes'"),
        ("resources", "spot", "did you mean 'use_spot'"),
        ("file_mounts", "/runs", "MOUNTED"),
    ],
)
def test_skypilot_refuses_what_does_not_exist(sky_checks, section, key, message):
    task = example("skypilot.yaml")
    (task if section is None else task[section])[key] = {"mode": "MOUNTED"}
    with pytest.raises(ValueError, match=message):
        sky_checks(task)


def parsed(job):
    """A TrainJob as Kubeflow's models read and write it; they leave out keys that they lack."""
    from kubeflow_trainer_api.models import trainer_v1alpha1_train_job as models

    return models.TrainerV1alpha1TrainJob.from_dict(job).to_dict()


def test_kubeflow_reads_every_key_of_its_example():
    job = example("trainjob.yaml")
    assert parsed(copy.deepcopy(job)) == job
    assert f"--rdzv-id={job['metadata']['name']}" in job["spec"]["trainer"]["command"]


def test_the_comparison_finds_a_wrong_key():
    job = example("trainjob.yaml")
    job["spec"]["trainer"]["nodes"] = 2
    assert parsed(copy.deepcopy(job)) != job
