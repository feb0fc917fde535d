"""Changes to the graph of a LiteRT file: its metadata, and NMS after a detector's candidates.

The names of tables and fields are those of TensorFlow Lite's `schema.fbs`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from parcnet_train.deploy.exportable import DECODED, Decoding
from parcnet_train.deploy.formats.packages import needed

OURS = b"parcnet_train"  # name of the metadata
KEPT_BOXES, APART, KEPT_SCORES = CANDIDATES = ("candidate_boxes", "apart", "candidate_scores")


def schema() -> Any:
    """Import the classes of the tables.

    Raises:
        ConfigError: If ai-edge-litert is not installed.
    """
    return needed("ai_edge_litert.schema_py_generated", "litert")


def tools() -> Any:
    """Import the functions that read and write whole graphs."""
    return needed("ai_edge_litert.tools.flatbuffer_utils", "litert")


def description_of(content: bytes) -> dict[str, str]:
    """Return the metadata that `described` stored, empty if there are none."""
    model = schema().Model.GetRootAs(content, 0)
    for index in range(model.MetadataLength()):
        entry = model.Metadata(index)
        if entry.Name() == OURS:
            return json.loads(model.Buffers(entry.Buffer()).DataAsNumpy().tobytes())
    return {}


def described(content: bytes, description: Mapping[str, str]) -> bytes:
    """Return a file with other metadata: JSON in a buffer of its own."""
    model = tools().read_model_from_bytearray(bytearray(content))
    text = np.frombuffer(json.dumps(description).encode(), np.uint8)
    model.metadata = [each for each in model.metadata or [] if each.name != OURS]
    model.metadata.append(schema().MetadataT(OURS, len(model.buffers)))
    model.buffers.append(schema().BufferT(text))
    return bytes(tools().convert_object_to_bytearray(model))


def operators_of(content: bytes) -> dict[str, int]:
    """Count the operators of a file by type, the most frequent ones first."""
    model = tools().read_model_from_bytearray(bytearray(content))
    kinds = vars(schema().BuiltinOperator).items()
    names = {code: name for name, code in kinds if isinstance(code, int)}
    codes = [names[each.builtinCode] for each in model.operatorCodes]
    counted = Counter(codes[each.opcodeIndex] for each in model.subgraphs[0].operators)
    return dict(counted.most_common())


def with_suppression(content: bytes, decoding: Decoding, classes: int) -> bytes:
    """Add NMS to a file, which then returns the objects of one image, best first.

    One NMS serves all classes, since `APART` are the candidates' boxes moved so that those of two
    classes never overlap.

    Args:
        content: File with the outputs `CANDIDATES`, all classes one after the other.
        decoding: Settings of the post-processing.
        classes: Number of classes, except the background.
    """
    model = tools().read_model_from_bytearray(bytearray(content))
    (signature,) = model.signatureDefs
    indices = {each.name.decode(): each.tensorIndex for each in signature.outputs}
    boxes, apart, scores = (indices[name] for name in CANDIDATES)
    graph, count = Graph(model), decoding.per_image
    candidates = model.subgraphs[0].tensors[scores].shape[0]
    labels = np.arange(candidates, dtype=np.int32) // (candidates // classes) + 1
    limits = [np.int32(count), np.float32(decoding.nms_iou), np.float32(decoding.score_threshold)]
    kept, number = graph.add(
        "NON_MAX_SUPPRESSION_V4",
        [apart, scores, *map(graph.constant, limits)],
        [("kept", np.int32, [count]), ("number", np.int32, [])],
        "NonMaxSuppressionV4Options",
    )
    (size,) = graph.add(
        "RESHAPE", [number, graph.constant(np.array([1], np.int32))], [("size", np.int32, [1])]
    )
    (best,) = graph.add(
        "SLICE",
        [kept, graph.constant(np.array([0], np.int32)), size],
        [("best", np.int32, [-1])],
        "SliceOptions",
    )
    sources = (boxes, scores, graph.constant(labels))
    kinds = ((np.float32, [-1, 4]), (np.float32, [-1]), (np.int32, [-1]))
    outputs = [
        graph.add("GATHER", [source, best], [(name, *kind)], "GatherOptions")[0]
        for name, source, kind in zip(DECODED, sources, kinds, strict=True)
    ]
    model.subgraphs[0].outputs = outputs
    signature.outputs = [
        schema().TensorMapT(name.encode(), index)
        for name, index in zip(DECODED, outputs, strict=True)
    ]
    return bytes(tools().convert_object_to_bytearray(model))


class Graph:
    """The only graph of a file, to which operators are added.

    Args:
        model: Whole file as objects.
    """

    def __init__(self, model: Any) -> None:
        self.model, self.graph = model, model.subgraphs[0]

    def tensor(self, name: str, kind: Any, shape: Sequence[int], buffer: int = 0) -> int:
        """Add a tensor, and return its index; -1 stands for a size that is not known before."""
        kinds = schema().TensorType
        fields = {
            "name": name.encode(),
            "type": kinds.INT32 if kind == np.int32 else kinds.FLOAT32,
            "shape": [abs(side) for side in shape],
            "buffer": buffer,
        }
        if -1 in shape:
            fields["shapeSignature"] = list(shape)
        self.graph.tensors.append(schema().TensorT(**fields))
        return len(self.graph.tensors) - 1

    def constant(self, value: npt.ArrayLike) -> int:
        """Add a constant, and return the index of its tensor."""
        array = np.asarray(value)
        self.model.buffers.append(schema().BufferT(np.frombuffer(array.tobytes(), np.uint8)))
        buffer = len(self.model.buffers) - 1
        return self.tensor(f"constant_{buffer}", array.dtype, array.shape, buffer)

    def add(
        self,
        kind: str,
        inputs: Sequence[int],
        outputs: Sequence[tuple[str, Any, Sequence[int]]],
        options: str | None = None,
    ) -> list[int]:
        """Add an operator.

        Args:
            kind: Name of the built-in operator.
            inputs: Indices of its inputs.
            outputs: Name, type and shape of each output.
            options: Name of the table of its options, which keep their defaults.

        Returns:
            The indices of its outputs.
        """
        tables = schema()
        code = getattr(tables.BuiltinOperator, kind)
        self.model.operatorCodes.append(
            tables.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=min(code, 127), version=1)
        )
        indices = [self.tensor(*each) for each in outputs]
        operator = tables.OperatorT(
            opcodeIndex=len(self.model.operatorCodes) - 1, inputs=list(inputs), outputs=indices
        )
        if options is not None:
            operator.builtinOptionsType = getattr(tables.BuiltinOptions, options)
            operator.builtinOptions = getattr(tables, f"{options}T")()
        self.graph.operators.append(operator)
        return indices
