"""Inference of exported files in their own runtimes.

The text of this module is copied into the scripts beside exported files, so it must run with Python
3.9, NumPy and only one of the runtimes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from parcnet_train.deploy.programs import DESCRIPTION, read_program

Arrays = dict[str, Any]  # NumPy arrays by name
Run = Callable[[Any], Arrays]

INPUT = "images"
SUFFIXES = {
    ".pt2": "pytorch",
    ".onnx": "onnxruntime",
    ".xml": "openvino",
    ".mnn": "mnn",
    ".param": "ncnn",
    ".tflite": "litert",
    ".pte": "executorch",
}
# Packages that a runtime needs; the first one is the runtime itself.
PACKAGES = {
    "pytorch": ("torch",),
    "onnxruntime": ("onnxruntime",),
    "openvino": ("openvino",),
    "mnn": ("MNN",),
    "ncnn": ("ncnn",),
    "litert": ("ai-edge-litert",),
    "executorch": ("executorch", "torch"),  # which its Python binding imports, but does not require
}


def open_model(runtime: str, path: Path, threads: int = 1) -> Run:
    """Open a file for inference on the CPU, in float32.

    Args:
        runtime: Name of the runtime, a key of `OPENERS`.
        path: Path of the file.
        threads: Number of threads per inference.

    Returns:
        A function that takes float32 images `(B, 3, H, W)` and returns the outputs by name.

    Raises:
        ModuleNotFoundError: If the runtime is not installed.
        ProgramError: If a file of torch.export has what this package does not write.
    """
    return OPENERS[runtime](path, threads)


def open_program(path: Path, threads: int) -> Run:
    """Open a file of torch.export with torch, whose processes have one number of threads for all.

    It is that of `OMP_NUM_THREADS`, which is set for the process; `threads` changes nothing.
    Nothing in the file is executed, see `read_program`.
    """
    import torch

    texts = {DESCRIPTION: ""}
    module = read_program(path, texts).module()
    names = json.loads(texts[DESCRIPTION])["outputs"]

    def run(images: Any) -> Arrays:
        with torch.inference_mode():
            outputs = module(torch.from_numpy(images))
        return {name: output.numpy() for name, output in zip(names, outputs)}

    return run


def open_onnx(path: Path, threads: int) -> Run:
    """Open a file with ONNX Runtime: all graph optimizations, and threads that spin (default)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(images: Any) -> Arrays:
        return dict(zip(names, session.run(names, {INPUT: images})))

    return run


def open_openvino(path: Path, threads: int) -> Run:
    """Open a file with OpenVINO, in float32: its default is bfloat16 if the CPU supports it."""
    import openvino

    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()

    def run(images: Any) -> Arrays:
        outputs = request.infer({INPUT: images}, share_inputs=True)
        return {port.any_name: value for port, value in outputs.items()}

    return run


def open_mnn(path: Path, threads: int) -> Run:
    """Open a file with MNN, in float32: without `precision` it computes in float16."""
    import MNN

    settings = {"backend": "CPU", "precision": "high", "numThread": threads}
    manager = MNN.nn.create_runtime_manager((settings,))
    # Loaded without names, a module reports the names of all its outputs.
    names = MNN.nn.load_module_from_file(str(path), [], []).get_info()["outputNames"]
    module = MNN.nn.load_module_from_file(str(path), [INPUT], names, runtime_manager=manager)

    def run(images: Any) -> Arrays:
        kind = MNN.expr.uint8 if images.dtype == np.uint8 else MNN.expr.float
        variable = MNN.expr.placeholder(list(images.shape), MNN.expr.NCHW, kind)
        variable.write(images)
        return dict(zip(names, map(values_of, module.onForward([variable]))))

    def values_of(output: Any) -> Any:
        if 0 in output.shape:  # no object was found; MNN cannot read empty outputs
            return np.zeros(output.shape, np.float32)
        # A copy, because MNN frees the memory together with the variable.
        return np.array(MNN.expr.convert(output, MNN.expr.NCHW).read())

    return run


def open_ncnn(path: Path, threads: int) -> Run:
    """Open a file with ncnn, in float32: its default is float16 where the CPU supports it."""
    import ncnn

    network = ncnn.Net()
    network.opt.num_threads = threads
    for name in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
        setattr(network.opt, f"use_{name}", False)
    weights = str(path)[: -len(".param")] + ".bin"
    if network.load_param(str(path)) or network.load_model(weights):
        raise RuntimeError(f"ncnn cannot load {path}")
    (source,) = network.input_names()
    names = network.output_names()

    def run(images: Any) -> Arrays:
        extractor = network.create_extractor()
        extractor.input(source, ncnn.Mat(images[0]).clone())  # without the axis of the batch
        outputs = {name: extractor.extract(name) for name in names}
        if any(code for code, _ in outputs.values()):
            raise RuntimeError(f"ncnn cannot run {path}")
        return {name: np.array(output)[None] for name, (_, output) in outputs.items()}

    return run


def open_litert(path: Path, threads: int) -> Run:
    """Open a file with LiteRT, which computes in float32 with XNNPACK."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=threads)
    interpreter.allocate_tensors()  # otherwise done in the first inference
    runner = interpreter.get_signature_runner()

    def run(images: Any) -> Arrays:
        return dict(runner(**{INPUT: images}))

    return run


def open_executorch(path: Path, threads: int) -> Run:
    """Open a file with ExecuTorch.

    Its threads are those of the process: files that were opened before with another number of
    threads must not run any more.
    """
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls itself experimental
        import torch  # the runtime's Python binding takes and returns its tensors
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime

    if portable_lib._threadpool_get_thread_count() != threads:
        portable_lib._unsafe_reset_threadpool(threads)
    program = Runtime.get().load_program(path)
    (names,) = program.load_method("outputs").execute(())
    network = program.load_method("forward")

    def run(images: Any) -> Arrays:
        outputs = network.execute((torch.from_numpy(images),))
        return {name: each.numpy() for name, each in zip(json.loads(names), outputs)}

    return run


OPENERS: dict[str, Callable[[Path, int], Run]] = {
    "pytorch": open_program,
    "onnxruntime": open_onnx,
    "openvino": open_openvino,
    "mnn": open_mnn,
    "ncnn": open_ncnn,
    "litert": open_litert,
    "executorch": open_executorch,
}
