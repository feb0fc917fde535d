"""Sections of a page, stored in the run directory."""

from parcnet_train.pages.figures import bars
from parcnet_train.pages.parts import VALUES, Block, Drawing, Table, raster_files, save, save_values
from parcnet_train.runs.directories import read_values

JPEG = b"\xff\xd8 a photo"


def test_sections_are_stored_with_their_pictures(tmp_path):
    figure = Drawing("scores", bars("F1", ["cat"], {"F1": [1.0]}), "Bars: F1 per class.")
    photo = Drawing("best_1", JPEG, "A cat", "cat.jpg: cat")
    block = Block("Per class", "Words.", [figure, photo], Table(("class", "F1"), [["cat", "1"]]))
    save_values(tmp_path, {"multiply_adds": 7})
    save(tmp_path, "quality", "Quality", [block])
    save(tmp_path, "data", "Data", [])
    values = read_values(tmp_path / VALUES)
    assert values["multiply_adds"] == 7
    assert list(values["sections"]) == ["quality", "data"]
    (stored,) = values["sections"]["quality"]["blocks"]
    assert [each["file"] for each in stored["drawings"]] == ["scores.svg", "best_1.jpg"]
    assert stored["drawings"][1]["caption"] == "cat.jpg: cat"
    assert stored["table"]["rows"] == [["cat", "1"]]
    assert (tmp_path / "pictures" / "best_1.jpg").read_bytes() == JPEG
    names = [path.name for path in raster_files(tmp_path)]
    assert names == ["scores.png", "best_1.jpg"]
    assert all((tmp_path / "pictures" / name).is_file() for name in names)


def test_a_section_replaces_the_one_of_its_name(tmp_path):
    for title in ("Old", "New"):
        save(tmp_path, "quality", title, [])
    assert read_values(tmp_path / VALUES)["sections"]["quality"]["title"] == "New"
