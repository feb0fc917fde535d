"""`.safetensors` files: single ones, and those that are split into shards."""

import json

import pytest
import torch
from safetensors.torch import save_file

from faults import is_like
from parcnet_train.checkpoints.published_files import read_published
from parcnet_train.errors import CheckpointError

STATE = {name: torch.rand(2) for name in ("a.weight", "a.bias", "b.weight")}
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path):
    """A folder with two shards and their index."""
    home = tmp_path / "published"
    home.mkdir()
    names = list(STATE)
    shard_of = dict(zip(names, (SHARDS[0], SHARDS[0], SHARDS[1]), strict=True))
    for shard in SHARDS:
        held = {name: STATE[name] for name in names if shard_of[name] == shard}
        save_file(held, home / shard)
    write_index(home, shard_of)
    return home


def write_index(home, shard_of):
    content = {"metadata": {"total_size": 24}, "weight_map": shard_of}
    (home / INDEX).write_text(json.dumps(content))


def read(path):
    return read_published(path, lambda state: len(state.keys() & STATE.keys())).state


def refused(path):
    """Return the message of a file that must not be read."""
    with pytest.raises(CheckpointError) as caught:
        read(path)
    return str(caught.value)


@pytest.mark.parametrize("given", ["", INDEX])
def test_shards_are_read_through_their_index(given, folder):
    found = read(folder / given)
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[name], value) for name, value in STATE.items())


def test_folder_with_a_single_file_is_read(tmp_path):
    save_file(STATE, tmp_path / "model.safetensors")
    assert read(tmp_path).keys() == STATE.keys()


def test_folder_without_weights_is_an_error(tmp_path):
    (tmp_path / "empty").mkdir()
    message = refused(tmp_path / "empty")
    assert is_like(message, f"{tmp_path}/empty has no model.safetensors; expected …")


@pytest.mark.parametrize(
    "shard",
    ["../outside.safetensors", "ABSOLUTE", "sub/../../outside.safetensors", "..", "."],
)
def test_shards_outside_the_folder_are_refused(shard, folder, tmp_path):
    outside = tmp_path / "outside.safetensors"
    save_file(STATE, outside)
    shard = shard.replace("ABSOLUTE", str(outside))
    write_index(folder, dict.fromkeys(STATE, shard))
    message = refused(folder / INDEX)
    assert is_like(message, f"{folder / INDEX}: … other folders: {shard}; expected names of …")


def test_missing_shards_are_named(folder):
    for shard in SHARDS:
        (folder / shard).unlink()
    wanted = f"… 2 of 2 shards are missing: {', '.join(SHARDS)}. Fix: …"
    assert is_like(refused(folder / INDEX), wanted)


def test_entry_that_is_not_in_its_shard_is_named(folder):
    write_index(folder, {**dict.fromkeys(STATE, SHARDS[0])})
    wanted = "… 1 of 3 entries are not in the shard that the index names: b.weight"
    assert is_like(refused(folder / INDEX), wanted)


@pytest.mark.parametrize(
    "content",
    [
        "no JSON",
        "[1]",
        "{}",
        '{"weight_map": 3}',
        '{"weight_map": {"a": 1}}',
        "[" * 100_000,
        "\xff",
    ],
    ids=lambda content: content[:20],
)
def test_file_that_is_no_index_is_an_error(content, folder):
    (folder / INDEX).write_text(content, "latin-1")
    message = refused(folder / INDEX)
    assert message.startswith(f"{folder / INDEX}")
    assert "\n" not in message
    assert "JSON" in message or "weight_map" in message


def test_index_without_entries_is_an_error(folder):
    write_index(folder, {})
    assert "the content is empty; expected a state dict" in refused(folder / INDEX)
