"""The script that times exported files without this package."""

import argparse
import ast
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bundles import make_bundle
from parcnet_train.deploy.runtimes import OPENERS, PACKAGES, SUFFIXES
from parcnet_train.deploy.standalone import command, timing
from parcnet_train.deploy.standalone.command import size_of
from parcnet_train.deploy.standalone.write import write_timer


def test_image_size_is_read_from_file_names():
    assert size_of(Path("parcnet_s-classification-256x192.onnx"), (1, 2)) == (256, 192)
    assert size_of(Path("8x8/net.onnx"), (1, 2)) == (1, 2)


def test_every_runtime_has_all_its_rows():
    assert OPENERS.keys() == PACKAGES.keys() == set(SUFFIXES.values())


def run_timer(script, *arguments):
    """Run the script in its folder, as its users do."""
    command = [sys.executable, script.name, *arguments]
    return subprocess.run(command, cwd=script.parent, capture_output=True, text=True)


def test_all_files_beside_the_script_are_timed(tmp_path):
    script, _ = make_bundle(tmp_path, first="", second="")
    finished = run_timer(script, "--iterations", "3", "--warmup", "1", "--output", "times.json")
    assert finished.returncode == 0, finished.stderr
    assert "talks" not in finished.stdout
    results = json.loads((tmp_path / "times.json").read_text())
    assert (results["hardware/threads"], results["iterations"]) == (1, 3)
    for name in ("first-8x16.onnx", "second-8x16.onnx"):
        assert f" {name}\n" in finished.stdout
        median, p99 = (results[f"latency/{name}/milliseconds{end}"] for end in ("", "_p99"))
        assert 0 < median <= p99
        assert results[f"latency/{name}/bytes"] == 0
        assert results[f"latency/{name}/load_milliseconds"] > 0
        assert f"latency/{name}/peak_memory_bytes" in results


def test_files_that_cannot_be_run_are_left_out(tmp_path):
    script, _ = make_bundle(tmp_path, good="", bad="broken", dying="dies")
    finished = run_timer(script, "--iterations", "2")
    assert (finished.returncode, finished.stderr) == (0, "")
    assert re.search(
        r"^left out bad-8x16\.onnx: .*no such operator$", finished.stdout, re.MULTILINE
    )
    assert re.search(
        r"^left out dying-8x16\.onnx: .*signal 9 .* Fix: ", finished.stdout, re.MULTILINE
    )
    results = json.loads((tmp_path / "latency.json").read_text())
    timed = {key.split("/")[1] for key in results if key.startswith("latency/")}
    assert timed == {"good-8x16.onnx"}


def test_without_a_file_that_runs_there_is_an_error_of_one_line(tmp_path):
    script, _ = make_bundle(tmp_path, bad="broken")
    finished = run_timer(script)
    assert finished.returncode == 1
    assert re.search(r"^error: no file is left that can be run\. Fix: .*\n$", finished.stderr)
    assert not (tmp_path / "latency.json").exists()


def test_files_of_equal_names_do_not_overwrite_each_other(tmp_path):
    script, _ = make_bundle(tmp_path)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x-8x16.onnx").touch()
    names = ["a/x-8x16.onnx", "b/x-8x16.onnx"]
    finished = run_timer(script, *names, f"./{names[0]}", "--iterations", "1")
    assert finished.returncode == 0, finished.stderr
    results = json.loads((tmp_path / "latency.json").read_text())
    assert [name for name in names if f"latency/{name}/bytes" in results] == names
    assert [finished.stdout.count(f" {name}\n") for name in names] == [1, 1]


@pytest.mark.skipif(os.name != "posix", reason="the system has no signals of this kind")
def test_ctrl_c_ends_the_script_and_its_workers(tmp_path):
    script, _ = make_bundle(tmp_path, file="waits")
    command = [sys.executable, script.name]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    waiting = tmp_path / "waiting"
    while not (waiting.exists() and waiting.read_text()):
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, errors = process.communicate()
    assert (process.returncode, errors) == (130, b"")
    with pytest.raises(ProcessLookupError):
        os.kill(int(waiting.read_text()), 0)


def test_a_failed_write_is_an_error_of_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    def fail(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(command.os, "fsync", fail)
    monkeypatch.setattr(command, "measured", lambda _: ([], timing.machine(1, None)))
    monkeypatch.setattr(
        command, "arguments", lambda: argparse.Namespace(output=tmp_path / "a.json")
    )
    with pytest.raises(SystemExit, match=r"^error: .*No space left on device$"):
        command.main()
    assert list(tmp_path.iterdir()) == []


def test_files_of_missing_runtimes_are_named_and_the_others_timed(tmp_path, monkeypatch, capsys):
    script, paths = make_bundle(tmp_path, good="")
    others = [tmp_path / f"other{suffix}" for suffix in (".mnn", ".param", ".pte")]
    for file in others:
        file.touch()
    find = command.importlib.util.find_spec

    def find_spec(name):
        if name == "executorch":
            return object()
        return None if name in ("MNN", "ncnn", "torch") else find(name)

    monkeypatch.setattr(command.importlib.util, "find_spec", find_spec)
    monkeypatch.setattr(command, "__file__", str(script))
    monkeypatch.setattr(sys, "argv", [str(script)])
    monkeypatch.chdir(tmp_path)
    assert command.arguments().files == [Path(paths["good"].name)]
    said = capsys.readouterr().out
    missing = [re.search(f"skipped {each.name}: missing .* Fix: (.*)", said)[1] for each in others]
    assert missing == [f"pip install {name}" for name in ("MNN", "ncnn", "torch")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x.txt"], r"x\.txt: .*\.onnx, \.xml, \.mnn"),
        (["absent.onnx"], r"absent\.onnx: expected an existing file"),
        (["small.onnx", "--threads", "0"], r"--threads .*at least 1"),
        (["small.onnx", "--threads", "99999"], r"--threads 99999: this process has \d+ cores"),
        (["small.onnx", "--size", "-1", "8"], r"--size: .*at least 1"),
        (["small.onnx", "--output", "absent/a.json"], r"--output absent/a\.json: expected"),
        (["small.onnx", "--output", "script"], r"--output script: expected a file"),
        ([], r"no file that can be timed\. Fix: "),
    ],
)
def test_wrong_arguments_are_rejected(arguments, message, tmp_path, monkeypatch, capsys):
    for name in ("x.txt", "small.onnx"):
        (tmp_path / name).touch()
    script = tmp_path / "script" / "time_models.py"
    script.parent.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "__file__", str(script))
    monkeypatch.setattr(sys, "argv", [str(script), *arguments])
    with pytest.raises(SystemExit, match="2"):
        command.arguments()
    assert re.search(message, capsys.readouterr().err)


def test_the_script_needs_python_3_9_and_numpy_only(tmp_path):
    text = write_timer(tmp_path).read_text()
    imports = set(re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE))
    assert imports - sys.stdlib_module_names == {"numpy"}
    tree = ast.parse(text, feature_version=(3, 9))
    names = [each.name for each in tree.body if isinstance(each, ast.FunctionDef | ast.ClassDef)]
    assigned = [each for each in tree.body if isinstance(each, ast.Assign | ast.AnnAssign)]
    parts = [node for each in assigned for node in ast.walk(each) if isinstance(node, ast.Name)]
    names += [node.id for node in parts if isinstance(node.ctx, ast.Store)]
    assert len(names) == len(set(names))  # the modules that it is made of do not collide
