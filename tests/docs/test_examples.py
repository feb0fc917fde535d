"""The examples of the documentation run as they stand on the pages."""

import ast
import importlib.util
import sys

import numpy as np
import pytest

import preparing
from documentation import DOCS, PAGES, ROOT, blocks, commands
from expected import expected_of, written_like
from parcnet_train.build import build_model, meta_device
from parcnet_train.data.prepare.convert import convert
from parcnet_train.models.profiling.counts import counts
from running import TINY, act, configure

WITH_FILES = (
    "extend/backbone",
    "extend/head",
    "extend/task",
    "extend/data",
    "concepts/composition",
)
SMALL = ("debug=tiny", "recipe.multi_scale=null", "data.num_workers=0")


def write_arrays(folder):
    """Write the files that the example of a data set reads."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for name, count in (("train", 16), ("val", 8)):
        images = random.integers(0, 256, (count, 40, 48, 3), np.uint8)
        np.savez(folder / f"{name}.npz", images=images, labels=np.arange(count) % 2)
    (folder / "classes.txt").write_text("cat dog\n")


@pytest.fixture(params=WITH_FILES)
def example(request, tmp_path, monkeypatch):
    """Page whose files are in the working folder, where their modules can be imported."""
    page = DOCS / f"{request.param}.md"
    for block in blocks(page):
        if block.title:
            preparing.text(tmp_path / block.title, block.text)
            monkeypatch.delitem(sys.modules, block.title.partition(".")[0], raising=False)
    write_arrays(tmp_path / "arrays")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return page


def train(command, tmp_path, output):
    """Train two steps by a command line of a page, with a small network unless it names one."""
    own = str(tmp_path / "conf") if "--config-dir=conf" in command.options else None
    overrides = [*command.overrides, *SMALL]
    if any(each.startswith("task=") for each in overrides):
        overrides.append("recipe.image_size=64")
    if not any(each.startswith("backbone=") for each in overrides):
        overrides += TINY
    values, faults = configure(overrides, output, own)
    assert faults == []
    results = act(values)
    assert (results["status"], results["steps"]) == ("done", 2)


def commands_with_files(page):
    """The trainings of a page that use its files."""
    found = [each for each in commands(page) if "--config-dir=conf" in each.options]
    return found or commands(page)


def test_first_command_of_an_example_trains(example, tmp_path):
    train(commands_with_files(example)[0], tmp_path, tmp_path / "run")


@pytest.mark.slow
def test_other_commands_of_an_example_train(example, tmp_path):
    for number, command in enumerate(commands_with_files(example)[1:]):
        train(command, tmp_path, tmp_path / f"run{number}")


def test_example_of_a_backbone_has_its_stated_size(tmp_path, monkeypatch):
    page = DOCS / "extend" / "backbone.md"
    for block in blocks(page):
        if block.title:
            preparing.text(tmp_path / block.title, block.text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_networks", raising=False)
    values, faults = configure(["action=profile", "backbone=plain"], None, str(tmp_path / "conf"))
    assert faults == []
    expected = expected_of(tmp_path / "conf" / "backbone" / "plain.yaml")
    with meta_device():
        model = build_model(values, 1000)
    assert sum(each.numel() for each in model.parameters()) == expected.parameters
    counted = counts(model, expected.size)
    assert written_like(counted.multiply_adds, expected.multiply_adds) == expected.multiply_adds


def test_example_of_a_format_reads_and_converts_a_set(tmp_path):
    (block,) = (each for each in blocks(DOCS / "extend" / "format.md") if each.title)
    file = preparing.text(tmp_path / "box_lines.py", block.text)
    spec = importlib.util.spec_from_file_location("box_lines", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    source = tmp_path / "source"
    lines = []
    for number in range(8):
        image, name, box = preparing.boxed(number)
        preparing.picture(source / f"{number}.png", image=image)
        lines.append(f"{number}.png {name} {' '.join(map(str, box))}\n")
    preparing.text(source / "boxes.txt", "".join(lines))
    found = convert(
        lambda faults: module.read_box_lines(source, faults),
        f"prepare.input={source}",
        source,
        tmp_path / "ready",
        None,
        None,
        "crowd",
        "copy",
        preparing.splitting(),
    )
    assert (found.task, found.counts.classes) == ("detection", ["cat", "dog"])
    assert found.counts.images == {"train": 6, "val": 2, "test": 0}


PYTHON = [block for page in PAGES for block in blocks(page) if block.language == "python"]


@pytest.mark.parametrize("block", PYTHON, ids=lambda b: f"{b.page.relative_to(ROOT)}:{b.line}")
def test_python_blocks_parse_and_import_what_exists(block):
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("parcnet_train"):
            module = importlib.import_module(node.module)
            assert [each.name for each in node.names if not hasattr(module, each.name)] == []
