"""Reports in Markdown and HTML."""

import re
from html.parser import HTMLParser

from parcnet_train.report.paper.tables import TASKS
from reporting import PNG


def test_markdown_has_a_table_per_task(made_report):
    text = (made_report[0] / "table.md").read_text()
    assert re.findall("^## (.*)$", text, re.MULTILINE) == [
        *(f"Table 2, {task}" for task in TASKS),
        "Other runs",
    ]
    assert len(re.findall(r"^\| \d+ \|", text, re.MULTILINE)) == 13
    assert re.search(
        r"^\| 7 \| ParC \| Y \| Y \| Y \| 5.0 M \| 5,000,003 \| 78.63 \| 61.17 ± 1.04 \| 3 \| "
        r"\+10.17 \\\[\+9.45, \+10.88\\\] \| higher \|$",
        text,
        re.MULTILINE,
    )
    assert "| 8 | Baseline | - | - | - | 5.7 M |  | 27.7 | not run | 0 |  |  |" in text
    assert "Ours: data=demo, recipe=imagenet\\_300e, epochs=2. Paper: ImageNet-1K" in text
    assert "row 7, seed 0: 2 runs of one configuration" in text
    assert "bad: results.json is not valid JSON" in text
    assert "data=a\\|\\<b> " in text
    assert "MIXED" not in text
    for name in re.findall(r"\]\((.*\.png)\)", text):
        assert (made_report[0] / name).read_bytes().startswith(PNG)


class Cells(HTMLParser):
    """Text of the cells of a page, by row. Fails if a tag is not closed."""

    def __init__(self):
        super().__init__()
        self.rows, self.open, self.images = [], [], []

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.images.append(dict(attributes)["src"])
        elif tag != "meta":
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def test_html_is_self_contained_with_the_same_cells(made_report):
    text = (made_report[0] / "table.html").read_text()
    page = Cells()
    page.feed(text)
    assert page.open == []
    by_row = {cells[0]: cells for cells in page.rows if cells[0].isdigit()}
    assert len(by_row) == 13
    assert by_row["7"][7:10] == ["78.63", "61.17 ± 1.04", "3"]
    assert by_row["7"][11] == "higher"
    assert "task=classification backbone=parcnet_xs data=a|<b>" in page.rows[-1][0]
    assert len(page.images) == 5
    assert all(source.startswith("data:image/png;base64,") for source in page.images)
    assert "://" not in text
    assert "<b>" not in text
