"""Files with code are refused, wherever weights are read, and nothing in them is executed."""

import argparse
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import parcnet_train
from converting import SETTINGS
from faults import assert_one_is
from parcnet_train.checkpoints.published import published_weights
from parcnet_train.checkpoints.reading import read_checkpoint
from parcnet_train.checkpoints.safe_loading import Ignored, load_safely
from parcnet_train.config.group_files import contents_of
from parcnet_train.conversion.convert import convert
from parcnet_train.data.prepare.readers.yolo import read_document
from parcnet_train.deploy.standalone.common import read_image
from parcnet_train.deploy.standalone.workers import in_memory
from parcnet_train.errors import CheckpointError
from parcnet_train.models.backbones.timm import Timm
from running import TINY, faults_of

PLANTED = "executed"  # file that executed code would write


class Call:
    """Pickled as the call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Arguments(argparse.Namespace):
    """A namespace with code of its own."""

    def __setstate__(self, state):
        Path(PLANTED).touch()


SYSTEM = Call(os.system, f"touch {PLANTED}")
EVAL = Call(eval, f"open({PLANTED!r}, 'w')")
HOSTILE = {
    "system": (SYSTEM, f"{os.system.__module__}.system"),
    "eval": (EVAL, "contains eval"),
    "method": (Call(Path.touch, Path(PLANTED)), "getattr"),
    "subclass": (Arguments(lr=0.1), "test_safe_loading.Arguments"),
    "inside": (argparse.Namespace(lr=EVAL), "contains eval"),
    "array": (np.array([SYSTEM], dtype=object), f"{os.system.__module__}.system"),
    "loading": (Call(torch.load, PLANTED), "torch.serialization.load"),
    "pickle": (Call(pickle.loads, pickle.dumps(EVAL)), "pickle.loads"),
}


@pytest.fixture(autouse=True)
def nothing_is_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert not Path(PLANTED).exists()


def test_the_planted_code_works():
    pickle.loads(pickle.dumps(SYSTEM, protocol=2))
    assert Path(PLANTED).exists()
    Path(PLANTED).unlink()


def crafted(kind):
    """Write a file that is a checkpoint of this package and a state dict, but for one value."""
    network = {"a": torch.zeros(1)}
    own = {"config": {}, "choices": {}, "class_names": [], "epoch": 1}
    torch.save({"state_dict": network, **own, "args": HOSTILE[kind][0]}, "crafted.pt")
    return Path("crafted.pt")


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_values_are_refused_by_their_names(kind):
    with pytest.raises(CheckpointError) as caught:
        load_safely(crafted(kind))
    assert HOSTILE[kind][1] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(SYSTEM),
        pickle.dumps(SYSTEM, protocol=0),
        pickle.dumps(SYSTEM, protocol=2),
        # Attributes of what is allowed are not.
        b"\x80\x02cargparse\nNamespace.__init__.__globals__\n.",
        b"\x80\x02cargparse\n_sys\n.",
        b"\x80\x02cnumpy\nload\nX\x01\x00\x00\x00a\x85R.",
    ],
)
def test_bare_pickles_are_refused(content):
    Path("bare.bin").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"not a checkpoint of PyTorch|the file contains"):
        load_safely(Path("bare.bin"))


def text(value):
    """Pickle an ASCII text."""
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def crafted_array():
    """Pickle a set of an array whose data type claims to hold objects at chosen addresses.

    NumPy would follow the eight bytes of the array as a pointer, and crash.
    """
    none, false, true = b"N", b"\x89", b"\x88"
    objects = b"cnumpy\ndtype\n(" + text("O") + b"tR"
    dtype = b"cnumpy\ndtype\n(" + text("f8") + false + true + b"tR"
    size = b"K\x08"
    subarray = b"(" + objects + b"(K\x01tt"
    dtype += b"(K\x03" + text("<") + subarray + none + none + size + size + b"K\x00tb"
    content = b"c_codecs\nencode\n(" + text("A" * 8) + text("latin1") + b"tR"
    array = b"cnumpy\nndarray\n()" + dtype + content + b"tR"
    return b"\x80\x02c__builtin__\nset\n(" + array + b"tR."


def test_no_data_type_of_a_file_reaches_numpy():
    Path("crash.pt").write_bytes(crafted_array())
    # In a process of its own, which a failure would end.
    script = (
        "from pathlib import Path\n"
        "from parcnet_train.checkpoints.safe_loading import Ignored, load_safely\n"
        "from parcnet_train.errors import CheckpointError\n"
        "try: load_safely(Path('crash.pt'))\n"
        "except CheckpointError as error: print('refused:', error)\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (found.returncode, found.stdout[:8]) == (0, "refused:"), found.stderr


def test_numbers_of_numpy_are_skipped():
    values = [np.float64(1), np.bool_(True), np.arange(6.0), np.dtype("f4"), np.zeros(2, "V8")]
    torch.save({"a": torch.ones(1), "b": values}, "numbers.pt")
    found = load_safely(Path("numbers.pt"))
    assert found["a"].item() == 1
    assert {type(each) for each in found["b"]} == {Ignored}


@pytest.mark.parametrize("kind", ["empty", "TorchScript"])
def test_other_files_are_named_for_what_they_are(kind):
    Path("a.pt").touch()
    if kind == "TorchScript":
        torch.jit.save(torch.jit.trace(torch.nn.Identity(), torch.zeros(1)), "a.pt")
    with pytest.raises(CheckpointError, match=rf"not a checkpoint of PyTorch: it is {kind}\. Fix"):
        read_checkpoint(Path("a.pt"))


@pytest.mark.parametrize("kind", ["system", "subclass"])
@pytest.mark.parametrize(
    "read",
    [
        lambda path: convert(path, Path("never.ckpt"), **SETTINGS),
        lambda path: published_weights(str(path), Timm("test_efficientnet"), "key"),
        parcnet_train.load,
        read_checkpoint,
    ],
    ids=["converter", "published", "load", "checkpoint"],
)
def test_every_reader_refuses_hostile_files(read, kind):
    with pytest.raises(CheckpointError, match=HOSTILE[kind][1]):
        read(crafted(kind))
    assert not Path("never.ckpt").exists()


@pytest.mark.parametrize(
    "overrides",
    [
        ("backbone=timm", "backbone.name=test_efficientnet", "backbone.pretrained=crafted.pt"),
        ("backbone.pretrained=crafted.pt",),
        ("recipe.distillation={teacher: test_efficientnet, weights: crafted.pt}",),
        ("recipe.distillation={teacher: crafted.pt}",),
        ("action=test", "ckpt=crafted.pt"),
        ("ckpt=crafted.pt",),
    ],
    ids=["pretrained of timm", "pretrained", "teacher of timm", "teacher", "test", "resume"],
)
def test_every_key_that_names_weights_refuses_hostile_files(overrides):
    crafted("system")
    faults = faults_of(*TINY, *overrides)
    assert_one_is(f"crafted.pt … the file contains {HOSTILE['system'][1]}; expected …", faults)


YAML = f"names: !!python/object/apply:os.system ['touch {PLANTED}']\n"


@pytest.mark.parametrize(
    "read",
    [read_document, lambda path: contents_of(path.absolute())],
    ids=["data.yaml", "config"],
)
def test_yaml_cannot_call_anything(read):
    Path("planted.yaml").write_text(YAML)
    with pytest.raises(Exception, match="could not determine a constructor"):
        read(Path("planted.yaml"))


def test_a_config_with_a_call_is_one_line():
    Path("mine/data").mkdir(parents=True)
    Path("mine/data/planted.yaml").write_text(YAML)
    script = [sys.executable, "-m", "parcnet_train", "--config-dir", "mine", "data=planted"]
    done = subprocess.run(script, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "planted.yaml" in done.stderr


def test_objects_in_an_array_are_not_loaded():
    np.save("planted.npy", np.array([SYSTEM], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="Python objects in dtype"):
        in_memory("planted.npy")
    with pytest.raises(ValueError, match="allow_pickle"):
        read_image(Path("planted.npy"), 5)
