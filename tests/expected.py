"""Expected sizes and costs, which files in `conf/` state in a comment line."""

import re
from pathlib import Path
from typing import NamedTuple

FORM = "# Expected: 5,037,088 parameters, 1,657 M multiply-adds (1000 classes, 256x256 pixels)."
PATTERN = re.compile(
    r"^# Expected: ([\d,]+) parameters, ([\d,.]+ [MG]) multiply-adds "
    r"\((?:head=(\w+), )?1000 classes, (\d+)x(\d+) pixels\)\.",
    re.MULTILINE,
)
UNITS = {"M": 1e6, "G": 1e9}


class Expected(NamedTuple):
    """Size and cost of a backbone with a classifier of 1000 classes."""

    parameters: int
    multiply_adds: str  # as written, with the digits of the source
    size: tuple[int, int]  # of the images, in pixels
    head: str = "classifier"


def expected_of(file: Path) -> Expected:
    """Return the expected size and cost in a file of `conf/backbone/`."""
    found = PATTERN.search(file.read_text())
    assert found, f"{file} does not state its size and cost; expected a line such as\n{FORM}"
    parameters, multiply_adds, head, height, width = found.groups()
    size, count = (int(height), int(width)), int(parameters.replace(",", ""))
    return Expected(count, multiply_adds, size, head or "classifier")


def written_like(multiply_adds: int, text: str) -> str:
    """Format a number of multiply-adds with the unit and the decimals of a text."""
    number, unit = text.split()
    decimals = len(number.partition(".")[2])
    return f"{multiply_adds / UNITS[unit]:,.{decimals}f} {unit}"
