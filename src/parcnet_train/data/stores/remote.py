"""Objects of an object store, read through fsspec: s3://, gs://, hf://."""

from __future__ import annotations

import base64
import hashlib
import importlib
import os
import re
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from parcnet_train.data.stores.listing import Listed, Listing, make_listing
from parcnet_train.data.stores.store import Piece, PieceStore, StoreError
from parcnet_train.errors import first_line

# Package and extra of each protocol.
PACKAGES = {
    "s3": ("s3fs", "s3"),
    "gs": ("gcsfs", "gcs"),
    "hf": ("huggingface_hub", "huggingface"),
}

AT_ONCE = 32  # requests
PATIENCE = 60.0  # seconds for which a request is repeated
FIRST_PAUSE = 0.25  # seconds before the first repetition; doubled before each further one
LONGEST_PAUSE = 8.0

# Fields of fsspec's entries with the time of the last change.
CHANGED = ("LastModified", "mtime")

MD5 = re.compile(r"[0-9a-f]{32}")
TAG = "etag:"  # begins a version that looks like an MD5, but need not be one


class RemoteStore(PieceStore):
    """Objects below an address.

    Args:
        url: Address, such as `s3://bucket/folder`. Credentials and the server's address come from
            the environment and the files that the package of the protocol reads.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.protocol, _, self.path = url.partition("://")
        self.has_checksums: bool | None = None  # whether ETags are checksums; None: not known yet
        self.doubtful: dict[int, str] = {}  # checksums of contents that do not match, by position

    def system(self) -> Any:
        """Return fsspec's file system, which each process has one of.

        Raises:
            StoreError: If the package of the protocol is missing.
        """
        package, extra = PACKAGES[self.protocol]
        try:
            importlib.import_module(package)
            import fsspec
        except ImportError as error:
            raise StoreError(
                f"data.root={self.url}: {self.protocol}:// needs the package {package}; expected "
                f"an installed one. Fix: pip install 'parcnet-train[{extra}]'"
            ) from error
        return fsspec.filesystem(self.protocol)

    def list_files(self) -> Listing:
        """List all objects, several folders at once.

        Raises:
            StoreError: If they cannot be listed, or there is none.
        """
        system = self.system()
        system.invalidate_cache()
        root = f"{self.path}/"
        files: list[Listed] = []
        folders = [self.path]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            while folders:
                found = pool.map(lambda folder: self.list_folder(system, folder), folders)
                entries = [entry for each in found for entry in each]
                folders = [e["name"] for e in entries if e["type"] == "directory"]
                files += [
                    Listed(os.fsencode(e["name"].removeprefix(root)), e["size"], version_of(e))
                    for e in entries
                    # A folder that was created in a web console is an empty object.
                    if e["type"] == "file" and not e["name"].endswith("/")
                ]
        if not files:
            raise StoreError(
                f"data.root={self.url}: it contains no files; expected a data set. Fix: check the "
                "address"
            )
        return make_listing(files)

    def list_folder(self, system: Any, folder: str) -> list[dict[str, Any]]:
        """Return fsspec's entries of a folder, without the folder itself.

        Raises:
            StoreError: If it cannot be listed.
        """
        for is_last in attempts():
            try:
                found = system.ls(folder, detail=True)
                break
            except Exception as error:  # each package raises its own
                if is_last or is_final(error):
                    raise StoreError(
                        f"data.root={self.url}: {self.protocol}://{folder} cannot be listed "
                        f"({describe(error)}); expected a folder that can be read. Fix: check the "
                        "address, the credentials and the network"
                    ) from error
        entries = [{**each, "name": each["name"].lstrip("/")} for each in found]
        return [each for each in entries if each["name"].strip("/") != folder]

    def fetch_pieces(self, pieces: Sequence[Piece]) -> list[bytes]:
        """Read parts of objects at once, see `PieceStore`; repeat what fails for a minute."""
        contents: dict[int, bytes] = {}
        waiting = [number for number, piece in enumerate(pieces) if piece.length]
        for is_last in attempts() if waiting else ():
            results = self.attempt([pieces[number] for number in waiting])
            failed: list[int] = []
            for number, result in zip(waiting, results, strict=True):
                fault = self.fault_of(pieces[number], result)
                if fault is None:
                    contents[number] = result
                elif is_last or is_final(result):
                    raise StoreError(
                        f"{self.shown(self.name(pieces[number]))} cannot be read ({fault}); "
                        "expected the object that was listed when the run started. Fix: check the "
                        "object store and the network, then resume with ckpt=last"
                    ) from (result if isinstance(result, BaseException) else None)
                else:
                    failed.append(number)
            waiting = failed
            if not waiting:
                break
        return [contents.get(number, b"") for number in range(len(pieces))]

    def attempt(self, pieces: Sequence[Piece]) -> list[Any]:
        """Read parts of objects once; return each content, or the error in its place."""
        system = self.system()
        paths = [f"{self.path}/{self.name(piece)}" for piece in pieces]
        starts = [piece.start for piece in pieces]
        ends = [piece.start + piece.length for piece in pieces]
        if system.async_impl:
            return system.cat_ranges(paths, starts, ends, batch_size=AT_ONCE, on_error="return")

        def read(path: str, start: int, end: int) -> Any:
            try:
                return system.cat_file(path, start=start, end=end)
            except Exception as error:
                return error

        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(read, paths, starts, ends))

    def name(self, piece: Piece) -> str:
        """Return the name of an object."""
        return os.fsdecode(self.listing.names[piece.position])

    def fault_of(self, piece: Piece, result: Any) -> str | None:
        """Return what is wrong with the result of a reading; None if it is what was listed."""
        if isinstance(result, BaseException):
            return describe(result)
        if len(result) != piece.length:
            return f"{len(result):,} of {piece.length:,} bytes arrived"
        if piece.checksum is not None:
            matches = zlib.crc32(result) == piece.checksum
            return None if matches else "its content does not match its checksum"
        return self.changed(piece, result)

    def changed(self, piece: Piece, content: bytes) -> str | None:
        """Return why a whole object is not the one that was listed; None if it is.

        The ETag of an object in S3 is its MD5, unless it was encrypted with a key of the user or
        uploaded in parts. Without a checksum, the object must still have the version of the
        listing.
        """
        version = self.listing.versions[piece.position].decode()
        digest = digest_like(version, content)
        if digest == version:
            self.has_checksums = True
            return None
        is_doubtful = version.startswith(TAG) and self.has_checksums is not True
        if digest is not None and not is_doubtful:
            return f"its content does not match its checksum {version}"
        if digest is not None and self.has_checksums is None:
            repeated = self.doubtful.get(piece.position) == digest
            self.doubtful[piece.position] = digest
            if not repeated:
                return f"its content does not match its checksum {version}"
            self.has_checksums = False  # the same content twice: the ETag is no checksum
        now = self.version_now(piece)
        return None if now == version else f"its version was {version} and is {now}"

    def version_now(self, piece: Piece) -> str:
        """Return the present version of an object, or why it is unknown."""
        system = self.system()
        system.invalidate_cache()
        try:
            return version_of(system.info(f"{self.path}/{self.name(piece)}")).decode()
        except Exception as error:
            return describe(error)


def version_of(entry: dict[str, Any]) -> bytes:
    """Return a checksum from fsspec's entry of an object, or else a value that changes with it."""
    if lfs := entry.get("lfs"):  # Hugging Face, large files
        return f"sha256:{lfs['sha256']}".encode()
    if blob := entry.get("blob_id"):
        return f"git:{blob}".encode()
    if md5 := entry.get("md5Hash"):  # Google Cloud Storage
        return f"md5:{base64.b64decode(md5).hex()}".encode()
    tag = str(entry.get("ETag") or entry.get("etag") or "").strip('"')
    if MD5.fullmatch(tag):
        return f"{TAG}{tag}".encode()
    changed = next((entry[key] for key in CHANGED if entry.get(key)), "")
    return (tag or str(changed)).encode()


def digest_like(version: str, content: bytes) -> str | None:
    """Return the checksum of a content, of the kind that a version is; None if it is of none."""
    kind = version.partition(":")[0]
    if kind in ("etag", "md5"):
        return f"{kind}:{hashlib.md5(content, usedforsecurity=False).hexdigest()}"
    if kind == "sha256":
        return f"sha256:{hashlib.sha256(content).hexdigest()}"
    if kind == "git":  # https://git-scm.com/book/en/v2/Git-Internals-Git-Objects
        blob = b"blob %d\0" % len(content) + content
        return f"git:{hashlib.sha1(blob, usedforsecurity=False).hexdigest()}"
    return None


def is_final(result: Any) -> bool:
    """Return whether a reading need not be repeated."""
    return isinstance(result, FileNotFoundError | PermissionError)


def describe(error: BaseException) -> str:
    """Return the first line of an error with its class, which often says more than the text."""
    return f"{type(error).__name__}: {first_line(error)}"


def attempts() -> Iterator[bool]:
    """Yield whether an attempt is the last one, for a minute, with growing pauses between them."""
    end, pause = time.monotonic() + PATIENCE, FIRST_PAUSE
    while True:
        yield time.monotonic() >= end
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
