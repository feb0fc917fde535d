"""Operator counts of exported files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from parcnet_train.deploy.formats.exported_program import load_program
from parcnet_train.deploy.formats.packages import needed

# Operators that are not counted, since they compute nothing.
LEFT_OUT = ("Constant", "Identity")


def count_onnx(path: Path) -> dict[str, int]:
    """Count the operators of an ONNX file by type, the most frequent ones first."""
    nodes = needed("onnx", "onnx").load(str(path)).graph.node
    counted = Counter(node.op_type for node in nodes if node.op_type not in LEFT_OUT)
    return dict(counted.most_common())


def count_program(path: Path) -> dict[str, int]:
    """Count the operators of a torch.export file by name, the most frequent ones first."""
    nodes = load_program(path).graph.nodes
    counted = Counter(str(node.target) for node in nodes if node.op == "call_function")
    return dict(counted.most_common())
