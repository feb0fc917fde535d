"""The documentation as the tests read it: pages, code blocks and command lines."""

import re
import shlex
import textwrap
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SITE = sorted(DOCS.rglob("*.md"))
PAGES = [*SITE, *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG"))]
TASKS = ("classification", "detection", "segmentation")
RESULTS = (DOCS / "reference" / "results.md").read_text("utf-8")  # keys of results.json

FENCE = re.compile(
    r'^(?P<indent> *)```(?P<language>\w*)(?: title="(?P<title>[^"]+)")?\n'
    r"(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
CONTAINER = re.compile(r"parcnet-train:(cpu|cuda)$")  # an image that starts the command


class Block(NamedTuple):
    """Code block of a page."""

    page: Path
    line: int  # of the page, where its text begins
    language: str
    title: str | None
    text: str


class Command(NamedTuple):
    """Command line of a block."""

    where: str  # page and line
    overrides: tuple[str, ...]
    options: tuple[str, ...]


def blocks(page):
    """The code blocks of a page."""
    text = page.read_text("utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, found.start()) + 2,
            found["language"],
            found["title"],
            textwrap.dedent(found["text"]),
        )
        for found in FENCE.finditer(text)
    ]


def prose(page):
    """A page without its code blocks, and with empty lines in their place."""
    return FENCE.sub(lambda found: "\n" * found[0].count("\n"), page.read_text("utf-8"))


def lines_of(block):
    """The command lines of a shell block as words, without comments, with the line of each."""
    number, whole = block.line, ""
    for at, line in enumerate(block.text.splitlines(), block.line):
        number = number if whole else at
        whole += line
        if whole.endswith("\\"):
            whole = whole[:-1] + " "
            continue
        if words := shlex.split(whole, comments=True):
            yield number, words
        whole = ""


def arguments(words):
    """The arguments of `python -m parcnet_train` in a command line; None: it has none."""
    for position, word in enumerate(words):
        if word == "parcnet_train" and words[position - 1] == "-m":
            return words[position + 1 :]
        if CONTAINER.match(word) and words[0] == "docker" and "--entrypoint" not in words:
            return words[position + 1 :] if "run" in words else None
    return None


def commands(page):
    """The commands of this package in the shell blocks of a page."""
    found = []
    for block in blocks(page):
        if block.language != "bash":
            continue
        for number, words in lines_of(block):
            given = arguments(words)
            if given is not None:
                options = tuple(word for word in given if word.startswith("-") and "=" not in word)
                options += tuple(word for word in given if word.startswith("--"))
                overrides = tuple(word for word in given if "=" in word and word[0] != "-")
                where = f"{page.relative_to(ROOT)}:{number}"
                found.append(Command(where, overrides, options))
    return found


def anchors(page):
    """The anchors of a page's headings, as GitHub and the site make them."""
    names = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    plain = (re.sub(r"[^\w -]", "", name.lower()).strip() for name in names)
    return {re.sub(r"[ -]+", "-", name) for name in plain}


def task_of(command):
    """The task of the runs that a command's page names."""
    name = command.where.partition(".md")[0].rpartition("/")[2]
    return name if name in TASKS else TASKS[0]


LISTED = [command for page in PAGES for command in commands(page)]
# Pages that write files of their own; `tests/docs/test_examples.py` runs them.
WITH_FILES = ("docs/extend/", "docs/concepts/composition.md")
ONCE = {each.overrides: each for each in LISTED if not each.where.startswith(WITH_FILES)}
