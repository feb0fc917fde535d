"""The page that compares runs."""

import json
from html.parser import HTMLParser

from parcnet_train.pages.compare import curves_of, differing, latencies_below, minutes_of
from parcnet_train.report.ablation import Group
from parcnet_train.report.collected import Run
from run_folders import provenance_of, results_of, write_run


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


def test_keys_that_say_the_same_share_a_column():
    facts = [{"batch": 1, "size": "a", "lr": 2}, {"batch": 2, "size": "b", "lr": 2.0}]
    facts = [{**each, "task.batch": each["batch"]} for each in facts]
    assert differing(facts) == ["batch", "size", "lr"]


def run_of(folder, provenance=None, curve=(0.25, 0.5)):
    results = results_of(7, 0, 0.5, seconds=90)
    write_run(folder, results, provenance, curve=curve)
    return Group((Run(folder.name, folder, results, provenance, 0.0),))


def test_minutes_of_a_resumed_training_are_unknown(tmp_path):
    assert minutes_of(run_of(tmp_path / "a")) == minutes_of(
        run_of(tmp_path / "b", provenance_of(0))
    )
    assert minutes_of(run_of(tmp_path / "c")) == "1.5"
    resumed = provenance_of(0)
    resumed["sessions"] *= 2
    assert minutes_of(run_of(tmp_path / "d", resumed)) == ""


def test_one_epoch_is_no_curve(tmp_path):
    assert list(curves_of([run_of(tmp_path / "a", curve=(0.5,))])) == []
    assert len(list(curves_of([run_of(tmp_path / "b")]))) == 1


def test_latency_is_the_smallest_of_a_backbone(tmp_path):
    measured = {"a/baked/mnn": 2.5, "a/plain/pytorch": 9.0, "b/baked/mnn": 7.25}
    values = {f"latency/{name}/milliseconds": value for name, value in measured.items()}
    values |= {"latency/a/baked/mnn/milliseconds_p90": 1.0, "action": "benchmark"}
    (tmp_path / "results.json").write_text(json.dumps(values))
    assert latencies_below([tmp_path]) == {"a": "2.50 (baked/mnn)", "b": "7.25 (baked/mnn)"}
