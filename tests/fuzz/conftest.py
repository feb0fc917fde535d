"""Reports of tests whose files have names that are not UTF-8."""

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Escape what pytest-xdist cannot send: it would end the whole suite, even after a success."""
    report = yield
    report.sections = [(title, escaped(text)) for title, text in report.sections]
    if report.failed:
        report.longrepr = escaped(str(report.longrepr))
    return report


def escaped(text):
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
