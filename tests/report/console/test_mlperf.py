"""Table of `benchmark.protocol=mlperf_mobile`."""

import pytest

from parcnet_train.benchmarks.exported import Candidate, Footprint
from parcnet_train.benchmarks.mlperf import Accuracy, Streams
from parcnet_train.report.console.mlperf import percent_of, print_streams


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.97996, "97.9 %"), (0.98, "98.0 %"), (0.57, "57.0 %"), (1.0, "100.0 %"), (None, "")],
)
def test_a_share_below_a_limit_is_not_rounded_up_to_it(share, text):
    assert percent_of(share) == text


def test_files_below_the_share_are_marked(capsys):
    names = (("onnxruntime", "baked"), ("onnxruntime", "int8"))
    candidates = [Candidate("parcnet_s", form, runtime) for runtime, form in names]
    times = dict(zip(candidates, ([30.0] * 10, [10.0] * 10), strict=True))
    accuracy = dict(
        zip(candidates, (Accuracy(0.9, 0.9, 0.98), Accuracy(0.81, 0.9, 0.98)), strict=True)
    )
    footprints = dict.fromkeys(times, Footprint(17_300_000, 1200.4, 165_000_000))
    print_streams("title", "val/pixel_accuracy", Streams(times, accuracy, footprints, 100, None))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    (whole,) = [line for line in lines if "baked" in line and "30.0" in line and "│" in line]
    assert "100.0 %" in whole
    assert "*" not in whole
    (marked,) = [line for line in lines if " int8 " in line and "│" in line]
    assert all(cell in marked for cell in ("10.0", "0.8100", "90.0 % *", "17.3", "1200", "165"))
    assert any("*: below 98%" in line for line in lines)
    assert "parcnet_s: fastest in float32: onnxruntime (baked), p90 30.0 ms" in lines
    assert not any("fastest in int8" in line for line in lines)
