"""The table at the end of `action=predict`."""

import os
from pathlib import Path

from parcnet_train.report.console.predictions import print_predictions, shown


def test_every_image_has_a_row_and_the_rest_are_counted(capsys):
    print_predictions([(Path("a [b].png"), "cat 0.900")], 1234, "2 of 3 images")
    title, *lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.split("│")[1:3]] for line in lines if line[:1] == "│"]
    assert title.strip() == "2 of 3 images"
    assert rows == [["a [b].png", "cat 0.900"], ["and 1,234 more", ""]]


def test_names_of_any_bytes_can_be_shown():
    assert shown(Path(os.fsdecode(b"\xff.png"))) == "\ufffd.png"
