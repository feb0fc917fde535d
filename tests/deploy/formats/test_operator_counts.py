"""Operator counts of exported files."""

import onnx
import torch
from onnx import TensorProto, helper
from torch import nn

from parcnet_train.deploy.formats.operator_counts import count_onnx, count_program


def test_onnx_operators_are_counted_without_constants(tmp_path):
    value = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    nodes = [
        helper.make_node("Constant", [], ["c"], value=value),
        helper.make_node("Sigmoid", ["x"], ["a"]),
        helper.make_node("Add", ["a", "c"], ["b"]),
        helper.make_node("Add", ["b", "c"], ["d"]),
        helper.make_node("Identity", ["d"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [x], [y])), tmp_path / "a.onnx")
    assert list(count_onnx(tmp_path / "a.onnx").items()) == [("Add", 2), ("Sigmoid", 1)]


def test_exported_program_operators_are_counted_by_name(tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Conv2d(3, 3, 1))
    program = torch.export.export(network.eval(), (torch.zeros(1, 3, 4, 4),))
    torch.export.save(program, tmp_path / "a.pt2")
    assert list(count_program(tmp_path / "a.pt2").items()) == [
        ("aten.conv2d.default", 2),
        ("aten.relu.default", 1),
    ]
