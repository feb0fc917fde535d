"""Processes that run the files of one runtime."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bundles import make_bundle
from parcnet_train.deploy.standalone import memory
from parcnet_train.deploy.standalone import workers as module
from parcnet_train.deploy.standalone.workers import (
    Models,
    Worker,
    WorkerError,
    footprint_of,
    image_of,
    parts_of,
    workers,
)

IMAGES = np.full((1, 3, 8, 16), 0.5, np.float32)
RUNTIME = "onnxruntime"


def test_a_file_runs_in_the_process_of_its_runtime(tmp_path):
    script, paths = make_bundle(tmp_path, first="", second="")
    with workers(script, [RUNTIME, RUNTIME], threads=3) as running:
        (worker,) = running.values()
        for path in paths.values():
            assert worker.ask("open", path, IMAGES) is None
            ((process, threads, total),) = worker.ask("outputs", path)["logits"]
            assert (process, threads, total) == (worker.process.pid, 3, IMAGES.sum())
        assert len(worker.ask("time", paths["first"], [0, 0])) == 2
        assert worker.process.pid != os.getpid()
    assert worker.process.poll() is not None


def test_the_end_of_a_process_names_runtime_and_file(tmp_path):
    script, paths = make_bundle(tmp_path, dying="dies")
    with Worker(script, RUNTIME, 1) as worker:
        worker.ask("open", paths["dying"], IMAGES)
        for _ in range(2):  # also when it has ended before
            with pytest.raises(WorkerError, match=r"onnxruntime: .*signal 9.*dying-8x16\.onnx"):
                worker.ask("outputs", paths["dying"])


def test_a_broken_file_does_not_end_the_process(tmp_path):
    script, paths = make_bundle(tmp_path, broken="broken", good="")
    with Worker(script, RUNTIME, 1) as worker:
        with pytest.raises(WorkerError, match=r"run .*broken-8x16\.onnx: ValueError: no such oper"):
            worker.ask("open", paths["broken"], IMAGES)
        worker.ask("open", paths["good"], IMAGES)


def test_errors_have_one_line(tmp_path):
    script, paths = make_bundle(tmp_path, broken="broken")
    with pytest.raises(WorkerError, match=r"ValueError: no such operator$"):
        footprint_of(script, RUNTIME, 1, paths["broken"], IMAGES)


def test_only_a_failed_inference_is_blamed_on_the_images(tmp_path):
    script, paths = make_bundle(tmp_path, bytes="bytes", broken="broken", dying="dies")
    messages = {}
    for name, path in paths.items():
        with pytest.raises(WorkerError) as caught:
            footprint_of(script, RUNTIME, 1, path, IMAGES)
        messages[name] = str(caught.value)
    assert "expected uint8. Fix: it must take float32 images (1, 3, 8, 16)" in messages["bytes"]
    assert "Fix" not in messages["broken"]
    assert messages["dying"].endswith("lack of memory. Fix: time fewer files at once")


def test_what_the_interpreter_prints_first_is_no_answer(tmp_path, monkeypatch):
    """As pickle, the text is a string of 1.7 GB, for which a reader would wait forever."""
    script, paths = make_bundle(tmp_path, file="")
    (tmp_path / "sitecustomize.py").write_text("print('Tvery talkative', end='', flush=True)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Worker(script, RUNTIME, 1) as worker:
        assert worker.ask("open", paths["file"], IMAGES) is None


def test_unreadable_answers_end_the_process(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "GRACE", 0.05)
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.stdout.buffer.write({module.ANSWER + bytes([255])!r})\n"
        "sys.stdout.flush(); sys.stdin.read()"
    )
    with Worker(script, RUNTIME, 1) as worker:
        with pytest.raises(WorkerError, match=r"onnxruntime: .*unreadable answer .*a\.onnx"):
            worker.ask("open", Path("a.onnx"), IMAGES)
        assert worker.process.poll() is not None


@pytest.mark.skipif(memory.memory_now() is None, reason="the memory is not reported")
def test_memory_and_size_are_those_of_the_file(tmp_path):
    script, paths = make_bundle(tmp_path, small="", large="large")
    small, large = (footprint_of(script, RUNTIME, 1, path, IMAGES) for path in paths.values())
    assert (small["bytes"], large["bytes"]) == (0, len("large"))
    assert 64e6 <= large["peak_memory_bytes"] < 80e6
    assert small["peak_memory_bytes"] < 16e6
    assert large["load_milliseconds"] > 0


def test_footprints_are_medians_of_three_processes(tmp_path, monkeypatch):
    loads, memories = iter([9.0, 1.0, 2.0, 9.0, 1.0, 2.0]), iter([30, 10, 40, 30, None, 40])

    def ask(worker, request, path, images):
        return {"load_milliseconds": next(loads), "peak_memory_bytes": next(memories)}

    monkeypatch.setattr(Worker, "ask", ask)
    script, paths = make_bundle(tmp_path, file="")
    found = [footprint_of(script, RUNTIME, 1, paths["file"], IMAGES) for _ in range(2)]
    assert found == [
        {"load_milliseconds": 2.0, "peak_memory_bytes": 30},
        {"load_milliseconds": 2.0, "peak_memory_bytes": None},
    ]


OPENS = """
import importlib, sys, torch
from pathlib import Path
from parcnet_train.deploy.standalone.workers import LIBRARIES, Models

network = torch.nn.ReLU()
images = torch.zeros(1, 3, 8, 8)
if sys.argv[2] == "write":
    program = torch.export.export(network, (images,))
    torch.export.save(program, sys.argv[1], extra_files={"description.json": '{"outputs": ["a"]}'})
else:
    importlib.import_module(LIBRARIES["pytorch"])
    before = len(sys.modules)
    Models("pytorch", 1).footprint(sys.argv[1], images.numpy())
    print(len(sys.modules) - before)
"""


@pytest.mark.slow
def test_load_times_are_without_imports(tmp_path):
    """Without the import of the serializer, opening a file imports over 800 modules."""
    for what in ("write", "open"):
        command = [sys.executable, "-c", OPENS, str(tmp_path / "file.pt2"), what]
        finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(finished.stdout) < 100


def test_memory_is_unknown_on_other_systems(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "CLEAR", tmp_path / "missing" / "clear_refs")
    assert memory.memory_now() is None


def test_an_untimed_inference_comes_first(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(module, "open_model", lambda runtime, path, threads: seen.append)
    images = np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1) * np.ones((3, 3, 4, 5), np.uint8)
    np.save(tmp_path / "images.npy", images)
    models = Models(RUNTIME, 1)
    models.open("file", str(tmp_path / "images.npy"))
    times = models.time("file", [2, 0, 1])
    assert len(times) == 3
    assert min(times) >= 0
    assert [round(255 * float(image.mean())) for image in seen] == [2, 2, 0, 1]
    assert {(image.shape, image.dtype) for image in seen} == {((1, 3, 4, 5), np.dtype("float32"))}


def test_bytes_become_what_a_file_takes():
    images = np.array([0, 51, 255], np.uint8).reshape(3, 1, 1, 1)
    np.testing.assert_array_equal(image_of(images, 1), np.full((1, 1, 1, 1), np.float32(0.2)))
    same = image_of(IMAGES, 0)
    np.testing.assert_array_equal(same, IMAGES)


def test_weights_beside_a_graph_belong_to_it():
    assert parts_of(Path("a.xml")) == [Path("a.xml"), Path("a.bin")]
    assert parts_of(Path("a.ncnn.param")) == [Path("a.ncnn.param"), Path("a.ncnn.bin")]
    assert parts_of(Path("a.onnx")) == [Path("a.onnx")]


def test_workers_do_not_import_torch(tmp_path):
    script, paths = make_bundle(tmp_path, file="")
    (tmp_path / "torch.py").write_text("raise RuntimeError('torch is imported')")
    (tmp_path / "parcnet_train.py").write_text("raise RuntimeError('this package is imported')")
    with Worker(script, RUNTIME, 1) as worker:
        worker.ask("open", paths["file"], IMAGES)
