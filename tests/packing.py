"""Stores for tests: objects in memory, and shards that are written without litData."""

import json

import fsspec
import numpy as np

from parcnet_train.data.prepare import pack
from parcnet_train.data.stores import remote
from parcnet_train.data.stores.roots import open_root


def put(folder, bucket, monkeypatch):
    """Copy a folder into a bucket in memory; returns its address."""
    monkeypatch.setitem(remote.PACKAGES, "memory", ("fsspec", "none"))
    system = fsspec.filesystem("memory")
    for path in folder.rglob("*"):
        if path.is_file():
            system.pipe_file(f"/{bucket}/{path.relative_to(folder)}", path.read_bytes())
    return f"memory://{bucket}"


def stored(folder, bucket, monkeypatch, cache, cache_gb=1.0):
    """The root of a folder's copy in memory."""
    return open_root(put(folder, bucket, monkeypatch), str(cache), cache_gb)


def count_requests(monkeypatch):
    """Count the requests to stores; returns a list of the number of files in each."""
    sizes = []
    attempt = remote.RemoteStore.attempt
    monkeypatch.setattr(
        remote.RemoteStore,
        "attempt",
        lambda self, pieces: sizes.append(len(pieces)) or attempt(self, pieces),
    )
    return sizes


def write_shards(images, folder, short_side, each=3):
    """Write the shards as litData's optimize does, a few images in each."""
    for number, start in enumerate(range(0, len(images), each)):
        items = []
        for image in images[start : start + each]:
            name, content = pack.content_of(image, short_side)
            fields = [name.encode(), content]
            items.append(np.array(list(map(len, fields)), np.uint32).tobytes() + b"".join(fields))
        sizes = [4 + 4 * (len(items) + 1), *map(len, items)]
        header = np.array([len(items), *np.cumsum(sizes)], np.uint32).tobytes()
        (folder / f"chunk-0-{number}.bin").write_bytes(header + b"".join(items))
    (folder / "index.json").write_text(json.dumps({"chunks": []}))


def packed(folder, target, monkeypatch, **settings):
    """Pack a folder without litData."""
    monkeypatch.setattr(pack, "write_shards", write_shards)
    return pack.pack(folder, target, settings.get("short_side"))
