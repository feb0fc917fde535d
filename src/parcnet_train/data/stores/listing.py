"""Names, sizes and versions of all files of a store, as flat arrays."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Listed(NamedTuple):
    """File of a store.

    Attributes:
        name: Path below the root of the store, without a leading slash.
        size: Number of bytes.
        version: Value that changes with the content: an ETag, a checksum or a time.
    """

    name: bytes
    size: int
    version: bytes


@dataclass(frozen=True)
class Listing:
    """All files of a store, sorted by name.

    The arrays are flat: loader processes would gradually copy a million Python objects into their
    own memory.

    Attributes:
        names: Paths below the root, `(n,)` bytes.
        sizes: Numbers of bytes, `(n,)` int64.
        versions: Values that change with the content, `(n,)` bytes.
    """

    names: npt.NDArray[np.bytes_]
    sizes: npt.NDArray[np.int64]
    versions: npt.NDArray[np.bytes_]

    def __len__(self) -> int:
        return len(self.names)

    def position(self, name: bytes) -> int | None:
        """Return the position of a file; None if there is none of this name."""
        # Not np.searchsorted, which copies all names if `name` is longer than the longest of them.
        found = bisect_left(self.names, name)
        return found if found < len(self) and self.names[found] == name else None

    def has_folder(self, folder: bytes) -> bool:
        """Return whether a file lies in a folder; the root, an empty name, always exists."""
        first = bisect_left(self.names, folder + b"/")
        return not folder or (first < len(self) and self.names[first].startswith(folder + b"/"))

    def entries(self, folder: bytes) -> Iterator[tuple[bytes, bool]]:
        """Yield the names directly in a folder, sorted, and whether each is a folder."""
        prefix = folder + b"/" if folder else b""
        at = bisect_left(self.names, prefix)
        while at < len(self) and self.names[at].startswith(prefix):
            name, slash, _ = self.names[at][len(prefix) :].partition(b"/")
            yield name, bool(slash)
            # 0 is the character after the slash: this skips everything in the folder.
            at = bisect_left(self.names, prefix + name + b"0") if slash else at + 1

    def digest(self) -> str:
        """Return a hash of all names, sizes and versions."""
        total = hashlib.sha256(b"\0".join(self.names.tolist()))
        total.update(self.sizes.tobytes())
        total.update(b"\0".join(self.versions.tolist()))
        return total.hexdigest()


def make_listing(files: Iterable[Listed]) -> Listing:
    """Return the listing of files, in any order."""
    ordered = sorted(files)
    return Listing(
        np.array([each.name for each in ordered], dtype=np.bytes_),
        np.array([each.size for each in ordered], dtype=np.int64),
        np.array([each.version for each in ordered], dtype=np.bytes_),
    )
