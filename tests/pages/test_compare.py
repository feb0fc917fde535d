"""The page that compares runs."""

import json
from html.parser import HTMLParser

from parcnet_train.pages.compare import differing, latencies_below


class Cells(HTMLParser):
    """Text of the cells of a page, by row. Fails if a tag is not closed."""

    def __init__(self):
        super().__init__()
        self.rows, self.open, self.images = [], [], []

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.images.append(dict(attributes)["src"])
        elif tag not in ("meta", "link", "input"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def test_html_is_self_contained_with_the_same_cells(made_report):
    text = (made_report[0] / "compare.html").read_text()
    page = Cells()
    page.feed(text)
    assert page.open == []
    by_row = {cells[0]: cells for cells in page.rows if cells[0].isdigit()}
    assert len(by_row) == 13  # of Table 2
    assert by_row["7"][7:10] == ["78.63", "61.17 ± 1.04", "3"]
    assert by_row["7"][11] == "higher"
    headings, *runs = page.rows[:6]
    columns = [each.strip() for each in headings]
    assert columns[:6] == ["run", "metric", "mean, %", "± 95 %", "seeds", "parameters"]
    assert {"backbone", "data"} < set(columns)
    assert "recipe" not in columns  # all have the same
    assert runs[4][columns.index("data")] == "a|<b>"
    assert runs[0][:5] == ["row1-0", "top1", "51.00", "2.48", "3"]  # t of 2: 4.303 / sqrt(3)
    assert text.count('role="img"') == 2  # the curves of each metric on one axis
    assert len(page.images) == 5
    assert all(source.startswith("data:image/png;base64,") for source in page.images)
    assert "://" not in text
    assert "<b>" not in text


def test_only_differing_keys_are_columns():
    facts = [{"lr": 1, "epochs": 2, "files_sha256": "a"}, {"lr": 3, "epochs": 2, "new": 4}]
    assert differing(facts) == ["lr", "new"]


def test_latency_is_the_smallest_of_a_backbone(tmp_path):
    measured = {"a/baked/mnn": 2.5, "a/plain/pytorch": 9.0, "b/baked/mnn": 7.25}
    values = {f"latency/{name}/milliseconds": value for name, value in measured.items()}
    values |= {"latency/a/baked/mnn/milliseconds_p90": 1.0, "action": "benchmark"}
    (tmp_path / "results.json").write_text(json.dumps(values))
    assert latencies_below([tmp_path]) == {"a": "2.50 (baked/mnn)", "b": "7.25 (baked/mnn)"}
