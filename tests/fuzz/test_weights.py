"""Files of weights that are cut, changed or hold anything are read, or refused."""

import argparse
import functools
import io
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from hypothesis import strategies as st
from safetensors.torch import save

import parcnet_train
from fuzzing import ends_well, folder, fuzz, hostile_bytes, hostile_json, values
from parcnet_train.checkpoints.published_files import PREFIXES, WRAPPERS, read_published
from parcnet_train.runs.releases import CONFIG, WEIGHTS
from releasing import release, write_checkpoint

STATE = {"a.weight": torch.ones(2, 3), "a.bias": torch.zeros(2)}
CONTENT = {
    "state_dict": {f"module.{name}": value for name, value in STATE.items()},
    "args": argparse.Namespace(lr=0.1),
    "metric": np.float64(0.5),
    "history": np.arange(3.0),
}


def encoded(**options):
    stream = io.BytesIO()
    torch.save(CONTENT, stream, **options)
    return stream.getvalue()


FILES = {
    "zip.pt": encoded(),
    "legacy.pt": encoded(_use_new_zipfile_serialization=False),
    "model.safetensors": save(STATE),
}
INDEX = {"metadata": {}, "weight_map": dict.fromkeys(STATE, "model.safetensors")}


def read(path):
    return read_published(path, lambda state: len(state.keys() & STATE.keys()))


@fuzz(20, st.data(), st.sampled_from(sorted(FILES)))
def test_changed_files_are_read_or_refused(data, name):
    with folder() as home:
        (home / name).write_bytes(data.draw(hostile_bytes(FILES[name])))
        ends_well(lambda: read(home / name), home)


@fuzz(20, hostile_json(INDEX))
def test_changed_indices_are_read_or_refused(index):
    with folder() as home:
        (home / "model.safetensors").write_bytes(FILES["model.safetensors"])
        (home / "model.safetensors.index.json").write_text(json.dumps(index))
        ends_well(lambda: read(home), home)


@functools.cache
def released():
    """Files of a release: its configuration, and its weights."""
    with tempfile.TemporaryDirectory() as home:
        path = write_checkpoint(Path(home) / "a.ckpt", "classification", "recipe.image_size=32")
        _, found = release(path, Path(home) / "run")
        return json.loads((found / CONFIG).read_text()), (found / WEIGHTS).read_bytes()


@fuzz(10, st.data())
def test_changed_releases_are_loaded_or_refused(data):
    config, weights = released()
    with folder() as home:
        (home / WEIGHTS).write_bytes(weights)
        (home / CONFIG).write_text(json.dumps(data.draw(hostile_json(config))))
        ends_well(lambda: parcnet_train.load(home), home)


keys = st.one_of(
    st.sampled_from(WRAPPERS), st.sampled_from(PREFIXES), st.text(max_size=9), st.integers()
)
entries = st.one_of(st.sampled_from([*STATE.values(), CONTENT["args"]]), values)
contents = st.recursive(entries, lambda inner: st.dictionaries(keys, inner, max_size=4))


@fuzz(20, contents)
def test_any_content_is_read_or_refused(content):
    with folder() as home:
        torch.save(content, home / "any.pt")
        ends_well(lambda: read(home / "any.pt"), home)
