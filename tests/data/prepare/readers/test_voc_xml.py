"""Pascal VOC's XML files of labelImg, VOC, Roboflow and CVAT."""

import pytest

from parcnet_train.data.prepare.readers.voc_xml import read_voc_xml
from parcnet_train.errors import DataError
from preparing import picture, read, text

LABELIMG = """<annotation verified="yes">
\t<folder>photos</folder>
\t<filename>{name}</filename>
\t<path>C:\\photos\\{name}</path>
\t<source>
\t\t<database>Unknown</database>
\t</source>
\t<size>
\t\t<width>64</width>
\t\t<height>48</height>
\t\t<depth>3</depth>
\t</size>
\t<segmented>0</segmented>
{objects}</annotation>
"""
OBJECT = """\t<object>
\t\t<name>{name}</name>
\t\t<pose>Unspecified</pose>
\t\t<truncated>0</truncated>
\t\t<difficult>{difficult}</difficult>
\t\t<bndbox>
\t\t\t<xmin>{box[0]}</xmin>
\t\t\t<ymin>{box[1]}</ymin>
\t\t\t<xmax>{box[2]}</xmax>
\t\t\t<ymax>{box[3]}</ymax>
\t\t</bndbox>{more}
\t</object>
"""


def thing(name, box, difficult=0, more=""):
    return OBJECT.format(name=name, box=box, difficult=difficult, more=more)


def annotated(root, stem, *objects, folder="Annotations", images="JPEGImages"):
    picture(root / images / f"{stem}.jpg", hash(stem) % 1000)
    content = LABELIMG.format(name=f"{stem}.jpg", objects="".join(objects))
    return text(root / folder / f"{stem}.xml", content)


def test_boxes_count_pixels_from_1_and_include_the_last(tmp_path):
    annotated(tmp_path, "a", thing("dog", (1, 1, 64, 48)), thing("cat", (11, 6, 20, 10), 1))
    found = read("voc_xml", tmp_path)
    assert found.classes == ["cat", "dog"]
    (image,) = found.images
    assert (image.name, image.size, image.split) == ("JPEGImages/a.jpg", (48, 64), None)
    assert [each.box for each in image.objects] == [(0, 0, 64, 48), (10, 5, 20, 10)]
    assert [each.is_crowd for each in image.objects] == [False, True]


def test_edges_of_0_mean_that_a_tool_counts_from_0(tmp_path):
    annotated(tmp_path, "a", thing("dog", (0, 3.5, 10.25, 20)))
    annotated(tmp_path, "b", thing("dog", (5, 5, 10, 10)))
    boxes = [image.objects[0].box for image in read("voc_xml", tmp_path).images]
    assert boxes == [(0, 3.5, 10.25, 20), (5, 5, 10, 10)]


def test_parts_of_objects_are_no_objects(tmp_path):
    part = (
        "<part><name>head</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax>"
        "</bndbox></part>"
    )
    annotated(tmp_path, "a", thing("person", (2, 2, 30, 40), more=part))
    found = read("voc_xml", tmp_path)
    assert found.classes == ["person"]
    assert len(found.images[0].objects) == 1


def test_missing_and_zero_sizes_are_no_sizes(tmp_path):
    for stem, size in (("a", ""), ("b", "<size><width>0</width><height>0</height></size>")):
        picture(tmp_path / f"{stem}.png")
        text(tmp_path / f"{stem}.xml", f"<annotation>{size}</annotation>")
    assert [image.size for image in read("voc_xml", tmp_path).images] == [None, None]


def test_lists_name_the_sets(tmp_path):
    for stem in "abcd":
        annotated(tmp_path, stem, thing("dog", (2, 2, 9, 9)))
    lists = tmp_path / "ImageSets" / "Main"
    text(lists / "trainval.txt", "a\nb\nc\n")
    text(lists / "train.txt", "a\n")
    text(lists / "val.txt", "b\n")
    text(lists / "test.txt", "d\n")
    text(lists / "dog_train.txt", "a  1\nb -1\n")  # of one class
    found = {image.name[-5]: image.split for image in read("voc_xml", tmp_path).images}
    assert found == {"a": "train", "b": "val", "c": None, "d": "test"}


def test_roboflow_has_a_folder_per_set_and_polygons(tmp_path):
    polygon = "<polygon><x1>1</x1><y1>2</y1><x2>9</x2><y2>2</y2><x3>9</x3><y3>8</y3></polygon>"
    for folder in ("train", "valid", "test"):
        more = polygon if folder == "train" else ""
        annotated(
            tmp_path, f"{folder}_jpg.rf.0a1b", thing("dog", (1, 2, 9, 8), more=more),
            folder=folder, images=folder,
        )  # fmt: skip
    found = read("voc_xml", tmp_path).images
    assert [image.split for image in found] == ["test", "train", "val"]
    assert found[1].objects[0].polygons == ((1, 2, 9, 2, 9, 8),)


def test_renamed_copies_keep_their_own_image(tmp_path):
    annotated(tmp_path, "a", thing("dog", (2, 2, 9, 9)))
    content = annotated(tmp_path, "b", thing("dog", (2, 2, 9, 9))).read_text()
    (tmp_path / "Annotations" / "b.xml").write_text(content.replace("b.jpg", "a.jpg"))
    names = [image.name for image in read("voc_xml", tmp_path).images]
    assert names == ["JPEGImages/a.jpg", "JPEGImages/b.jpg"]


FAULTS = {
    "objects without a name": thing("", (2, 2, 9, 9)),
    "objects without a box of four numbers": thing("dog", ("", 2, 9, 9)),
    "right or bottom edge comes before": thing("dog", (30, 2, 9, 9)),
}


@pytest.mark.parametrize("problem", FAULTS)
def test_faults_of_one_kind_are_one_line(tmp_path, problem):
    for stem in "abcde":
        annotated(tmp_path, stem, thing("cat", (2, 2, 9, 9)), FAULTS[problem])
    with pytest.raises(DataError) as caught:
        read("voc_xml", tmp_path)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"prepare.input={tmp_path}: ")
    assert problem in line
    assert ": 5 (first: Annotations/a.xml, object 2, " in line
    assert "expected" in line


def test_missing_images_and_broken_files_are_named(tmp_path):
    annotated(tmp_path, "a", thing("cat", (2, 2, 9, 9)))
    (tmp_path / "JPEGImages" / "a.jpg").unlink()
    text(tmp_path / "b.xml", "<annotation>")
    text(tmp_path / "c.xml", '<!DOCTYPE x [<!ENTITY a "b">]><annotation/>')
    text(tmp_path / "d.xml", "<other/>")
    with pytest.raises(DataError) as caught:
        read("voc_xml", tmp_path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert "annotation files without their image: 1 (first: Annotations/a.xml)" in str(lines)
    assert "files that are not XML: 1 (first: b.xml" in str(lines)
    assert "XML files with a document type: 1 (first: c.xml)" in str(lines)


def test_folder_without_annotations_is_refused(tmp_path):
    picture(tmp_path / "a.jpg")
    with pytest.raises(DataError, match="contains no XML file of VOC; expected"):
        read("voc_xml", tmp_path)


def test_reader_is_in_the_table(tmp_path):
    annotated(tmp_path, "a", thing("cat", (2, 2, 9, 9)))
    from parcnet_train.data.prepare.faults import Faults

    assert read_voc_xml(tmp_path, Faults("")) == read("voc_xml", tmp_path)


def test_images_without_annotations_are_reported(tmp_path, caplog):
    annotated(tmp_path, "a", thing("cat", (2, 2, 9, 9)))
    picture(tmp_path / "JPEGImages" / "b.jpg")
    assert len(read("voc_xml", tmp_path).images) == 1
    assert "1 of 2 images have no annotation file and are left out (first: JPEGImages/b.jpg)" in (
        caplog.text
    )


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e400"])
def test_edges_that_are_not_finite_are_refused(tmp_path, value):
    annotated(tmp_path, "a", thing("cat", (1, 2, value, 4)))
    with pytest.raises(DataError, match=r"without a box of four numbers: 1 \(first: .*a\.xml"):
        read("voc_xml", tmp_path)


@pytest.mark.parametrize("value", ["inf", "nan", "1e400"])
def test_sizes_and_polygons_that_are_not_finite_are_ignored(tmp_path, value):
    more = f"<polygon><x1>1</x1><y1>1</y1><x2>{value}</x2><y2>1</y2><x3>9</x3><y3>9</y3></polygon>"
    file = annotated(tmp_path, "a", thing("cat", (1, 2, 3, 4), more=more))
    file.write_text(file.read_text().replace("<width>64", f"<width>{value}"))
    (image,) = read("voc_xml", tmp_path).images
    assert image.size is None
    assert image.objects[0].polygons == ()
