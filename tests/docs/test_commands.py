"""Command lines of the documentation are composed and checked; keys in its prose exist."""

import re

import pytest
import torch

from documentation import DOCS, LISTED, ONCE, ROOT, SITE, TASKS, prose, task_of
from parcnet_train.check.devices import wrong_strategy
from parcnet_train.config.compose import CONF, choices, compose_config, to_plain, typed_faults
from parcnet_train.config.overrides import typed
from parcnet_train.runs.actions import ACTIONS
from parcnet_train.sweeps.grid import register_resolvers
from running import composed

REFERENCE = ROOT / "docs" / "reference" / "configuration.md"
KEYS = set(re.findall(r"^\| `([\w.]+)`", REFERENCE.read_text("utf-8"), re.MULTILINE))
SECTIONS = {key.rpartition(".")[0] for key in KEYS if "." in key}
GROUPS = {file.parent.name for file in CONF.glob("*/*.yaml")}
CODE = re.compile(r"`([^`\n]+)`")
WORD = re.compile(r"^[+'\"]*([a-z_]+(?:\.[a-z_0-9]+)*)=(.*)$")
# Values that stand for any value, and choices of files that a page tells the reader to write.
ANY = re.compile(r"^(NAME|mine|\.\.\.|[a-z_0-9]+\.\.\.|)$")
FAULTY = {"backbone=parcnet_z", "recipe.optimizer.lrr=1", "trainer.max_epochs=0"}  # shown as such
FAULTY |= {"backbone.widht=16"}
OF_HYDRA = ("hydra.", "hydra/")


@pytest.fixture(scope="session")
def folder(trained, tmp_path_factory):
    """Folder with a run of each task, named as on the pages; they have the weights of one."""
    folder = tmp_path_factory.mktemp("pages")
    for place in ("classification/parcnet_xs-demo", "detection/parcnet_xs-demo_detection"):
        newest = folder / "runs" / place / "2026-01-01_00-00-00"
        newest.mkdir(parents=True)
        (newest / "run.json").write_text("{}")
        (newest / "checkpoints").symlink_to(trained[0] / "checkpoints")
    checkpoint = torch.load(trained[0] / "checkpoints" / "best.ckpt", weights_only=True)
    for task in TASKS:
        config = composed(f"task={task}", "backbone=parcnet_xs")
        run = folder / f"RUN_{task}" / "checkpoints"
        run.mkdir(parents=True)
        choices = config.pop("choices")
        torch.save({**checkpoint, "config": config, "choices": choices}, run / "best.ckpt")
    return folder


def faults_of(overrides):
    """The faults of a command line that are found without reading a file."""
    register_resolvers()
    config, faults = compose_config(list(overrides))
    plain = to_plain(config, choices(config.hydra), typed(config.hydra))
    found = [*faults, *plain.faults, *typed_faults(plain), *wrong_strategy(plain.values)]
    return [str(each) for each in found]


def test_the_pages_have_commands():
    assert len(LISTED) > 100
    actions = {value for each in LISTED for value in each.overrides if value.startswith("action=")}
    without = {f"action={name}" for name in ("fit", "compare", "watch")}
    assert {f"action={name}" for name in ACTIONS} - actions <= without


def test_page_of_the_command_line_lists_every_action():
    page = (DOCS / "reference" / "cli.md").read_text("utf-8")
    assert {*re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)} >= ACTIONS.keys()


@pytest.mark.parametrize("command", ONCE.values(), ids=lambda command: command.where)
def test_commands_compose_without_a_fault(command, folder, monkeypatch):
    monkeypatch.chdir(folder)
    run = f"RUN_{task_of(command)}"
    overrides = [re.sub(r"\bRUN\b", run, each) for each in command.overrides if each not in FAULTY]
    if any("glob(" in each for each in overrides):
        return  # of names of files, which a sweep resolves
    if "hydra/launcher=ray" in overrides:
        pytest.importorskip("ray")  # in .venv-ray
    assert faults_of(overrides) == []


def wrong_in(word):
    """Whether a word of the form KEY=VALUE names a key or a choice that does not exist."""
    found = WORD.match(word)
    if found is None or word in FAULTY or word.startswith("+"):
        return False
    key, value = found[1], found[2].strip("'\"")
    if key in GROUPS and "." not in key:
        names = [] if ANY.match(value) else re.split(r"[,|]", value.strip("[]"))
        files = {file.stem for file in (CONF / key).glob("*.yaml")} | {"null"}
        return any(re.fullmatch(r"\w+", name) and name not in files for name in names)
    known = key in KEYS or key in SECTIONS or any(key.startswith(f"{each}.") for each in KEYS)
    return "." in key and not known and not key.startswith(OF_HYDRA)


@pytest.mark.parametrize("page", [*SITE, ROOT / "README.md"], ids=lambda page: page.stem)
def test_keys_and_choices_in_the_prose_exist(page):
    words = [word for code in CODE.findall(prose(page)) for word in code.split()]
    assert [word for word in words if wrong_in(word)] == []


def test_the_check_of_words_finds_what_does_not_exist():
    assert wrong_in("recipe.epoch=3")
    assert wrong_in("backbone=parcnet_y")
    assert not wrong_in("recipe.epochs=3")
    assert not wrong_in("backbone=parcnet_s|parcnet_xs")
