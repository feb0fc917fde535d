"""Tables of classes."""

import pytest

from parcnet_train.errors import ConfigError, DataError
from preparing import picture, read, text


def pictures(root, *names):
    for number, name in enumerate(names):
        picture(root / name, number)


def test_columns_are_found_by_their_names(tmp_path):
    pictures(tmp_path, "images/a.jpg", "images/b.jpg", "images/c.png")
    text(
        tmp_path / "labels.csv", "Label,Filename,split\ncat,a.jpg,train\ndog,b.jpg,valid\ncat,c,\n"
    )
    found = read("csv", tmp_path)
    assert found.classes == ["cat", "dog"]
    assert [(image.name, image.label, image.split) for image in found.images] == [
        ("images/a.jpg", "cat", "train"),
        ("images/b.jpg", "dog", "val"),
        ("images/c.png", "cat", None),  # named without its suffix
    ]


def test_columns_can_be_given(tmp_path):
    pictures(tmp_path, "a.jpg")
    text(tmp_path / "train.csv", "x;y;z\na.jpg;one;two\n")
    with pytest.raises(ConfigError, match=r"prepare\.columns\.image has no value.*x, y, z"):
        read("csv", tmp_path)
    with pytest.raises(ConfigError, match=r"prepare\.columns\.label=q: .* x, y, z"):
        read("csv", tmp_path, image_column="x", label_column="q")
    with pytest.raises(ConfigError, match=r"prepare\.columns\.label has no value"):
        read("csv", tmp_path, image_column="x")
    found = read("csv", tmp_path, image_column="x", label_column="z")
    assert found.images[0].label == "two"


def test_roboflow_has_a_column_per_class_and_a_table_per_set(tmp_path):
    for folder, row in (("train", "a.jpg, 1, 0"), ("valid", "b.jpg, 0, 1")):
        pictures(tmp_path / folder, row[:5])
        text(tmp_path / folder / "_classes.csv", f"filename, cat, dog\n{row}\n")
    found = read("csv", tmp_path)
    assert found.classes == ["cat", "dog"]
    assert [(image.label, image.split) for image in found.images] == [
        ("cat", "train"),
        ("dog", "val"),
    ]


def test_faulty_rows_are_counted(tmp_path):
    pictures(tmp_path, "a.jpg")
    text(tmp_path / "t.csv", "filename,cat,dog\na.jpg,1,1\na.jpg,0,0\nb.jpg,1,0\n")
    with pytest.raises(DataError) as caught:
        read("csv", tmp_path)
    assert "rows without exactly one class: 2 (first: t.csv:2, t.csv:3)" in str(caught.value)
    assert "rows whose image does not exist: 1 (first: t.csv:4: b.jpg)" in str(caught.value)


def test_faulty_tables_are_refused(tmp_path):
    with pytest.raises(DataError, match="it contains no CSV file"):
        read("csv", tmp_path)
    table = text(tmp_path / "a.csv", "filename,label\na.jpg\n")
    with pytest.raises(DataError, match=r"a\.csv:2 has another number of columns"):
        read("csv", table)
    with pytest.raises(DataError, match=r"has no rows"):
        read("csv", text(tmp_path / "a.csv", "filename,label\n"))
    text(tmp_path / "b.csv", "filename,label\n")
    with pytest.raises(DataError, match=r"it contains a\.csv, b\.csv; expected one table"):
        read("csv", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "filename,label\na.jpg," + "x" * 200_000 + "\n",
            r"labels\.csv:2 is not CSV \(field larger",
        ),
        ("filename,label,label\na.jpg,cat,dog\n", "has the column 'label' twice"),
    ],
    ids=["long field", "repeated column"],
)
def test_damaged_tables_are_refused(tmp_path, content, message):
    pictures(tmp_path, "a.jpg")
    text(tmp_path / "labels.csv", content)
    with pytest.raises(DataError, match=message):
        read("csv", tmp_path)
