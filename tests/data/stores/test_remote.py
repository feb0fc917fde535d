import fsspec
import pytest

from class_folders import make_data
from packing import count_requests, put, stored
from parcnet_train.data.decoding import read_image
from parcnet_train.data.stores import remote
from parcnet_train.data.stores.remote import RemoteStore, digest_like, version_of
from parcnet_train.data.stores.roots import open_root
from parcnet_train.data.stores.store import StoreError
from parcnet_train.errors import DataError

NAME = "train/ant/0.png"
CONTENT = b"the content of a file"


@pytest.fixture
def root(image_folder, monkeypatch, tmp_path_factory):
    return stored(image_folder, "faults", monkeypatch, tmp_path_factory.mktemp("cache"), 0.0)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(remote, "PATIENCE", 0.0)


def faulty(monkeypatch, *results):
    """Let the first readings of an object end like this, and the others as they should."""
    attempt, waiting = RemoteStore.attempt, list(results)

    def once(self, pieces):
        found = attempt(self, pieces)
        return [waiting.pop(0)(each) if waiting else each for each in found]

    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(RemoteStore, "attempt", once)


def error(content):
    return ConnectionError("the connection was reset")


def half(content):
    return content[: len(content) // 2]


def test_faults_of_the_network_are_repeated(root, image_folder, monkeypatch):
    faulty(monkeypatch, error, half, error, half)
    assert (root / NAME).read_bytes() == (image_folder / NAME).read_bytes()


@pytest.mark.parametrize(
    ("fault", "said"), [(error, "ConnectionError: the connection"), (half, "bytes arrived")]
)
def test_lasting_fault_is_one_line_that_names_the_object(root, monkeypatch, impatient, fault, said):
    monkeypatch.setattr(RemoteStore, "attempt", lambda self, pieces: [fault(b"12345678")])
    with pytest.raises(
        StoreError, match=rf"^memory://faults/{NAME} cannot be read .*{said}"
    ) as seen:
        (root / NAME).read_bytes()
    assert "\n" not in str(seen.value)


def test_object_that_vanishes_is_refused_at_once(root, monkeypatch):
    assert (root / NAME).is_file()
    fsspec.filesystem("memory").rm(f"/faults/{NAME}")
    monkeypatch.setattr(remote.time, "sleep", lambda seconds: pytest.fail("it waits"))
    with pytest.raises(StoreError, match=r"cannot be read .FileNotFoundError"):
        (root / NAME).read_bytes()


def test_object_with_other_content_of_the_same_size_is_refused(root, monkeypatch, impatient):
    monkeypatch.setattr(remote, "version_of", lambda entry: b"first")
    (root / NAME).read_bytes()
    monkeypatch.setattr(remote, "version_of", lambda entry: b"second")
    with pytest.raises(StoreError, match=r"its version was .* and is "):
        (root / NAME).read_bytes()


def test_object_that_does_not_exist_is_an_unreadable_image(root):
    with pytest.raises(DataError, match=r"^memory://faults/train/ant/no\.png cannot be read as an"):
        read_image(root / "train/ant/no.png")


def test_faults_of_the_network_are_not_skipped_as_unreadable_images(
    image_folder, monkeypatch, impatient
):
    url = put(image_folder, "skipped", monkeypatch)
    data = make_data(url, on_error="skip", cache_gb=0.0)
    data.setup("fit")
    monkeypatch.setattr(RemoteStore, "attempt", lambda self, pieces: [error(b"") for _ in pieces])
    with pytest.raises(StoreError, match="cannot be read"):
        list(data.train_dataloader())


def test_files_of_a_batch_are_fetched_at_once(image_folder, monkeypatch):
    url = put(image_folder, "batches", monkeypatch)
    data = make_data(url, batch_size=4, cache_gb=0.0)
    data.setup("fit")
    sizes = count_requests(monkeypatch)
    list(data.train_dataloader())
    assert sizes == [4, 4, 4]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://host/folder", r"^data\.root=ftp://host/folder: ftp:// is not supported; expected"),
        ("s3://", r"^data\.root=s3://: it names no bucket; expected s3://BUCKET/FOLDER"),
        ("file://other/folder", r"^data\.root=file://other/folder: expected file:///ABSOLUTE"),
    ],
)
def test_addresses_that_cannot_be_read_are_refused(url, said, tmp_path):
    with pytest.raises(DataError, match=said):
        open_root(url, str(tmp_path), 1.0)


def test_file_address_is_a_folder(image_folder, tmp_path):
    odd = image_folder / "a b%"
    odd.mkdir()
    assert open_root(odd.as_uri(), str(tmp_path), 1.0) == odd


def test_empty_and_missing_buckets_are_refused(image_folder, monkeypatch, tmp_path, impatient):
    put(image_folder, "full", monkeypatch)
    with pytest.raises(StoreError, match=r"^data\.root=memory://no: memory://no cannot be listed"):
        open_root("memory://no", str(tmp_path), 1.0).is_dir()


def test_reading_without_a_fault_never_waits(root, image_folder, monkeypatch):
    monkeypatch.setattr(remote.time, "sleep", lambda seconds: pytest.fail("it waits"))
    assert (root / NAME).read_bytes() == (image_folder / NAME).read_bytes()


def test_missing_package_is_reported(monkeypatch, tmp_path):
    monkeypatch.setitem(remote.PACKAGES, "s3", ("no_such_package", "s3"))
    root = open_root("s3://bucket", str(tmp_path), 1.0)
    with pytest.raises(StoreError, match=r"pip install 'parcnet-train\[s3\]'"):
        root.is_dir()


# The checksums are those of md5sum, sha256sum and git hash-object.
@pytest.mark.parametrize(
    ("entry", "version"),
    [
        ({"ETag": '"86edd6ac4eb6ddbf075bfb6960c76dea"'}, "etag:86edd6ac4eb6ddbf075bfb6960c76dea"),
        (
            {"md5Hash": "hu3WrE623b8HW/tpYMdt6g==", "etag": "x"},
            "md5:86edd6ac4eb6ddbf075bfb6960c76dea",
        ),
        ({"ETag": '"86edd6ac4eb6ddbf075bfb6960c76dea-2"'}, "86edd6ac4eb6ddbf075bfb6960c76dea-2"),
        ({"blob_id": "0123", "lfs": None}, "git:0123"),
        ({"blob_id": "0123", "lfs": {"sha256": "4567"}}, "sha256:4567"),
        ({"LastModified": "2026-11-30"}, "2026-11-30"),
        ({}, ""),
    ],
)
def test_versions_of_entries(entry, version):
    assert version_of(entry).decode() == version


@pytest.mark.parametrize(
    "version",
    [
        "etag:86edd6ac4eb6ddbf075bfb6960c76dea",
        "md5:86edd6ac4eb6ddbf075bfb6960c76dea",
        "sha256:54f51b6731478815b9635a612ff24ac05d50ad3064761cab0cec3930079b7722",
        "git:449c1b6c11575cace5c9ba2e405cdc6b3977f942",
    ],
)
def test_checksums_are_those_of_other_tools(version):
    assert digest_like(version, CONTENT) == version
    assert digest_like(version, CONTENT + b"!") != version


@pytest.mark.parametrize("is_flaky", [False, True])
def test_tag_that_is_no_checksum_is_accepted_if_it_does_not_change(
    root, image_folder, monkeypatch, is_flaky
):
    """As of objects that S3 encrypts with a key of the user; their tags look like checksums."""
    tag = b"etag:" + b"0" * 32
    monkeypatch.setattr(remote, "version_of", lambda entry: tag)
    if is_flaky:  # the damaged content comes only once
        faulty(monkeypatch, lambda content: bytes(len(content)))
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.0)
    for name in (NAME, "train/bee/0.png"):
        assert (root / name).read_bytes() == (image_folder / name).read_bytes()


@pytest.mark.parametrize("kind", ["md5", "sha256", "git"])
def test_content_that_never_matches_its_checksum_is_refused(root, monkeypatch, kind):
    """Unlike the tags of S3, checksums of Google Cloud Storage and Hugging Face are certain."""
    monkeypatch.setattr(remote, "version_of", lambda entry: f"{kind}:{'0' * 32}".encode())
    monkeypatch.setattr(remote, "PATIENCE", 0.0)
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.0)
    with pytest.raises(StoreError, match=f"does not match its checksum {kind}:000"):
        (root / NAME).read_bytes()


@pytest.mark.parametrize("kind", ["etag", "md5"])
def test_content_that_does_not_match_its_checksum_is_read_again(
    root, image_folder, monkeypatch, kind
):
    listing = fsspec.filesystem("memory").ls

    def with_content(folder, detail):
        return [
            {**e, "content": (image_folder / e["name"].removeprefix("/faults/")).read_bytes()}
            if e["type"] == "file"
            else e
            for e in listing(folder, detail)
        ]

    monkeypatch.setattr(fsspec.filesystem("memory"), "ls", with_content)
    monkeypatch.setattr(
        remote,
        "version_of",
        lambda entry: (
            digest_like(f"{kind}:", entry["content"]).encode() if "content" in entry else b""
        ),
    )
    changed = lambda content: content[:-1] + bytes([content[-1] ^ 1])  # noqa: E731
    faulty(monkeypatch, changed, changed)
    assert (root / NAME).read_bytes() == (image_folder / NAME).read_bytes()
