"""The parts of docs/benchmarks.md that latency benchmarks write."""

import json
import runpy
import sys
from pathlib import Path

import pytest

from parcnet_train.benchmarks.exported import Candidate, Footprint
from parcnet_train.benchmarks.latency import Latencies
from parcnet_train.benchmarks.mlperf import Accuracy, Streams
from parcnet_train.report.console.latency import table3_results

SCRIPT = Path(__file__).parents[2] / "scripts" / "measure_latency.py"
ABOUT = {
    "hardware/cpu": "Some CPU",
    "hardware/threads": 1,
    "python_version": "3.11.7",
    "mnn_version": "3.6.1",
    "image_size": [64, 32],
}
FOOTPRINT = Footprint(17_300_000, 120.4, None)


@pytest.fixture
def runs(tmp_path):
    """Folders of two runs, one of each protocol."""
    float32, int8 = (Candidate("parcnet_s", form, "mnn") for form in ("baked", "int8"))
    times = {Candidate("mobilevit_s", "baked", "mnn"): [60.0], float32: [40.0], int8: [20.0]}
    footprints = dict.fromkeys(times, FOOTPRINT)
    differences, counts = dict.fromkeys(times, 0.0), {"parcnet_s": 2 * 10**9, "mobilevit_s": 10**9}
    paper = Latencies((64, 32), times, differences, footprints, counts, 80e9, None)
    accuracy = {float32: Accuracy(0.9, 0.9, 0.98), int8: Accuracy(0.8, 0.9, 0.98)}
    stream = Streams({each: [20.0] for each in accuracy}, accuracy, footprints, 384, None)
    of_network = {"task": "classification", "backbone": "parcnet_s", "metric": "val/top1"}
    results = {
        "paper": {"iterations": 100, **dict(paper.results()), **dict(table3_results(paper))},
        "mlperf_mobile": {**of_network, "accuracy_pytorch": 0.9, **dict(stream.results())},
    }
    for protocol, values in results.items():
        folder = tmp_path / protocol
        folder.mkdir()
        (folder / "results.json").write_text(json.dumps({**ABOUT, "protocol": protocol, **values}))
    return [tmp_path / protocol for protocol in results]


def write(monkeypatch, page, *runs):
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, runs), "--write", str(page)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    return page.read_text("utf-8")


def test_results_become_tables(runs, tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(
        "".join(f"<!-- {x}: begin -->\n<!-- {x}: end -->\n" for x in ("latency", "mlperf"))
    )
    text = write(monkeypatch, page, *runs)
    for line in (
        "64x32, Some CPU, threads: 1; mnn 3.6.1; Python 3.11.7. Medians of 100 rounds in "
        "milliseconds.",
        "| MobileViT-S | 60.0 | 60.0, baked/mnn |",
        "| ParC-Net-S | 40.0 (1.50x) | 40.0 (1.50x), baked/mnn |",
        "| MobileViT-S | not run | not run |",
        "| ParC-Net-S | 20.0 | 20.0, int8/mnn |",
        "A float32 matrix product ran at 80 G multiply-adds a second. The column rate has those "
        "of the networks; int8 has",
        "| parcnet_s | baked | mnn | 50 | 17.3 | 120 |  |",
        "| parcnet_s | int8 | mnn | 100 | 17.3 | 120 |  |",
        "| mnn | baked | 20.0 | 20.0 | 0.9000 | 100.0 % | 17.3 | 120 |  |",
        "| mnn | int8 | 20.0 | 20.0 | 0.8000 | 88.8 %, too low | 17.3 | 120 |  |",
        "Fastest, of those that are accurate enough: float32: baked/mnn.",
    ):
        assert f"{line}\n" in text


def test_no_file_is_accurate_enough(runs, tmp_path, monkeypatch):
    page, results = tmp_path / "page.md", runs[1] / "results.json"
    page.write_text("<!-- mlperf: begin -->\n<!-- mlperf: end -->\n")
    values = json.loads(results.read_text())
    del values["best/parcnet_s/float32"]
    results.write_text(json.dumps(values))
    text = write(monkeypatch, page, runs[1])
    assert "\nNo file is accurate enough.\n" in text
    assert "Fastest" not in text


def test_a_folder_without_results_is_refused(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit, match="2"):
        write(monkeypatch, tmp_path / "page.md", tmp_path)
    assert "expected the directory of a run, with results.json" in capsys.readouterr().err


def test_other_runs_are_refused(tmp_path, monkeypatch, capsys):
    (tmp_path / "results.json").write_text('{"action": "benchmark"}')
    with pytest.raises(SystemExit, match="2"):
        write(monkeypatch, tmp_path / "page.md", tmp_path)
    assert "expected runs of benchmark.target=latency" in capsys.readouterr().err
