"""ONNX files, written with torch's exporter and run by ONNX Runtime."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from parcnet_train.deploy.exportable import (
    DECODED,
    DEFAULTS,
    INPUT,
    OPSET,
    Decoding,
    Exportable,
    FileOptions,
)
from parcnet_train.deploy.formats.packages import needed
from parcnet_train.deploy.runtimes import open_model
from parcnet_train.errors import ConfigError, first_line
from parcnet_train.files import scratch_folder, write_whole

CANDIDATES = ("candidate_boxes", "candidate_scores")  # inputs of NMS in the graph


def write_onnx(
    network: Exportable,
    path: Path,
    description: dict[str, str],
    options: FileOptions = DEFAULTS,
) -> None:
    """Write a network as an ONNX file.

    Args:
        network: Network to write.
        path: Path of the file.
        description: Metadata of the file.
        options: Settings of the file.

    Raises:
        ConfigError: If onnx is not installed, or the opset lacks an operator.
        TrainingError: If the file cannot be written.
    """
    onnx = needed("onnx", "onnx")
    decoding = network.decoding
    names = network.names if decoding is None else CANDIDATES
    dynamic_batch = options.dynamic_batch and decoding is None
    model = record(
        network, network.example(), names, dynamic_batch, not network.is_baked, options.opset
    )
    if decoding is not None:
        suppress_overlaps(model, decoding)
    if options.half:
        model = with_half_weights(model)
    onnx.helper.set_model_props(model, description)
    onnx.checker.check_model(model, full_check=True)
    write_whole(path, model.SerializeToString())


def record(
    network: nn.Module,
    example: Tensor,
    names: Sequence[str],
    dynamic_batch: bool = False,
    dynamo: bool = False,
    opset: int = OPSET,
) -> Any:
    """Convert a network to an ONNX model with torch's exporter.

    Torch has two exporters. The older one, which traces the network, is the default here: its
    graphs are as fast, and it takes a tenth of the time. It cannot determine the shape of resized
    kernels.

    Args:
        network: Network to convert.
        example: Batch of one image.
        names: Names of the outputs.
        dynamic_batch: Whether the batch size is free; otherwise it is one.
        dynamo: Whether to use the newer exporter.
        opset: Version of the operators.

    Raises:
        ConfigError: If onnx is not installed, or the opset lacks an operator.
    """
    onnx = needed("onnx", "onnx")
    axes = {name: {0: "batch"} for name in (INPUT, *names)} if dynamic_batch else None
    with scratch_folder() as folder, warnings.catch_warnings():
        # The older exporter warns that it is deprecated, and about every size that it traces as a
        # constant.
        warnings.simplefilter("ignore")
        path = folder / "network.onnx"
        try:
            torch.onnx.export(
                network.eval(),
                (example,),
                str(path),
                dynamo=dynamo,
                external_data=False,
                verbose=False,
                opset_version=opset,
                input_names=[INPUT],
                output_names=list(names),
                dynamic_axes=axes,
            )
        except (
            torch.onnx.errors.UnsupportedOperatorError
        ) as error:  # its message names the operator
            raise ConfigError(f"export.opset={opset}: {first_line(error)}") from error
        return onnx.load(str(path))


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Silence ONNX Runtime's tools, which log to the root logger about constants and nodes."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def with_half_weights(model: Any) -> Any:
    """Return a model that computes in float16, with inputs and outputs as before."""
    convert = needed("onnxruntime.transformers.float16", "onnx").convert_float_to_float16
    sorting = needed("onnxruntime.transformers.onnx_model", "onnx").OnnxModel
    with quietly():
        halved = sorting(convert(model, keep_io_types=True))
        halved.topological_sort()  # the conversions of the inputs come last otherwise
    return halved.model


def suppress_overlaps(model: Any, decoding: Decoding) -> None:
    """Add NMS within each class to a model, and sort the objects by score.

    ONNX's NMS operator processes the images of a batch independently. Here the classes stand for
    the images, so that every class has its own candidates.

    Args:
        model: ONNX model with the outputs `CANDIDATES`; changed in place.
        decoding: Settings of the post-processing.
    """
    onnx = needed("onnx", "onnx")
    node, constant = onnx.helper.make_node, onnx.numpy_helper.from_array
    boxes, scores = CANDIDATES
    numbers = {
        "one": np.array([1]),
        "first_and_last": np.array([0, 2]),
        "zero": np.array(0),
        "most": np.array([decoding.per_image]),
        "iou": np.array([decoding.nms_iou], np.float32),
        "threshold": np.array([decoding.score_threshold], np.float32),
    }
    model.graph.initializer.extend(constant(value, name) for name, value in numbers.items())
    model.graph.node.extend(
        [
            node("Unsqueeze", [scores, "one"], ["scores_of_classes"]),
            node(
                "NonMaxSuppression",
                [boxes, "scores_of_classes", "most", "iou", "threshold"],
                ["kept"],
            ),
            node("Gather", ["kept", "first_and_last"], ["places"], axis=1),
            node("GatherND", [boxes, "places"], ["kept_boxes"]),
            node("GatherND", [scores, "places"], ["kept_scores"]),
            node("Gather", ["kept", "zero"], ["kept_classes"], axis=1),
            node("Add", ["kept_classes", "one"], ["kept_labels"]),  # 0 is the background
            node("Shape", ["kept_scores"], ["found"]),
            node("Min", ["found", "most"], ["count"]),
            node("TopK", ["kept_scores", "count"], ["scores", "order"]),
            node("Gather", ["kept_boxes", "order"], ["boxes"]),
            node("Gather", ["kept_labels", "order"], ["labels"]),
        ]
    )
    kinds = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT, onnx.TensorProto.INT64)
    shapes: tuple[list[str | int], ...] = (["objects", 4], ["objects"], ["objects"])
    del model.graph.output[:]
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, kind, shape)
        for name, kind, shape in zip(DECODED, kinds, shapes, strict=True)
    )


class OnnxFile:
    """ONNX file, run by ONNX Runtime on the CPU.

    Args:
        path: Path of the file.
        threads: Number of threads per inference.

    Raises:
        ConfigError: If onnx or onnxruntime is not installed.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        needed("onnxruntime", "onnx")
        model = needed("onnx", "onnx").load(str(path))
        self.names = [each.name for each in model.graph.output]
        self.metadata = {each.key: each.value for each in model.metadata_props}
        self.run = open_model("onnxruntime", path, threads)
