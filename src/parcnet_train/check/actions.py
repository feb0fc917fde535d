"""Checks of the settings of actions: options, input files, and folders to write to."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from parcnet_train.benchmarks.exported import FORMAT_OF, INT8, INT8_RUNTIMES
from parcnet_train.config.keys import show, value_of
from parcnet_train.deploy.exportable import OPSET, OUTPUTS
from parcnet_train.deploy.formats.formats import FORMATS, verification_of
from parcnet_train.deploy.standalone.timing import ITERATIONS
from parcnet_train.errors import DataError, Fault
from parcnet_train.predict.inputs import EXPECTED, STDIN, find_images
from parcnet_train.runs.actions import times_images

Config = dict[str, Any]

# Task that each benchmark target needs; the other targets support every task.
TASK_OF = {
    "detection": "detection",
    "distillation": "classification",
    "latency": "classification",
    "loader": "classification",
    "overhead": "classification",
    "train_step": "classification",
}

# Keys that MLPerf's protocol does not use, with their defaults.
UNUSED = {
    "benchmark.iterations": ITERATIONS,
    "export.format": "onnx",
    "export.size": None,
    "export.opset": OPSET,
    "export.preprocess": False,
    "export.precision": "float32",
    "export.float_layers": [],
    "export.sensitivity": False,
    "export.decode": False,
    "export.argmax": False,
}


def wrong_paths(config: Config) -> Iterator[Fault]:
    """Report folders that cannot be written to."""
    for key in ("paths.runs", "paths.cache"):
        path = str(value_of(config, key))
        wanted = Path(path).expanduser().absolute()
        folder = next(each for each in (wanted, *wanted.parents) if os.access(each, os.F_OK))
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            yield Fault(key, f"{show(key, path)}: {folder} is not a writable folder")


def wrong_input(config: Config) -> Iterator[Fault]:
    """Report a missing input of action=predict, and an input that another action does not read."""
    given, action = config["input"], config["action"]
    if action != "predict":
        if given is not None:
            yield Fault(
                "input",
                f"input={given}: action={action} does not read images. Fix: leave input out, or "
                "set action=predict",
            )
    elif given is None:
        yield Fault("input", f"input has no value; {EXPECTED}")
    elif given != STDIN:  # it can be read only once
        try:
            find_images(given, Path(config["paths"]["runs"]))
        except DataError as error:
            yield Fault("input", str(error))


def wrong_target(config: Config) -> Iterator[Fault]:
    """Report a benchmark that does not support the task."""
    if config["action"] != "benchmark":
        return
    settings, task = config["benchmark"], config["choices"]["task"]
    target = settings["target"]
    measured = TASK_OF.get(target, task)
    if times_images(settings):
        yield from wrong_stream(config)
    elif task != measured:
        yield Fault(
            "benchmark.target",
            f"benchmark.target={target}: it does not support task={task}; expected task={measured}",
        )


def wrong_stream(config: Config) -> Iterator[Fault]:
    """Report what MLPerf's protocol lacks, or does not use."""
    key, task = "benchmark.protocol=mlperf_mobile", config["choices"]["task"]
    if config["ckpt"] is None:
        yield Fault(
            "ckpt", f"{key}: it times a trained network, whose accuracy it measures. Fix: ckpt=RUN"
        )
    if task not in OUTPUTS:
        yield Fault(
            "task",
            f"{key}: it does not know the outputs of task={task}; expected "
            f"task={'|'.join(OUTPUTS)}",
        )
    if config["benchmark"]["backbones"] is not None:
        yield Fault(
            "benchmark.backbones",
            f"{key}: it times the network of ckpt; expected benchmark.backbones=null",
        )
    for name, unused in UNUSED.items():
        if (given := value_of(config, name)) != unused:
            yield Fault(
                name,
                f"{show(name, given)}: {key} does not use this key; expected {show(name, unused)}",
            )
    yield from wrong_ranges(config)


def wrong_ranges(config: Config) -> Iterator[Fault]:
    """Report settings of int8 that a runtime of MLPerf's protocol does not use."""
    settings = config["benchmark"]
    quantizing = [each for each in settings["runtimes"] if each in INT8_RUNTIMES]
    knowing = [each for each in INT8_RUNTIMES if FORMATS[FORMAT_OF[each]].knows_ranges]
    for key in ("percentile", "symmetric"):
        given = config["export"][key]
        if given and not (INT8 in settings["forms"] and set(quantizing) <= set(knowing)):
            yield Fault(
                f"export.{key}",
                f"{show(f'export.{key}', given)}: expected {INT8} in benchmark.forms, and of the "
                f"runtimes with int8 only {' and '.join(knowing)} in benchmark.runtimes",
            )


def wrong_export(config: Config) -> Iterator[Fault]:
    """Report export settings that the format or the task does not support."""
    settings, task = config["export"], config["choices"]["task"]
    if config["action"] != "export":
        return
    if task not in OUTPUTS:
        yield Fault(
            "task",
            f"task={task}: action=export does not know the outputs of this task; expected "
            f"task={'|'.join(OUTPUTS)}",
        )
        return
    if settings["argmax"] and task != "segmentation":
        yield Fault(
            "export.argmax",
            f"export.argmax=true: task={task} does not classify pixels; expected task=segmentation",
        )
    if settings["decode"] and task != "detection":
        yield Fault(
            "export.decode",
            f"export.decode=true: task={task} does not detect objects; expected task=detection",
        )
    form = settings["format"]
    yield from wrong_graph(settings)
    system = platform.system()
    has_logits = not settings["argmax"] and not settings["decode"]
    verification = verification_of(settings["verify"], settings["precision"], has_logits)
    if verification != "none" and FORMATS[form].macos_only and system != "Darwin":
        yield (
            Fault(
                "export.verify",
                f"export.verify={verification}: only macOS can run files of export.format={form}, "
                f"but this system is {system}. Fix: set export.verify=none",
            )
        )
    lacking = "which a file with export.argmax=true or export.decode=true does not output"
    if settings["verify"] == "metric" and not has_logits:
        yield (
            Fault(
                "export.verify",
                f"export.verify=metric: the metric needs logits, {lacking}. Fix: set "
                "export.verify=outputs",
            )
        )
    if settings["sensitivity"] and not has_logits:
        yield (
            Fault(
                "export.sensitivity",
                f"export.sensitivity=true: it compares logits, {lacking}. Fix: list the layers of "
                "a file with logits; their names are the same",
            )
        )
    yield from wrong_precision(settings)


def wrong_packages(config: Config) -> Iterator[Fault]:
    """Report packages that the format of an export needs and that are not installed."""
    if config["action"] != "export":
        return
    settings = config["export"]
    form, precision = settings["format"], settings["precision"]
    needed = FORMATS[form].packages
    if precision != "float32" or settings["verify"] != "none":
        needed += FORMATS[form].runtime
    if precision == "int8":
        needed += FORMATS[form].quantizer
    if missing := [name for name in needed if find_spec(name) is None]:
        yield Fault(
            "export.format",
            f"export.format={form}: this format needs packages that are not installed "
            f"({', '.join(missing)}). Fix: pip install 'parcnet-train[{form}]'",
        )


def wrong_graph(settings: dict[str, Any]) -> Iterator[Fault]:
    """Report parts of a graph that the format of the file cannot have."""
    able = {
        "decode": [name for name, each in FORMATS.items() if each.decodes],
        "argmax": [name for name, each in FORMATS.items() if each.argmaxes],
        "preprocess": [name for name, each in FORMATS.items() if each.takes_pixels],
    }
    for key, formats in able.items():
        if settings[key] and settings["format"] not in formats:
            yield Fault(
                f"export.{key}",
                f"export.{key}=true: export.format={settings['format']} does not support it; "
                f"expected export.format={'|'.join(formats)}",
            )


def wrong_precision(settings: dict[str, Any]) -> Iterator[Fault]:
    """Report formats that lack a precision or an opset, and settings that need another one."""
    form, precision = settings["format"], settings["precision"]
    able = {
        "int8": [name for name, each in FORMATS.items() if each.quantizable is not None],
        "float16": [name for name, each in FORMATS.items() if each.halves],
    }.get(precision, list(FORMATS))
    if form not in able:
        yield Fault(
            "export.precision",
            f"export.precision={precision}: export.format={form} does not support it; expected "
            f"export.format={'|'.join(able)}",
        )
    converted = [name for name, each in FORMATS.items() if each.from_onnx]
    if settings["opset"] != OPSET and form not in converted:
        yield Fault(
            "export.opset",
            f"export.opset={settings['opset']}: export.format={form} has no ONNX operators; "
            f"expected export.format={'|'.join(converted)}",
        )
    if (form, precision) == ("mnn", "int8"):
        for key in ("preprocess", "decode"):
            if settings[key]:
                yield Fault(
                    f"export.{key}",
                    f"export.{key}=true: MNN's quantizer does not support it; expected "
                    "export.precision=float32 or export.format=onnx",
                )
    layers = [name for name, each in FORMATS.items() if each.knows_layers]
    ranges = [name for name, each in FORMATS.items() if each.knows_ranges]
    needed = {"sensitivity": layers, "float_layers": layers}
    needed |= {"percentile": ranges, "symmetric": ranges}
    for key, knowing in needed.items():
        if settings[key] and not (precision == "int8" and form in knowing):
            yield Fault(
                f"export.{key}",
                f"{show(f'export.{key}', settings[key])}: expected export.precision=int8 and "
                f"export.format={'|'.join(knowing)}",
            )
    if settings["calibration"] is not None:
        yield from wrong_calibration(settings["calibration"], precision)


def wrong_calibration(folder: str, precision: str) -> Iterator[Fault]:
    """Report images for ranges that are missing, or that no precision needs."""
    key = "export.calibration"
    if precision != "int8":
        yield Fault(
            key, f"{key}={folder}: only int8 measures ranges; expected export.precision=int8"
        )
        return
    try:
        find_images(folder, key=key)
    except DataError as error:
        yield Fault(key, str(error))
