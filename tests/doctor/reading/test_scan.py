"""The pass over all files, in processes and with a cache."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from doctor_trees import photo, save
from parcnet_train.doctor.reading import scan as scanning
from parcnet_train.doctor.reading.facts import Facts, facts_of_file
from parcnet_train.doctor.reading.scan import FactsTable, Pace, cache_file, scan


@pytest.fixture
def files(tmp_path):
    return [save(tmp_path / f"{n}.png", photo(n, (12, 16))) for n in range(9)]


def test_killed_pass_resumes(files, tmp_path):
    cache, pace = cache_file(tmp_path, "root"), Pace()
    begun = scan(files[:4], facts_of_file, cache, "images", pace)
    assert len(list(begun)) == 4
    with cache.open("a") as file:
        file.write('["cut off in the mid')
    pace = Pace()
    found = dict(scan(files, facts_of_file, cache, "images", pace))
    assert (pace.files, pace.known) == (9, 4)
    assert {place: Facts(*values) for place, values in found.items()} == {
        place: facts_of_file(path) for place, path in enumerate(files)
    }
    pace = Pace()
    assert len(dict(scan(files, facts_of_file, cache, "images", pace))) == 9
    assert pace.known == 9


@pytest.mark.parametrize(
    "line",
    [
        b"5",
        b"[[], [1, 2], [3]]",
        b'["a", null, [3]]',
        b"[" * 100_000,
        pickle.dumps(Path("/"), protocol=0),
        b"\xff\x00",
    ],
)
def test_a_cache_of_other_lines_is_read_again(files, tmp_path, line):
    cache = cache_file(tmp_path, "root")
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_bytes(line + b"\n")
    pace = Pace()
    assert len(dict(scan(files, facts_of_file, cache, "images", pace))) == 9
    assert pace.known == 0


def test_changed_file_is_read_again(files, tmp_path):
    cache = cache_file(tmp_path, "root")
    list(scan(files, facts_of_file, cache, "images", Pace()))
    save(files[0], photo(50, (20, 16)))
    pace = Pace()
    found = dict(scan(files, facts_of_file, cache, "images", pace))
    assert pace.known == 8
    assert Facts(*found[0]).height == 20


def test_file_that_could_not_be_opened_is_read_again(files, tmp_path):
    cache = cache_file(tmp_path, "root")

    def refuse_first(path):
        return Facts("missing", "Permission denied") if path == files[0] else facts_of_file(path)

    list(scan(files, refuse_first, cache, "images", Pace()))
    pace = Pace()
    found = dict(scan(files, facts_of_file, cache, "images", pace))
    assert pace.known == 8
    assert Facts(*found[0]) == facts_of_file(files[0])


def test_cache_depends_on_its_settings(tmp_path):
    assert cache_file(tmp_path, "a", 1) != cache_file(tmp_path, "a", 2)


def test_cache_that_cannot_be_written_is_left_out(files, tmp_path):
    (tmp_path / "check").write_text("no folder")
    found = scan(files, facts_of_file, cache_file(tmp_path, "root"), "images", Pace())
    assert len(dict(found)) == 9


def test_processes_find_the_same(files, monkeypatch):
    monkeypatch.setattr(scanning, "FEW", 2)
    monkeypatch.setattr(scanning, "CHUNK", 2)
    monkeypatch.setattr(scanning, "own_cores", lambda: 1)
    found = dict(scan(files, facts_of_file, None, "images", Pace()))
    assert found == {place: facts_of_file(path) for place, path in enumerate(files)}


def test_table_keeps_facts_in_columns():
    table = FactsTable(3)
    table.put(0, Facts("empty", "no content"))
    table.put(2, Facts(kind="PNG", mode="RGBA", height=3, width=4, hash=2**64 - 1, digest=7))
    assert table.has("empty").tolist() == [True, False, False]
    assert table.reasons == {0: "no content"}
    assert table.word("mode", 2) == "RGBA"
    assert table["hash"][2] == np.uint64(2**64 - 1)
    assert table.is_measured().tolist() == [False, False, True]
