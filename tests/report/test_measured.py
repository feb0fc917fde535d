"""Parts of pages that a command writes."""

import re
import runpy
from pathlib import Path

import pytest

from parcnet_train.errors import DataError
from parcnet_train.report.measured import replace_part

ROOT = Path(__file__).parents[2]


def test_only_the_named_part_is_replaced(tmp_path):
    page = tmp_path / "page.md"
    other = "<!-- b: begin -->\nold\n<!-- b: end -->\n"
    page.write_text(f"before\n<!-- a: begin -->\nold\n<!-- a: end -->\nafter\n{other}")
    for text in ("first", "| é |\n"):
        replace_part(page, "a", text)
    expected = f"before\n<!-- a: begin -->\n\n| é |\n\n<!-- a: end -->\nafter\n{other}"
    assert page.read_text("utf-8") == expected


@pytest.mark.parametrize("text", ["", "<!-- a: begin -->\n", "<!-- a: end -->\n"])
def test_a_page_without_the_part_is_an_error(text, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(DataError, match=r"page\.md: it has no part 'a'\. Fix: add the lines"):
        replace_part(page, "a", "text")
    assert page.read_text() == text


@pytest.mark.parametrize(
    "script", ["measure_distillation", "measure_evaluation", "measure_page_cost"]
)
def test_pages_have_the_parts_of_the_scripts(script):
    text = (ROOT / "scripts" / f"{script}.py").read_text()
    (part,) = re.findall(r'^PART = "(\w+)"$', text, re.MULTILINE)
    (page,) = set(re.findall(r"--write (docs/[\w/]+\.md)", text))
    assert f"<!-- {part}: begin -->\n" in (ROOT / page).read_text("utf-8")


def test_the_page_has_the_parts_of_the_latencies():
    parts = runpy.run_path(str(ROOT / "scripts" / "measure_latency.py"))["PARTS"]
    page = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")
    assert [part for part in parts if f"<!-- {part}: begin -->\n" not in page] == []
