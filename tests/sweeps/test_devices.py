"""Devices of concurrent jobs, with made-up numbers of GPUs and cores."""

import pytest
import torch

from parcnet_train.errors import ConfigError
from parcnet_train.sweeps.devices import environment_of, gpus_wanted, refuse_too_few, visible_gpus


@pytest.mark.parametrize(
    ("accelerator", "devices", "visible", "at_once", "expected"),
    [
        ("auto", 1, 0, 4, 0),
        ("cpu", 2, 8, 1, 0),
        ("auto", 1, 8, 4, 1),
        ("gpu", 2, 8, 4, 2),
        ("cuda", 3, 8, 1, 3),
        ("auto", "auto", 8, 1, 8),
        ("auto", "auto", 8, 3, 2),
        ("auto", "auto", 2, 3, 1),
        ("auto", "two", 8, 1, 1),  # the job's own process reports the fault
    ],
)
def test_gpus_wanted_by_a_job(accelerator, devices, visible, at_once, expected):
    assert gpus_wanted(accelerator, devices, visible, at_once) == expected


def test_too_few_gpus_raise():
    refuse_too_few([1, 1, 1, 2], 3, 2)
    refuse_too_few([0] * 14, 0, 14)
    with pytest.raises(ConfigError) as caught:
        refuse_too_few([1, 2, 2], 3, 2)
    fault = str(caught.value)
    assert fault.startswith("hydra.launcher.n_jobs=2: ")
    for fact in ("4 GPUs", "at most 3", "trainer.devices", "trainer.accelerator=cpu"):
        assert fact in fault


def test_visible_gpus_keep_their_names(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-1f")
    assert visible_gpus() == ["3", "GPU-1f"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert visible_gpus() == ["0", "1"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert visible_gpus() == []


def test_cores_are_shared_by_jobs_and_their_processes(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert environment_of(1, [], 1, 8) == {}
    assert environment_of(1, [], 3, 8) == {"OMP_NUM_THREADS": "2"}
    assert environment_of(2, [], 2, 8) == {"OMP_NUM_THREADS": "2"}
    assert environment_of(1, [], 16, 8) == {"OMP_NUM_THREADS": "1"}
    told = environment_of("auto", ["4", "5"], 2, 16)
    assert told == {"CUDA_VISIBLE_DEVICES": "4,5", "OMP_NUM_THREADS": "4"}
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert environment_of(1, ["1"], 2, 8) == {"CUDA_VISIBLE_DEVICES": "1"}
