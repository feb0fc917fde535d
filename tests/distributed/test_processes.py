import runpy
import signal
from pathlib import Path

import pytest

import parcnet_train.distributed.processes
from parcnet_train.distributed.processes import Place, place

TORCHRUN = {
    "RANK": "5",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "8",
    "LOCAL_WORLD_SIZE": "4",
    "TORCHELASTIC_RUN_ID": "mine",
}
SRUN = {
    "SLURM_JOB_ID": "123",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NTASKS": "8",
    "SLURM_NNODES": "2",
}


def test_single_process_without_launcher():
    assert place({}) == Place(None, 0, 1, 1, None)
    assert place({}).is_alone


def test_process_of_torchrun_inside_a_slurm_task():
    expected = Place("torchrun", 5, 8, 2, "torchrun-mine")
    assert place(TORCHRUN) == place({**SRUN, **TORCHRUN}) == expected
    assert not expected.is_alone
    assert expected.local_world_size == 4


@pytest.mark.parametrize(("given", "name"), [("none", None), ("my_run/a_test", "my-run-a-test")])
def test_run_name_of_torchrun_comes_from_rdzv_id(given, name):
    found = place({**TORCHRUN, "TORCHELASTIC_RUN_ID": given}).run_name
    assert found == (name and f"torchrun-{name}")


def test_single_process_of_torchrun_is_not_alone():
    one = {**TORCHRUN, "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
    assert not place(one).is_alone


def test_slurm_task():
    assert place(SRUN) == Place("srun", 5, 8, 2, "slurm-123")
    # A single task may start the processes of its machine itself.
    alone = {**SRUN, "SLURM_NTASKS": "1", "SLURM_NNODES": "1", "SLURM_PROCID": "0"}
    assert place(alone).is_alone
    assert place(alone).run_name == "slurm-123"


def test_slurm_arrays_and_later_steps_have_different_names():
    array = {**SRUN, "SLURM_ARRAY_JOB_ID": "120", "SLURM_ARRAY_TASK_ID": "3"}
    assert place(array).run_name == "slurm-120_3"
    assert place({**SRUN, "SLURM_STEP_ID": "2"}).run_name == "slurm-123.2"


def test_slurm_batch_scripts_and_shells_are_no_tasks():
    script = {key: value for key, value in SRUN.items() if key != "SLURM_STEP_ID"}
    assert place(script) == place({**SRUN, "SLURM_STEP_ID": "4294967290"}) == Place()


def test_import_works_without_signals_that_windows_lacks(monkeypatch):
    source = Path(parcnet_train.__file__).parent
    monkeypatch.delattr(signal, "SIGUSR1")
    again = runpy.run_path(str(source / "distributed" / "processes.py"))
    assert (again["USR1"], again["SAVING"]) == (None, (signal.SIGTERM,))
    for name in ("USR1", "SAVING"):
        monkeypatch.setattr(parcnet_train.distributed.processes, name, again[name])
    for file in source.rglob("*.py"):
        if "signal" in file.read_text():
            runpy.run_path(str(file), run_name="imported")
