"""The root of a data set: a folder of this machine, an object store, or packed shards."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from parcnet_train.data.stores.copies import Copies
from parcnet_train.data.stores.packed import INDEX, FolderStore, PackedStore
from parcnet_train.data.stores.paths import AnyPath, StoredPath
from parcnet_train.data.stores.remote import PACKAGES, RemoteStore
from parcnet_train.errors import DataError

ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
GIGABYTE = 10**9


def open_root(root: str, cache: str, cache_gb: float) -> AnyPath:
    """Return the path of the root of a data set; nothing is read from an object store yet.

    Args:
        root: Folder, or an address that begins with `file://`, `s3://`, `gs://` or `hf://`.
        cache: Folder for copies of files of object stores.
        cache_gb: Largest total size of the copies of the images, in 10^9 bytes.

    Raises:
        DataError: If the address has another form.
    """
    address = ADDRESS.match(root)
    protocol = address[1] if address else "file"
    if protocol == "file":
        path = local_path(root) if address else Path(root).expanduser()
        return StoredPath(PackedStore(FolderStore(path))) if (path / INDEX).is_file() else path
    if protocol not in PACKAGES:
        raise DataError(
            f"data.root={root}: {protocol}:// is not supported; expected a folder, or an address "
            f"that begins with {', '.join(f'{each}://' for each in PACKAGES)} or file://"
        )
    url = root.rstrip("/")
    if url == f"{protocol}:":
        raise DataError(
            f"data.root={root}: it names no bucket; expected {protocol}://BUCKET/FOLDER"
        )
    copies = Copies(Path(cache).expanduser() / "stores", url, round(cache_gb * GIGABYTE))
    return StoredPath(PackedStore(RemoteStore(url), copies))


def local_path(address: str) -> Path:
    """Return the path of an address that begins with `file://`.

    Raises:
        DataError: If it names another machine, or no absolute path.
    """
    parts = urlsplit(address)
    if parts.netloc not in ("", "localhost") or not parts.path:
        raise DataError(f"data.root={address}: expected file:///ABSOLUTE/PATH of this machine")
    return Path(unquote(parts.path))
