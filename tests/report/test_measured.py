"""Parts of pages that a command writes."""

import re
import runpy
from pathlib import Path

import pytest
from PIL import Image

from parcnet_train.benchmarks.photos import SIZE
from parcnet_train.errors import DataError
from parcnet_train.report.measured import replace_part
from running import faults_of

ROOT = Path(__file__).parents[2]


def test_only_the_named_part_is_replaced(tmp_path):
    page = tmp_path / "page.md"
    other = "<!-- b: begin -->\nold\n<!-- b: end -->\n"
    page.write_text(f"before\n<!-- a: begin -->\nold\n<!-- a: end -->\nafter\n{other}")
    for text in ("first", "| é |\n"):
        replace_part(page, "a", text)
    expected = f"before\n<!-- a: begin -->\n\n| é |\n\n<!-- a: end -->\nafter\n{other}"
    assert page.read_text("utf-8") == expected


@pytest.mark.parametrize("text", ["", "<!-- a: begin -->\n", "<!-- a: end -->\n"])
def test_a_page_without_the_part_is_an_error(text, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(DataError, match=r"page\.md: it has no part 'a'\. Fix: add the lines"):
        replace_part(page, "a", "text")
    assert page.read_text() == text


@pytest.mark.parametrize(
    "script", ["measure_distillation", "measure_evaluation", "measure_page_cost", "plan_recipes"]
)
def test_pages_have_the_parts_of_the_scripts(script):
    text = (ROOT / "scripts" / f"{script}.py").read_text()
    (part,) = re.findall(r'^PART = "(\w+)"$', text, re.MULTILINE)
    (page,) = set(re.findall(r"--write (docs/[\w/]+\.md)", text))
    assert f"<!-- {part}: begin -->\n" in (ROOT / page).read_text("utf-8")


def test_the_page_has_the_parts_of_the_latencies():
    parts = runpy.run_path(str(ROOT / "scripts" / "measure_latency.py"))["PARTS"]
    page = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")
    assert [part for part in parts if f"<!-- {part}: begin -->\n" not in page] == []


def test_the_page_has_the_parts_of_make_bench():
    found = runpy.run_path(str(ROOT / "scripts" / "bench.py"))
    page = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")
    for part in (*found["PARTS"], *found["GPU_PARTS"]):
        assert f"<!-- bench {part}: begin -->\n" in page


def test_make_bench_compares_the_step_with_that_of_timm():
    steps = runpy.run_path(str(ROOT / "scripts" / "bench.py"))["steps"]
    run = {
        "hardware/device": "cpu",
        "hardware/cpu": "Processor",
        "hardware/threads": 2,
        "torch_version": "2",
        "python_version": "3",
        "repeats": 5,
        "batch_size": 16,
        "image_size": [256, 256],
    }
    times = {
        "parcnet_s_convolution/nchw/float32/system_memory": 8000.0,
        "parcnet_s/nchw/float32": 2000.0,
        "timm.mobilevit_s/nchw/float32": 3000.0,
    }
    for variant, time in times.items():
        for end in ("milliseconds", "milliseconds_min", "milliseconds_max"):
            run[f"train_step/{variant}/{end}"] = time
        run[f"train_step/{variant}/ratio"] = 8000.0 / time
    rows = [line.split(" | ") for line in steps([run]) if line.startswith("| ")]
    assert [(row[3], *row[-2:]) for row in rows] == [
        ("freed memory", "speedup over the first", "over timm's |"),
        ("to the system", "1.00x", " |"),
        ("kept", "4.00x", "1.50x |"),
        ("kept", "2.67x", "1.00x |"),
    ]
    on_gpu = {"hardware/device": "cuda", "hardware/gpu": "GPU"}
    peaks = {f"train_step/{variant}/peak_bytes": 3 * 2**29 for variant in times}
    rows = [line.split(" | ") for line in steps([run | on_gpu | peaks]) if line.startswith("| ")]
    assert [row[3] for row in rows] == ["peak memory", *["1.50 GiB"] * 3]


def test_make_bench_cuts_photos_of_one_size(tmp_path):
    found = runpy.run_path(str(ROOT / "scripts" / "bench.py"))
    found["make_photos"](tmp_path, count=2)
    files = sorted(tmp_path.glob("*/*/*.jpg"))
    assert [str(each.relative_to(tmp_path)) for each in files] == [
        "train/class_0/0.jpg",
        "train/class_1/1.jpg",
        "val/class_0/0.jpg",
        "val/class_1/1.jpg",
    ]
    for each in files:
        with Image.open(each) as photo:
            assert photo.size == SIZE


def test_differences_that_exclude_zero_are_bold():
    difference = runpy.run_path(str(ROOT / "scripts" / "write_results.py"))["difference"]
    line = {"difference": "1.0", "difference_low": "0.25", "difference_high": "1.75"}
    assert difference(line) == "**+1.00 [+0.25, +1.75]**"
    assert difference({**line, "difference_low": "-0.25"}) == "+1.00 [-0.25, +1.75]"
    assert difference({**line, "difference_low": ""}) == "+1.00"
    assert difference({**line, "difference": ""}) == ""


def test_every_row_of_the_protocol_has_a_name():
    found = runpy.run_path(str(ROOT / "scripts" / "write_results.py"))
    rows = {file.stem for file in (ROOT / "conf" / "ablation").glob("proof_*.yaml")}
    assert rows == set(found["NAMES"])
    page = (ROOT / "docs" / "results" / "index.md").read_text("utf-8")
    assert [name for name in found["SETS"] if f"<!-- {name}: begin -->\n" not in page] == []


def test_a_curve_has_the_mean_loss_of_each_part_of_a_training(tmp_path):
    found = runpy.run_path(str(ROOT / "scripts" / "write_results.py"))
    parts = found["PARTS"]
    losses = {step: float(step // 2 + step % 2 * 100) for step in range(2 * parts)}
    half = parts + 1  # an interrupted run has a file of each session; one step is in both
    for version, steps in enumerate([range(half), range(half - 1, 2 * parts)]):
        folder = tmp_path / "csv" / f"version_{version}"
        folder.mkdir(parents=True)
        lines = [f"{step},{losses[step]}" for step in steps] + [f"{steps[-1]},"]
        (folder / "metrics.csv").write_text("\n".join(["step,train/loss_step", *lines]) + "\n")
    assert found["curve_of"](tmp_path) == [part + 50.0 for part in range(parts)]


def test_runs_that_are_missing_are_named():
    found = runpy.run_path(str(ROOT / "scripts" / "write_results.py"))
    for of_set in found["SETS"].values():
        expected = found["expected_of"](of_set)
        assert expected.keys() <= found["NAMES"].keys()
        lacking = found["compare"](ROOT / "nowhere", expected).missing
        assert lacking == {row: sorted(seeds) for row, seeds in expected.items()}


@pytest.mark.slow
def test_stand_ins_of_the_papers_sets_can_be_read(tmp_path):
    found = runpy.run_path(str(ROOT / "scripts" / "plan_recipes.py"))
    found["make_photos"](tmp_path / "photos")
    for name, maker in found["MAKERS"].items():
        maker(tmp_path / name, tmp_path / "photos", (1000, 1000))
        overrides = (*found["RECIPES"][name], found["PRETRAINED"], "data.num_workers=0")
        assert faults_of(*overrides, f"data.root={tmp_path / name}") == []
