"""Provenance of a run, `provenance.json`."""

import hashlib
import json
import logging
from datetime import datetime

import pytest
import torch

import running
from parcnet_train.actions.starting import compare_configs
from parcnet_train.runs import provenance as module
from parcnet_train.runs.directories import PROVENANCE, config_hash
from parcnet_train.runs.environment import hardware
from parcnet_train.runs.git import DIFF, Revision
from parcnet_train.runs.provenance import Provenance


class Data:
    def fingerprint(self):
        return {"train_images": 3}


def read(folder):
    return json.loads((folder / PROVENANCE).read_text())


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "find_revision", lambda: Revision("abc", b"+1\n", ("new.py",)))
    values = running.composed(*running.TINY)
    values["paths"]["output"] = str(tmp_path / "run")
    return values


def test_training_writes_its_provenance(trained):
    folder, results = trained
    content = read(folder)
    assert content["overrides"] == list(running.TRAINED)
    assert content["config"]["recipe"]["ema"]["decay"] == 0.5
    assert "overrides" not in content["config"]
    assert content["config_hash"] == results["config_hash"]
    assert content["seed"] == results["seed"]
    assert content["packages"]["torch"] == torch.__version__
    # scikit-learn's digits: a fifth of 1,797 is the validation set.
    assert content["data"]["train_images"] + content["data"]["val_images"] == 1797
    (session,) = content["sessions"]
    assert (session["from_epoch"], session["world_size"]) == (0, 1)
    assert datetime.fromisoformat(session["started"]) <= datetime.fromisoformat(session["ended"])


def test_resumed_training_adds_a_session(resumable):
    more = (*running.TRAINED, "trainer.max_epochs=2", f"ckpt={resumable}")
    running.run(more, resumable)
    content = read(resumable)
    assert [each["from_epoch"] for each in content["sessions"]] == [0, 1]
    assert [each["overrides"] for each in content["sessions"]] == [
        list(running.TRAINED),
        list(more),
    ]
    assert None not in [each["ended"] for each in content["sessions"]]


def test_evaluation_has_its_own_provenance(trained, tmp_path):
    running.run((*running.TRAINED, "action=test", f"ckpt={trained[0]}"), tmp_path)
    content = read(tmp_path)
    assert content["config"]["action"] == "test"
    assert content["sessions"][0]["from_epoch"] is None
    assert content["data"]["train_images"] is None  # an evaluation reads no training images
    assert content["data"]["val_images"] == read(trained[0])["data"]["val_images"]


def test_overrides_in_checkpoints_give_no_warning(trained, caplog):
    checkpoint = torch.load(trained[0] / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["config"]["overrides"] == list(running.TRAINED)
    now = running.composed(*running.TRAINED, "seed=7")
    assert now["overrides"] != checkpoint["config"]["overrides"]
    with caplog.at_level(logging.WARNING):
        compare_configs(checkpoint, now)
    assert any(line.startswith("seed") and "7" in line for line in caplog.messages)
    assert "overrides" not in caplog.text


def test_config_hash_depends_on_values_not_on_overrides():
    # The config file already has 0.
    assert config_hash(running.composed("seed=0")) == config_hash(running.composed())


def test_file_exists_from_the_start_and_is_complete_at_the_end(config, tmp_path):
    with Provenance(config, 2, from_epoch=0) as provenance:
        begun = read(tmp_path / "run")
        provenance.note(Data())
        assert read(tmp_path / "run")["data"] == {"train_images": 3}
    assert begun["data"] is None
    assert begun["sessions"][0]["ended"] is None
    assert begun["git"] == {"revision": "abc", "dirty": True, "diff": DIFF, "untracked": ["new.py"]}
    assert (tmp_path / "run" / DIFF).read_bytes() == b"+1\n"
    assert begun["hardware"] == hardware()
    ended = read(tmp_path / "run")
    assert ended["sessions"][0]["ended"] is not None
    assert begun["sessions"][0]["cpu_seconds"] is None
    assert ended["sessions"][0]["cpu_seconds"] >= 0
    assert ended["sessions"][0]["world_size"] == 2


def test_resume_adds_a_session_and_restart_does_not(config, tmp_path, monkeypatch):
    with pytest.raises(SystemExit), Provenance(config, 1, from_epoch=0):
        raise SystemExit(143)  # a training ends like this at a signal
    monkeypatch.setattr(module, "find_revision", lambda: Revision("def", b"", ()))
    again = Provenance(config, 1, from_epoch=0)
    again.goes_on(4)
    with again:
        pass
    content = read(tmp_path / "run")
    first, second = content["sessions"]
    assert (first["from_epoch"], second["from_epoch"]) == (0, 4)
    assert (first["revision"], second["revision"]) == ("abc", "def")
    assert first["ended"] is not None
    assert content["git"]["revision"] == "def"
    assert not (tmp_path / "run" / DIFF).exists()  # it belonged to another session
    with Provenance(config, 1, from_epoch=0):
        pass
    assert len(read(tmp_path / "run")["sessions"]) == 1


def test_only_rank_0_writes_provenance(config, tmp_path, monkeypatch):
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with Provenance(config, 2, from_epoch=0) as provenance:
        provenance.note(Data())
    assert not (tmp_path / "run").exists()


def test_provenance_failure_is_a_warning(config, tmp_path, caplog):
    (tmp_path / "run").write_text("a file where the folder should be")
    with Provenance(config, 1, from_epoch=0) as provenance:
        provenance.note(Data())
    assert "provenance.json is incomplete: " in caplog.text


def test_damaged_file_of_an_earlier_session_is_replaced(config, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / PROVENANCE).write_text('{"sessions": [')
    provenance = Provenance(config, 1, from_epoch=0)
    provenance.goes_on(1)
    with provenance:
        pass
    assert len(read(tmp_path / "run")["sessions"]) == 1


def data_of(*overrides):
    from parcnet_train.build import build_data

    data = build_data(running.composed(*overrides))
    data.setup("fit")
    return data


def test_fingerprint_depends_on_names_and_splits(image_folder):
    overrides = ("data=imagefolder", f"data.root={image_folder}")
    data = data_of(*overrides)
    names = sorted(
        f"{file.parent.parent.name} {file.parent.name}/{file.name}"
        for file in image_folder.glob("*/*/*")
    )
    found = data.fingerprint()
    assert (found["train_images"], found["val_images"]) == (12, 6)
    text = "".join(f"{name}\n" for name in names).encode()
    assert found["files_sha256"] == hashlib.sha256(text).hexdigest()
    moved = image_folder.rename(image_folder.with_name("elsewhere"))
    assert data_of("data=imagefolder", f"data.root={moved}").fingerprint() == found
    next(moved.glob("train/*/0.png")).rename(moved / "train" / "cat" / "9.png")
    assert data_of("data=imagefolder", f"data.root={moved}").fingerprint() != found


def test_fingerprint_of_evaluation_has_only_its_own_split(image_folder):
    from parcnet_train.build import build_data

    data = build_data(running.composed("data=imagefolder", f"data.root={image_folder}"))
    data.setup("validate")
    found = data.fingerprint()
    assert (found["train_images"], found["val_images"]) == (None, 6)


def test_fingerprint_depends_on_boxes(coco_folder):
    overrides = ("task=detection", "data=coco_format", f"data.root={coco_folder}")
    found = data_of(*overrides).fingerprint()
    assert (found["train_images"], found["val_images"]) == (3, 3)  # one image has no box
    file = coco_folder / "annotations" / "instances_train2017.json"
    document = json.loads(file.read_text())
    document["annotations"][0]["bbox"][0] += 1
    file.write_text(json.dumps(document))
    moved = data_of(*overrides).fingerprint()
    assert moved["files_sha256"] == found["files_sha256"]
    assert moved["labels_sha256"] != found["labels_sha256"]


def test_fingerprint_depends_on_mask_names_not_contents(voc_folder):
    overrides = ("task=segmentation", "data=voc_format", f"data.root={voc_folder}")
    found = data_of(*overrides).fingerprint()
    assert (found["train_images"], found["val_images"]) == (4, 3)
    assert found["labels_sha256"] is None


def test_fingerprint_of_huggingface_rows_depends_on_labels(huggingface_folder):
    found = data_of("data=huggingface", f"data.root={huggingface_folder}").fingerprint()
    assert (found["train_images"], found["val_images"]) == (3, 3)
    name = "data-00000-of-00001.arrow"
    text = f"train {name}\nval {name}\n".encode()
    assert found["files_sha256"] == hashlib.sha256(text).hexdigest()
