"""Lines of the shell blocks that start other programs than this package."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from documentation import PAGES, ROOT, arguments, blocks, lines_of

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
    "optional-dependencies"
]
TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
# Of the system, of clusters and of containers; nothing of this repository is in their arguments,
# except for the Dockerfile and compose.yaml, which `tests/test_docker.py` checks.
OTHERS = {"cat", "docker", "eval", "export", "find", "mkdir", "sed", "source", "srun"}
OTHERS |= {"ssh", "torchrun"}
LINES = [
    (f"{page.relative_to(ROOT)}:{number}", words)
    for page in PAGES
    for block in blocks(page)
    if block.language == "bash"
    for number, words in lines_of(block)
    if arguments(words) is None
]


def program_of(words):
    """The words of a command line from its program on, without variables before it."""
    while words and re.match(r"^[A-Z_]+=", words[0]):
        words = words[1:]
    return words


@pytest.mark.parametrize(("where", "words"), LINES, ids=[where for where, _ in LINES])
def test_line_names_what_exists(where, words):
    program, *given = program_of(words)
    if program == "make":
        assert given[0] in TARGETS
    elif program == "pip":
        named = [name for each in given for name in re.findall(r"\[([\w,]+)\]", each)]
        assert {name for names in named for name in names.split(",")} <= EXTRAS.keys()
    elif Path(program).name in ("python", "pytest"):
        files = [each for each in given if each.startswith(("scripts/", "tests/"))]
        assert [each for each in files if not (ROOT / each).exists()] == []
        assert files or given[0] == "time_models.py"  # which a latency benchmark leaves
    elif program in ("kubectl", "sky"):
        files = [each for each in given if each.startswith("examples/")]
        assert files
        assert all((ROOT / each).is_file() for each in files)
    else:
        assert program in OTHERS


@pytest.mark.slow
def test_scripts_have_the_options_that_pages_name():
    found = {}
    for _, words in LINES:
        for position, word in enumerate(words):
            if word.startswith("scripts/"):
                options = {each for each in words[position:] if each.startswith("--")}
                found.setdefault(word, set()).update(options)
    assert "scripts/convert_weights.py" in found
    for script, options in found.items():
        done = subprocess.run(
            [sys.executable, ROOT / script, "--help"], capture_output=True, text=True, check=True
        )
        assert [each for each in options if each not in done.stdout] == []
