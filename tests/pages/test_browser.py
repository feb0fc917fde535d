"""Pages in a browser: wide and narrow, light and dark, with mouse and keyboard."""

import itertools

import pytest

from browsing import CONTRAST, FOCUS, NEEDS_CHROMIUM, OVERFLOW, SORT, browse

pytestmark = [pytest.mark.slow, NEEDS_CHROMIUM]


@pytest.fixture(params=["run", "compare"])
def page(request, trained, made_report):
    """The page of a training, and one that compares runs."""
    return {"run": trained[0] / "report.html", "compare": made_report[0] / "compare.html"}[
        request.param
    ]


def test_a_phone_does_not_scroll_sideways_and_the_console_is_empty(page, tmp_path):
    found, console = browse(page, tmp_path, OVERFLOW, width=380)
    assert found["width"] == 380
    assert found["scroll"] <= 380
    assert console == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_can_be_read(page, dark, tmp_path):
    low, _ = browse(page, tmp_path, CONTRAST, dark=dark)
    assert low == []


def test_the_keyboard_reaches_everything_from_top_to_bottom(page, tmp_path):
    found, _ = browse(page, tmp_path, FOCUS)
    assert len(found) > 3
    assert {order for order, _ in found} == {0}
    tops = [top for _, top in found]
    assert all(after >= before - 60 for before, after in itertools.pairwise(tops))


def test_the_table_is_sorted_and_filtered(made_report, tmp_path):
    found, _ = browse(made_report[0] / "compare.html", tmp_path, SORT)
    values = [float(each) for each in found["rising"]]
    assert values == sorted(values)
    assert found["falling"] == found["rising"][::-1]
    assert (found["filtered"], found["count"]) == (["61.17"], "1 of 5 rows")
