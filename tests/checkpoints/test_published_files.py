"""Files of published weights."""

import argparse
import collections
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from documentation import DOCS
from faults import is_like
from parcnet_train.checkpoints.published_files import PREFIXES, WRAPPERS, read_published
from parcnet_train.errors import CheckpointError

STATE = {"a.weight": torch.rand(2), "a.bias": torch.rand(2)}
OTHER = {name: torch.zeros_like(value) for name, value in STATE.items()}


def matching(state):
    """Count the names of the network `a`."""
    return len(state.keys() & STATE.keys())


def read(path):
    return read_published(path, matching)


def saved(content, folder):
    torch.save(content, folder / "published.pt")
    return folder / "published.pt"


def assert_is_found(published, state=STATE):
    assert published.state.keys() == state.keys()
    assert all(torch.equal(published.state[name], value) for name, value in state.items())


def refused(path):
    """Return the message of a file that must not be read."""
    with pytest.raises(CheckpointError) as caught:
        read(path)
    return str(caught.value)


def under(prefix, state=STATE):
    return {f"{prefix}{name}": value for name, value in state.items()}


# --- wrappers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("key", WRAPPERS)
def test_weights_are_found_under_every_wrapper(key, tmp_path):
    published = read(saved({"epoch": 3, key: STATE, "best_metric": 0.5}, tmp_path))
    assert_is_found(published)
    assert str(published) == f"taken from {key} of the training checkpoint"


@pytest.mark.parametrize(
    ("content", "entry"),
    [
        (STATE, None),
        ({"model_state_dict": OTHER, "ema_state_dict": STATE}, "ema_state_dict"),
        ({"model_state_dict": STATE, "ema_state_dict": None}, "model_state_dict"),
        ({"model": STATE, "ema": {"decay": 0.99, "updates": 7}}, "model"),
        ({"state_dict": OTHER, "state_dict_ema": STATE, "arch": "x"}, "state_dict_ema"),
        ({"params": OTHER, "params_ema": STATE}, "params_ema"),
        ({"model": OTHER, "model_ema": {"module": STATE, "decay": 0.99}}, "model_ema.module"),
        ({"model": OTHER, "ema": {"module": STATE}}, "ema.module"),
        ({"model": {"state_dict": STATE, "name": "x"}}, "model.state_dict"),
        ({"ema": {"decay": torch.tensor(0.9)}, "model": STATE}, "model"),
        ({"ema": {"decay": torch.tensor(0.9), "updates": 7}, "model": STATE}, "model"),
        ({"state_dict": {"model": OTHER, "ema": {"model": STATE}}}, "state_dict.ema.model"),
    ],
)
def test_averaged_weights_are_preferred_also_inside_other_wrappers(content, entry, tmp_path):
    published = read(saved(content, tmp_path))
    assert_is_found(published)
    assert published.entry == entry


def test_a_file_that_contains_itself_is_an_error(tmp_path):
    content = {"epoch": 1}
    content["model"] = content["ema"] = content
    assert "expected names and tensors" in refused(saved(content, tmp_path))


# --- prefixes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("wrapper", [None, "state_dict"])
def test_every_prefix_is_removed(prefix, wrapper, tmp_path):
    content = {wrapper: under(prefix)} if wrapper else under(prefix)
    published = read(saved(content, tmp_path))
    assert_is_found(published)
    assert f"prefix {prefix} removed" in str(published)


@pytest.mark.parametrize(
    "prefix",
    [
        "module._orig_mod.",
        "_orig_mod.module.",
        "module.module.",
        "_orig_mod.module._orig_mod.",
        "model._orig_mod.",
        "model.backbone.",
        "model_ema.module.",
        "network.module.net.",
    ],
)
def test_prefixes_in_any_order_are_removed(prefix, tmp_path):
    published = read(saved(under(prefix), tmp_path))
    assert_is_found(published)
    assert published.prefix == prefix


@pytest.mark.parametrize(
    ("prefix", "other"),
    [("backbone.", "head.fc.weight"), ("model.", "criterion.weight"), ("net.", "a.scale")],
)
def test_entries_that_belong_to_no_network_are_left_out(prefix, other, tmp_path):
    published = read(saved({**under(prefix), other: torch.zeros(1)}, tmp_path))
    assert_is_found(published)
    assert str(published) == f"prefix {prefix} removed from the names, 1 of 3 entries left out"


@pytest.mark.parametrize("prefix", ["", "model.", "module."])
@pytest.mark.parametrize("inner", ["_orig_mod.", "module.", "_orig_mod.module."])
def test_parts_that_were_wrapped_one_by_one_are_read(prefix, inner, tmp_path):
    expected = {"stem.a": torch.ones(1), "tail.b": torch.zeros(1)}
    state = {name.replace(".", f".{inner}"): value for name, value in expected.items()}
    path = saved(under(prefix, state), tmp_path)
    published = read_published(path, lambda state: len(state.keys() & expected.keys()))
    assert_is_found(published, expected)
    assert "removed within the names" in str(published)


@pytest.mark.parametrize("own", ["backbone.", "model.", "model.backbone.", "net.", "module."])
@pytest.mark.parametrize("added", ["", "module.", "model."])
def test_networks_keep_their_own_names_that_begin_with_a_prefix(own, added, tmp_path):
    expected = under(own)
    path = saved(under(added + own), tmp_path)
    published = read_published(path, lambda state: len(state.keys() & expected.keys()))
    assert_is_found(published, expected)
    assert published.prefix == added


def test_names_that_fit_nothing_stay_as_they_are(tmp_path):
    state = {"module.b": torch.zeros(1)}
    assert_is_found(read(saved(state, tmp_path)), state)


@pytest.mark.parametrize(
    "wrap",
    [
        AveragedModel,
        lambda network: nn.DataParallel(AveragedModel(network)),
        lambda network: AveragedModel(nn.DataParallel(network)),
        pytest.param(lambda n: torch.compile(nn.DataParallel(n)), marks=pytest.mark.slow),
        pytest.param(lambda n: nn.DataParallel(torch.compile(n)), marks=pytest.mark.slow),
        pytest.param(lambda n: AveragedModel(torch.compile(n)), marks=pytest.mark.slow),
    ],
)
def test_wrappers_of_pytorch_are_read(wrap, tmp_path):
    network = nn.Sequential(collections.OrderedDict(a=nn.Linear(2, 2)))
    path = saved(wrap(network).state_dict(), tmp_path)
    assert_is_found(read(path), network.state_dict())


def test_average_inside_a_lightning_module_is_preferred(tmp_path):
    content = {"state_dict": {**under("model.", OTHER), **under("model_ema.module.")}}
    published = read(saved(content, tmp_path))
    assert_is_found(published)
    assert str(published) == (
        "taken from state_dict of the training checkpoint, "
        "prefix model_ema.module. removed from the names, 2 of 4 entries left out"
    )


# --- other values -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        argparse.Namespace(lr=0.1, model="a", sizes=[1, 2], nested=argparse.Namespace(x=None)),
        np.float64(0.5),
        np.float32(0.5),
        np.int64(3),
        np.bool_(True),
        np.arange(6).reshape(2, 3),
        np.dtype("float32"),
        collections.OrderedDict(top1=np.float64(1)),
        (1, "a", None, {2}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_arguments_and_numbers_beside_the_weights_are_read(value, tmp_path):
    content = {"state_dict": STATE, "args": value, "metric": [value]}
    assert_is_found(read(saved(content, tmp_path)))


@pytest.mark.parametrize("module", ["numpy.core", "numpy._core"])
def test_numbers_of_numpy_1_and_2_are_read(module, tmp_path):
    content = {"state_dict": STATE, "metrics": [np.float64(1), np.ones(2)]}
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    written = (tmp_path / "a.pt").read_bytes()
    names = re.compile(rb"numpy\._?core\.multiarray\n")
    assert len(names.findall(written)) == 2
    (tmp_path / "a.pt").write_bytes(names.sub(f"{module}.multiarray\n".encode(), written))
    assert_is_found(read(tmp_path / "a.pt"))


@pytest.mark.parametrize(
    ("bad", "names"),
    [
        ({"a.bias": torch.tensor([0.0, float("nan")])}, "1 of 2 tensors have … infinite: a.bias;"),
        ({"a.bias": torch.tensor([float("-inf")]).half()}, "1 of 2 tensors have … a.bias;"),
        (
            {f"b.{number}": torch.full((1,), float("nan")) for number in range(5)},
            "5 of 7 tensors have … b.0, b.1, b.2, … expected finite weights. Fix: …",
        ),
        ({"c": torch.tensor([float("nan")]).to(torch.float8_e4m3fn)}, "1 of 3 tensors have … c;"),
    ],
)
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_weights_that_are_not_finite_are_an_error(bad, names, suffix, tmp_path):
    path = tmp_path / f"published.{suffix}"
    (torch.save if suffix == "pt" else save_file)({**STATE, **bad}, path)
    assert is_like(refused(path), f"{path}: … {names}")


@pytest.mark.parametrize(
    "content",
    [
        {"model": STATE, "net": {"a.weight": torch.tensor([float("nan")])}},
        {**under("model_ema."), "model.a.weight": torch.tensor([float("nan")])},
    ],
)
def test_copies_that_are_not_taken_may_be_not_finite(content, tmp_path):
    assert read(saved(content, tmp_path)).state["a.weight"].isfinite().all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": torch.zeros(1), "b": 3}, "entry 'b' is of type int; expected names and tensors"),
        ({"state_dict": {"a": [1.0]}}, "entry 'state_dict' is of type dict; expected names and t"),
        ({3: torch.zeros(1)}, "entry 3 is of type Tensor; expected names and tensors"),
        ([torch.zeros(1)], "the content is of type list; expected a state dict"),
        ({}, "the content is empty; expected a state dict"),
        (
            {"a": torch.eye(2).to_sparse()},
            "'a' is a tensor of sparse_coo float32 on the cpu device",
        ),
        ({"a": torch.zeros(1, device="meta")}, "'a' is a tensor of strided float32 on the meta d"),
        ({"a": torch.zeros(1, dtype=torch.cfloat)}, "'a' is a tensor of strided complex64 on the"),
        (
            {"a": torch.zeros(1, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)},
            "'a' is a tensor of strided float4_e2m1fn_x2 on the",
        ),
    ],
    ids=str,
)
def test_files_without_a_state_dict_of_plain_tensors_are_errors(content, message, tmp_path):
    assert message in refused(saved(content, tmp_path))


def test_wrappers_and_prefixes_are_documented():
    page = (DOCS / "guides" / "weights.md").read_text("utf-8")
    assert [name for name in (*WRAPPERS, *PREFIXES) if f"`{name}`" not in page] == []
