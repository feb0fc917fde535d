"""The page and the values of a report."""

import re
from dataclasses import replace

from doctor_trees import photo
from parcnet_train.doctor.examine import Examination
from parcnet_train.doctor.findings import Finding, Table, count_of, refused, share, worst_first
from parcnet_train.doctor.page import lines_of, page_of, values_of, verdict_of
from parcnet_train.doctor.pictures import draw


def finding(kind="dark", severity="warning", **values):
    return Finding(kind, severity, "A <title>", 2, "images", "Words & more.", "Fix.", **values)


def examined(*findings):
    return Examination(list(findings), {"train": 1200, "val": 3}, {}, 1203, 2.0, 1.5)


def test_page_is_one_file_with_described_pictures():
    pictures = [draw(photo(1), "a<b>.jpg", "Dark image: a<b>.jpg")]
    table = Table(("class", "images"), [("cat", "1")])
    done = examined(finding(pictures=pictures, table=table, files=["x"]), finding(severity="note"))
    page = page_of(done, "detection", [("Data", "data=coco")]).decode()
    assert page.startswith("<!doctype html>")
    assert "A &lt;title&gt;" in page
    assert "Words &amp; more." in page
    assert "1,200 training, 3 validation" in page
    (picture,) = re.findall(r"<img [^>]*>", page)
    assert 'alt="Dark image: a&lt;b&gt;.jpg"' in picture
    assert 'src="data:image/jpeg;base64,/9j/' in picture
    assert not re.search(r"(?:src|href)=\"(?!data:)", page)  # nothing is fetched
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page


def test_verdict_says_what_a_training_would_do():
    assert verdict_of([]) == (
        "A training can use these data; nothing suspicious was found.",
        "good",
    )
    assert "there is 1 finding" in verdict_of([finding(), finding(severity="note")])[0]
    words, tone = verdict_of([finding(severity="error"), finding(), finding()])
    assert words == (
        "A training would refuse these data for 1 kind of fault; besides, there are 2 findings to "
        "look at."
    )
    assert tone == "error"


def test_values_and_lines(tmp_path):
    done = examined(
        finding(where="training set", files=["a"]),
        finding(severity="note"),
        replace(finding(), title="Leakage", count=1),
    )
    values = values_of(done)
    assert (values["errors"], values["warnings"], values["notes"]) == (0, 2, 1)
    assert values["findings"][0]["files"] == ["a"]
    assert lines_of(done, tmp_path)[:2] == [
        "warning: The training set has a <title> (2 images).",
        "warning: The data have leakage (1 image).",
    ]
    assert lines_of(done, tmp_path)[-1] == f"report: {tmp_path}"


def test_findings_are_sorted_by_severity():
    found = [finding(severity=s) for s in ("note", "error", "warning", "error")]
    assert [each.severity for each in worst_first(found)] == ["error", "error", "warning", "note"]
    assert count_of(found, "error", "warning") == 3


def test_errors_of_a_training_keep_their_lines():
    found = refused(ValueError("one\ntwo"))
    assert (found.count, found.lines) == (2, ["one", "two"])


def test_small_shares_are_not_zero():
    assert share(1, 100_000) == "less than 0.1 %"
    assert share(0, 10) == "0.0 %"
    assert share(1, 8) == "12.5 %"
