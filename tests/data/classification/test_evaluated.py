"""Which classes of a network the class folders of an evaluated set are."""

import pytest

from class_folders import make_data
from faults import is_like
from parcnet_train.data.classification.evaluated import evaluated_labels
from parcnet_train.errors import DataError

NETWORK = ["tench", "goldfish", "white shark", "ray", "hen"]


def folders(root, *names):
    for name in names:
        (root / name).mkdir(parents=True)
    return root


def test_folders_with_names_of_classes_are_these_classes(tmp_path):
    folders(tmp_path, "ray", "goldfish")
    assert evaluated_labels("folders", NETWORK, tmp_path) == {"goldfish": 1, "ray": 3}


def test_folders_with_numbers_are_classes_in_the_order_of_the_network(tmp_path):
    names = [f"n{index:08}" for index in range(1000)]
    numbers = range(1000)
    folders(tmp_path, *map(str, numbers))  # ImageNet-V2, whose folders sort as 0, 1, 10, 100, ...
    found = evaluated_labels("folders", names, tmp_path)
    assert found == {str(number): number for number in numbers}


def test_names_of_classes_come_before_their_numbers(tmp_path):
    folders(tmp_path, "2", "3")
    assert evaluated_labels("folders", ["1", "2", "3"], tmp_path) == {"2": 1, "3": 2}


def test_listed_classes_are_evaluated_and_other_folders_are_not(tmp_path):
    folders(tmp_path, *NETWORK)
    expected = {"tench": 0, "goldfish": None, "white shark": None, "ray": 3, "hen": None}
    assert evaluated_labels(["ray", "tench"], NETWORK, tmp_path) == expected


def test_lines_of_a_file_are_classes_or_folders_with_their_class(tmp_path):
    root = folders(tmp_path / "val", "hen", "haie", "Weißer Hai", "Rest")
    file = tmp_path / "classes.txt"
    text = "haie\twhite shark\r\n\nWeißer Hai \t white shark\nhen\n"
    file.write_text(text, encoding="utf-8-sig")
    expected = {"haie": 2, "Weißer Hai": 2, "hen": 4, "Rest": None}
    assert evaluated_labels(str(file), NETWORK, root) == expected


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (
            "folders",
            "task.evaluated_classes=folders: 2 of 4 class folders of … are no class of the "
            "network: 7, cow; expected names of its 5 classes (tench, goldfish, white shark, ...) "
            "or their numbers. Fix: task.evaluated_classes=FILE",
        ),
        (["hen", "cow", "dog"], "the network has no class cow, dog; expected names of its 5 cl"),
        (["hen", "tench", "goldfish"], "has no class folder tench, goldfish; expected one for … 3"),
        (["hen", "ray", "hen"], "the class folder hen is given twice"),
        (
            ["hen"],
            "only one class would be evaluated; expected two or more. Fix: list more classes",
        ),
        ([], "no class would be evaluated; expected two or more. Fix: list more classes"),
        (
            "fodlers",
            "task.evaluated_classes=fodlers: this file cannot be read (No such file … expected "
            "folders, a list of class names, or a text file with one class per line",
        ),
        ("{here}", "this file cannot be read (Is a directory)"),
        ("{here}/latin.txt", "this file cannot be read (it is not UTF-8 text)"),
    ],
)
def test_each_fault_is_one_line_that_names_it(tmp_path, wanted, message):
    root = folders(tmp_path / "val", "hen", "ray", "cow", "7")
    (tmp_path / "latin.txt").write_bytes("Bär".encode("latin-1"))
    if isinstance(wanted, str):
        wanted = wanted.format(here=tmp_path)
    with pytest.raises(DataError) as caught:
        evaluated_labels(wanted, NETWORK, root)
    assert is_like(str(caught.value), message)
    assert len(str(caught.value).splitlines()) == 1


def test_numbers_beyond_the_classes_are_refused(tmp_path):
    folders(tmp_path, "0", "5")
    with pytest.raises(DataError, match=r"1 of 2 class folders of .*: 5; expected"):
        evaluated_labels("folders", NETWORK, tmp_path)


def test_data_of_some_classes_have_the_labels_of_the_network(image_folder):
    names = ["ant", "ape", "bee", "cat"]
    data = make_data(image_folder, val_dir="val", num_classes=4)
    (image_folder / "val" / "ant").rename(image_folder / "val" / "monkey")
    (image_folder / "evaluated.txt").write_text("monkey\tape\ncat")
    data.evaluate_classes(str(image_folder / "evaluated.txt"), names)
    data.check_files("test")
    assert data.class_names == names
    assert data.evaluated_classes == [1, 3]
    dataset = data.make_val_set()
    expected = [("cat", 3)] * 2 + [("monkey", 1)] * 2
    folders_of = [path.decode().split("/")[0] for path in dataset.paths.tolist()]
    assert list(zip(folders_of, dataset.labels.tolist(), strict=True)) == expected
