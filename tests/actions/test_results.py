"""What every action leaves in `results.json`."""

import json

import torch

from parcnet_train import __version__
from parcnet_train.actions import results as module
from parcnet_train.actions.results import about, finish
from parcnet_train.runs.directories import config_hash
from running import composed


def test_results_name_action_folder_and_versions():
    config = composed("action=profile")
    config["paths"]["output"] = "runs/here"
    assert about(config) == {
        "status": "done",
        "action": "profile",
        "run_dir": "runs/here",
        "config_hash": config_hash(config),
        "parcnet_train_version": __version__,
        "torch_version": torch.__version__,
    }


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    results, shown = {"val/top1": 0.5}, []
    monkeypatch.setattr(module, "print_summary", shown.append)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    assert finish(tmp_path, results) == results
    assert (list(tmp_path.iterdir()), shown) == ([], [])
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 0)
    assert finish(tmp_path, results) == json.loads((tmp_path / "results.json").read_text())
    assert shown == [results]
