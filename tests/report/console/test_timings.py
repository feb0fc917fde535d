"""Tables of `action=benchmark`."""

import pytest

from parcnet_train.benchmarks.detection import WHOLES, Parts
from parcnet_train.benchmarks.evaluation import Comparison
from parcnet_train.benchmarks.loader import REFERENCE, Speeds
from parcnet_train.benchmarks.timing import Timing
from parcnet_train.benchmarks.training_step import Variant
from parcnet_train.report.console.timings import (
    print_detection,
    print_evaluators,
    print_loaders,
    print_overheads,
    print_steps,
)

SLOW, FAST = Timing((20.0, 10.0, 30.0)), Timing((5.0, 4.0, 6.0))


@pytest.fixture
def rows(capsys):
    """A function that gives the cells of what was printed."""

    def read():
        lines = capsys.readouterr().out.splitlines()
        return [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]

    return read


def test_steps_are_compared_with_the_first_and_with_its_twin(rows):
    first = Variant("a_convolution", "nchw", "float32", keeps_memory=False)
    twin, other = Variant("a_convolution", "nchw", "float32"), Variant("a", "nchw", "bfloat16")
    print_steps("a step", {first: SLOW, twin: Timing((10.0, 10.0, 10.0)), other: FAST})
    assert rows() == [
        ["a_convolution", "nchw", "float32", "system", "20.0 (10.0-30.0) 1.00x", "0.50x"],
        ["a_convolution", "nchw", "float32", "kept", "10.0 (10.0-10.0) 2.00x", "1.00x"],
        ["a", "nchw", "bfloat16", "kept", "5.00 (4.00-6.00) 4.00x", "2.00x"],
    ]


def test_framework_is_compared_with_the_bare_loop(rows):
    print_overheads("a step", {"fit": {"bare": FAST, "trained": SLOW}})
    assert rows() == [["fit 20.0 (10.0-30.0) 0.25x", "5.00 (4.00-6.00) 1.00x", "+300.0 %"]]


def test_loaders_have_images_per_second(rows):
    print_loaders("photos", Speeds(100, 2, {"parcnet_train": FAST, REFERENCE: SLOW}))
    assert rows() == [
        ["parcnet_train", "20000 (16667-25000)", "4.00x"],
        [REFERENCE, "5000 (3333-10000)", "1.00x"],
    ]


def test_parts_of_detection_have_a_share_of_their_whole(rows):
    part, whole = next(iter(WHOLES.items()))
    print_detection("a detector", Parts({part: FAST, whole: SLOW}, 12.0))
    assert rows() == [
        [part, "5.00 (4.00-6.00)", "25.0 %", whole],
        [whole, "20.0 (10.0-30.0)", "", ""],
    ]


def test_evaluators_have_a_ratio_a_difference_and_memory(rows):
    timings = {"faster_coco_eval": FAST, "pycocotools": SLOW}
    differences = {"faster_coco_eval": 2.2e-16, "pycocotools": 0.0}
    memory = {"faster_coco_eval": 12_345_678, "pycocotools": None}
    print_evaluators("metrics", Comparison(timings, differences, memory, threads=1))
    (fast, *fast_cells), (slow, *slow_cells) = rows()
    assert (fast.split()[0], slow.split()[0]) == ("faster_coco_eval", "pycocotools")
    assert fast_cells == ["5.00 (4.00-6.00) 4.00x", "2.2e-16", "12 MB"]
    assert slow_cells == ["20.0 (10.0-30.0) 1.00x", "0", ""]
