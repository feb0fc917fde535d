"""`action=report`: pages of finished runs."""

import json

from parcnet_train.actions.report import report
from run_folders import results_of, write_run


def test_every_finished_run_gets_its_page(tmp_path, caplog, capsys):
    runs = tmp_path / "runs"
    write_run(runs / "a", results_of(7, 0, 0.5), curve=(0.25, 0.5))
    write_run(runs / "b", results_of(7, 1, 0.6))
    write_run(runs / "bad", "{")
    (tmp_path / "out").mkdir()
    paths = {"runs": "unused", "cache": "unused", "output": str(tmp_path / "out")}
    settings = {"runs": str(runs), "baseline": None}
    results = report({"action": "report", "paths": paths, "report": settings})
    pages = [str(runs / name / "report.html") for name in ("a", "b")]
    assert results["pages"] == pages
    assert results == json.loads((tmp_path / "out" / "results.json").read_text())
    assert "top1 60.00 %" in (runs / "b" / "report.html").read_text()
    assert capsys.readouterr().out.split() == pages
    assert caplog.messages == ["left out: bad: results.json is not valid JSON"]
