"""The page of a run: what it says, and that it needs no other file."""

import json
import logging
import re
import shutil
from html.parser import HTMLParser

import pytest

from parcnet_train.pages import run as pages
from parcnet_train.pages.run import facts, metrics_of, publish, verdict, warnings_of, write_page
from run_folders import results_of, write_run
from running import composed


class Page(HTMLParser):
    """Pictures, ids and links of a page; fails if a tag is not closed."""

    VOID = ("meta", "img", "br", "link", "path", "use", "rect", "image")

    def __init__(self, text):
        super().__init__()
        self.pictures, self.ids, self.links, self.open = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        known = dict(attributes)
        if tag == "img":
            self.pictures.append(known["alt"])
            assert known["src"].startswith("data:image/jpeg;base64,")
        if known.get("role") == "img":
            self.pictures.append(known["aria-label"])
        if "id" in known:
            self.ids.append(known["id"])
        if "href" in known and known["href"] != "data:,":  # no icon
            self.links.append(known["href"])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_page_of_a_training_has_all_parts(trained):
    output, results = trained
    text = (output / "report.html").read_text()
    page = Page(text)
    assert f"top1 {100 * results['val/top1']:.2f} % on the validation set" in text
    for part in ("Curves", "Quality", "Examples", "First training batches, as fed", "Data"):
        assert f">{part}</h2>" in text
    assert f"{results['parameters']:,}" in text
    assert "python -m parcnet_train debug=tiny backbone=parcnet_xs" in text
    assert "Multiply-adds" in text
    assert len(page.pictures) > 10
    assert all(page.pictures)
    assert len(text) < 5e6


def test_page_needs_no_other_file_and_no_network(trained):
    text = (trained[0] / "report.html").read_text()
    page = Page(text)
    assert all(source.startswith("data:") for source in re.findall(r'src="([^"]*)', text))
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)", text))
    assert all(link.startswith("#") for link in page.links)
    assert "<script" not in text
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links} <= set(page.ids)


def test_a_page_can_be_made_again_from_the_run_directory(trained, tmp_path):
    again = tmp_path / "run"
    shutil.copytree(trained[0], again, ignore=shutil.ignore_patterns("checkpoints"))
    (again / "report.html").unlink()
    write_page(again)
    assert (again / "report.html").read_bytes() == (trained[0] / "report.html").read_bytes()


def test_an_old_run_gets_a_page_of_what_it_has(tmp_path):
    write_run(tmp_path / "old", results_of(7, 0, 0.5, seconds=3.2), curve=(0.25, 0.5))
    write_page(tmp_path / "old")
    text = (tmp_path / "old" / "report.html").read_text()
    assert "top1 50.00 % on the validation set" in text
    assert "78.63 % on ImageNet-1K (Table 2, row 7)" in text
    assert len(Page(text).pictures) == 1  # the metric
    assert "To repeat" not in text


def test_warnings_of_the_log_are_shown_once(tmp_path):
    stamp = "2026-01-01 10:00:00,123"
    file = tmp_path / "parcnet_train.log"
    file.write_text(f"{stamp} INFO fine\n{stamp} WARNING a <b>\n{stamp} WARNING a <b>\n")
    assert warnings_of(file) == ["a <b>"]
    assert warnings_of(tmp_path / "missing.log") == []


def test_verdict_names_set_and_epoch():
    results = {"monitor": "val/map", "val/map": 0.1234, "split": "test", "checkpoint_epoch": 7}
    assert verdict(results) == "map 12.34 % on the test set (checkpoint of epoch 7)"


def test_metrics_are_in_percent_without_those_of_classes():
    results = {"val/map": 0.5, "val/map_small": 0.25, "val/ap/cat": 1.0, "val/loss": 0.123456}
    assert list(metrics_of({**results, "val/mar_large": None})) == [
        ("map", "50.00 %"),
        ("map_small (area below 32² pixels)", "25.00 %"),
        ("loss", "0.1235"),
    ]


def test_facts_say_on_what_it_was_computed():
    hardware = {"cpu": "a chip", "cores": 2, "gpus": ["an H200"]}
    provenance = {"hardware": hardware, "sessions": [{"world_size": 2}]}
    known = dict(facts(results_of(7, 0, 0.5), provenance, {}))
    assert known["Device"] == "an H200; 2 processes"


def test_a_failure_is_one_warning(tmp_path, caplog, monkeypatch):
    config = composed()
    config["paths"]["output"] = str(tmp_path)
    monkeypatch.setattr(pages, "build_model", lambda *_: 1 / 0)
    with caplog.at_level(logging.WARNING):
        publish(config, None, type("Data", (), {"class_names": ["a"]}), None)
    assert caplog.messages == [f"{tmp_path / 'report.html'} is incomplete: division by zero"]


@pytest.mark.parametrize("name", ["report.json", "results.json"])
def test_stored_values_are_json(trained, name):
    assert json.loads((trained[0] / name).read_text())
