"""The page of a run: what it says, and that it needs no other file."""

import json
import logging
import re
import shutil
from html.parser import HTMLParser

import pytest
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from parcnet_train.pages import run as pages
from parcnet_train.pages.classification import Collector
from parcnet_train.pages.figures import bars
from parcnet_train.pages.parts import Block, Drawing, save
from parcnet_train.pages.quality import Kind, Quality
from parcnet_train.pages.run import (
    MOST_WARNINGS,
    command_of,
    facts,
    metrics_of,
    publish,
    verdict,
    warnings_of,
    write_page,
)
from run_folders import provenance_of, results_of, write_run
from running import composed

DRAWING = Drawing("bars", bars("F1", ["a"], {"F1": [1.0]}), "Bars.")


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


def test_more_warnings_are_counted(tmp_path):
    write_run(tmp_path / "run", results_of(7, 0, 0.5))
    lines = [f"2026-01-01 10:00:00,123 WARNING number {n}.\n" for n in range(MOST_WARNINGS + 2)]
    (tmp_path / "run" / "parcnet_train.log").write_text("".join(lines))
    write_page(tmp_path / "run")
    text = (tmp_path / "run" / "report.html").read_text()
    assert "<summary>The first 30 of 32 different warnings in the log</summary>" in text
    assert text.count("<li>number ") == MOST_WARNINGS


ADOPTED = ["task=detection", "backbone=parcnet_xs", "data=demo", "ckpt='/runs/a/best.ckpt'"]
TEST = {"action": "test", "ckpt": "/runs/a/best.ckpt"}


@pytest.mark.parametrize(
    ("config", "overrides", "typed", "expected"),
    [
        (
            {"action": "fit"},
            ["seed=1", "data.root='a b'"],
            [],
            "seed=1 'data.root='\"'\"'a b'\"'\"''",
        ),
        ({"action": "fit"}, ["seed=1", "ckpt=runs/a"], ["seed=1"], "seed=1"),
        (
            TEST,
            ["action=test", "ckpt=last", "+a.b=2", *ADOPTED],
            ["action=test", "ckpt=last", "+a.b=2", "hydra.run.dir=out"],
            "action=test ckpt=/runs/a/best.ckpt +a.b=2",
        ),
        (
            {**TEST, "ckpt": "/a b/x=1"},
            ["action=test", "ckpt='/a b/x=1'"],
            [],
            "action=test 'ckpt='\"'\"'/a b/x=1'\"'\"''",
        ),
    ],
    ids=["training", "resumed", "evaluation", "quoted"],
)
def test_command_repeats_the_run(config, overrides, typed, expected):
    command = command_of({"config": config, "overrides": overrides}, {"overrides": typed})
    assert command == f"python -m parcnet_train {expected}"


def test_verdict_names_set_and_epoch():
    results = {"monitor": "val/map", "val/map": 0.1234, "split": "test", "checkpoint_epoch": 7}
    assert verdict(results) == "map 12.34 % on the test set (checkpoint of epoch 7)"
    own = {"monitor": "val/loss", "val/loss": 0.1234, "checkpoint_epoch": 7}
    assert verdict(own) == "loss 0.1234 on the validation set (checkpoint of epoch 7)"


def test_metrics_are_in_percent_without_those_of_classes():
    results = {"val/map": 0.5, "val/map_small": 0.25, "val/ap/cat": 1.0, "val/loss": 0.123456}
    results |= {"val/mape": 12.5, "val/raw/top1": 0.75, "val/mar_100": 0.5}  # of a custom task
    assert list(metrics_of({**results, "val/mar_large": None})) == [
        ("map", "50.00 %"),
        ("map_small (area below 32² pixels)", "25.00 %"),
        ("loss", "0.1235"),
        ("mape", "12.5"),
        ("raw/top1", "75.00 %"),
        ("mar_100", "50.00 %"),
    ]


def test_facts_say_on_what_it_was_computed():
    hardware = {"cpu": "a chip", "cores": 2, "gpus": ["an H200"]}
    provenance = {"hardware": hardware, "sessions": [{"world_size": 2}]}
    known = dict(facts(results_of(7, 0, 0.5), provenance, {}))
    assert known["Device"] == "an H200; 2 processes"


def test_time_of_a_resumed_training_is_that_of_its_last_session():
    results = results_of(7, 0, 0.5, seconds=75)
    provenance = provenance_of(0)
    assert dict(facts(results, provenance, {}))["Time"] == "0:01:15"
    provenance["sessions"] *= 2
    known = dict(facts(results, provenance, {}))
    assert known["Time of the last session"] == "0:01:15"
    assert "Time" not in known


def fails(*_):
    return 1 / 0


def test_parts_that_fail_are_left_out_with_a_warning(tmp_path, caplog, monkeypatch):
    folder = write_run(tmp_path / "run", results_of(7, 0, 0.5), curve=(0.25, 0.5))
    config = composed()
    config["paths"]["output"] = str(folder)
    monkeypatch.setattr(pages, "build_model", fails)
    monkeypatch.setattr(pages, "curve_blocks", fails)
    shown = [Block("Seen", "A text.")]
    quality = Quality(Kind(Collector, lambda *_: None, fails, lambda *_: shown))
    data = type("Data", (), {"class_names": ["a"]})
    with caplog.at_level(logging.WARNING):
        publish(config, type("Task", (), {"pictures": 1}), data, quality)
    page = folder / "report.html"
    lost = ["the multiply-adds are", "the section Quality is", "the section Data is"]
    lost.append("the section Curves is")
    assert [each.rpartition(": ")[0] for each in caplog.messages] == [
        f"{page}: {each} left out" for each in lost
    ]
    assert ">Examples</h2>" in page.read_text()
    monkeypatch.setattr(pages, "verdict", fails)
    publish(config, None, data, None)
    assert caplog.messages[-1] == f"{page}: it is not written: division by zero"


@pytest.fixture
def with_picture(tmp_path, monkeypatch):
    """A function that publishes a run with a picture to a logger."""
    folder = write_run(tmp_path / "run", results_of(7, 0, 0.5))
    save(folder, "quality", "Quality", [Block("Bars", drawings=[DRAWING])])
    config = composed()
    config["paths"]["output"] = str(folder)
    monkeypatch.setattr(pages, "build_model", fails)  # the multiply-adds take a second
    data = type("Data", (), {"class_names": ["a"]})
    return lambda logger: publish(config, None, data, None, [logger])


def test_pictures_reach_tensorboard_after_the_training(with_picture, tmp_path):
    logger = TensorBoardLogger(tmp_path / "logs")
    logger.log_metrics({"loss": 1.0}, 0)
    logger.finalize("success")  # as Lightning does
    with_picture(logger)
    events = EventAccumulator(logger.log_dir, {"images": 0}).Reload()
    assert events.Tags()["images"] == ["report/bars"]


def test_pictures_are_read_only_for_loggers_that_take_them(with_picture, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(pages, "read_image", lambda *given: read.append(given))
    with_picture(CSVLogger(tmp_path))
    assert read == []


@pytest.mark.parametrize("name", ["report.json", "results.json"])
def test_stored_values_are_json(trained, name):
    assert json.loads((trained[0] / name).read_text())
