import pytest

from parcnet_train.data.demo.writing import write_once


def fill(root):
    (root / "file").write_text("ours")


def test_a_folder_is_written_once(tmp_path):
    root = tmp_path / "below" / "data"
    write_once(root, fill)
    (root / "file").write_text("changed")
    write_once(root, lambda _: pytest.fail("written again"))
    assert (root / "file").read_text() == "changed"
    assert root.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_what_fails_leaves_nothing(tmp_path, error):
    def fail(root):
        fill(root)
        raise error

    with pytest.raises(error):
        write_once(tmp_path / "data", fail)
    assert list(tmp_path.iterdir()) == []


def test_who_comes_second_respects_the_first(tmp_path):
    root = tmp_path / "data"

    def beaten(partial):
        fill(partial)
        root.mkdir()
        (root / "theirs").touch()

    write_once(root, beaten)
    assert list(tmp_path.rglob("*")) == [root, root / "theirs"]


def test_a_file_in_the_way_is_an_error(tmp_path):
    (tmp_path / "data").touch()
    with pytest.raises(OSError, match="Not a directory"):
        write_once(tmp_path / "data", fill)
    assert list(tmp_path.iterdir()) == [tmp_path / "data"]
