"""The paper's Table 3 beside our times."""

from dataclasses import replace

import pytest

from parcnet_train.benchmarks.exported import Candidate, Footprint
from parcnet_train.benchmarks.latency import Latencies
from parcnet_train.report.console.latency import (
    beside_table3,
    draw_latencies,
    print_latencies,
    print_table3,
    table3_results,
)

ONNX, MNN = ("baked", "onnxruntime"), ("baked", "mnn")


@pytest.fixture
def latencies():
    times = {
        Candidate("mobilevit_s", *ONNX): [40.0, 90.0, 50.0],
        Candidate("parcnet_s", *ONNX): [20.0, 60.0, 40.0],
        Candidate("parcnet_s", *MNN): [7.0, 8.0, 9.0],
        Candidate("mobilevit_xs", *ONNX): [1.0, 2.0, 3.0],
    }
    differences = dict.fromkeys(times, 2e-6)
    footprints = dict.fromkeys(times, Footprint(17_300_000, 120.4, 65_000_000))
    return Latencies((256, 192), times, differences, footprints, {}, 1e9, [1])


def test_speedup_is_the_median_over_interleaved_rounds(latencies):
    ours = beside_table3(latencies)
    for first in (1, 3):  # the paper's two devices
        assert (ours[first][ONNX].milliseconds, ours[first][ONNX].times_faster) == (50, None)
        second = ours[first + 1][ONNX]
        assert (second.milliseconds, second.times_faster) == (40, 1.5)
        assert (ours[first + 1][MNN].milliseconds, ours[first + 1][MNN].times_faster) == (8, None)
        assert MNN not in ours[first]
    assert ours[5] == ours[6] == {}


def test_best_column_compares_the_fastest_runtimes(latencies):
    ours = beside_table3(latencies)
    slower, faster = (ours[row]["best", "float32"] for row in (1, 2))
    assert (slower.milliseconds, slower.runtime) == (50, "baked/onnxruntime")
    assert (faster.milliseconds, faster.runtime) == (8, "baked/mnn")
    assert faster.times_faster == pytest.approx(40 / 7)  # median of 40/7, 90/8 and 50/9
    results = dict(table3_results(latencies))
    assert results["table3/row2/best/float32/runtime"] == "baked/mnn"
    assert "table3/row2/best/int8/milliseconds" not in results


def test_results_contain_paper_and_measured_values(latencies):
    results = dict(table3_results(latencies))
    assert results["table3/row1/milliseconds_paper"] == 457
    assert "table3/row1/times_faster_paper" not in results
    assert results["table3/row2/times_faster_paper"] == pytest.approx(1.29, abs=0.005)
    assert results["table3/row4/times_faster_paper"] == pytest.approx(3.76, abs=0.005)
    assert results["table3/row2/baked/onnxruntime/times_faster"] == 1.5
    assert "table3/row2/baked/mnn/times_faster" not in results


def test_tables_fit_a_terminal(latencies, capsys):
    print_latencies("title", latencies)
    print_table3(latencies)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    (mnn,) = [line for line in lines if " mnn " in line and "8.98" in line]
    assert all(number in mnn for number in ("parcnet_s", "8.80", "8.98", "2e-06", "17.3", "120"))
    assert "parcnet_s: fastest in float32: mnn (baked), 8.00 ms" in lines
    table3 = lines[next(i for i, line in enumerate(lines) if "Table 3" in line) :]
    for label, cell in {
        "paper, RK3288": "353 (1.29x)",
        "paper, DP2000": "98 (3.76x)",
        "onnxruntime, baked": "40.0 (1.50x)",
        "mnn, baked": "8.00",
        "fastest, float32": "8.00 (5.71x)",
    }.items():
        assert [label, cell] in [[part.strip() for part in line.split("│")[1:3]] for line in table3]


def test_networks_that_table_3_lacks_print_no_table_3(latencies, capsys):
    others = {each: times for each, times in latencies.milliseconds.items() if "xs" in str(each)}
    print_table3(replace(latencies, milliseconds=others))
    assert capsys.readouterr().out == ""


def test_latencies_are_drawn_as_png(latencies, tmp_path):
    picture = tmp_path / "latency.png"
    draw_latencies("title", latencies, picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
