"""The circular convolution: definition, algorithms, gradients, automatic choice."""

import pytest
import torch
from torch import nn

from parcnet_train.models.layers.circular import ALGORITHMS, HEIGHT, WIDTH, circular_conv
from parcnet_train.models.layers.parc import CircularConv

NAMES = [*ALGORITHMS, "auto"]
SHAPES = [(1, 3, 1, 1), (2, 3, 1, 4), (3, 2, 4, 2), (1, 5, 7, 7), (2, 4, 8, 8), (3, 4, 20, 12)]
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def inputs(shape, axis, layout=torch.contiguous_format, dtype=torch.float64):
    size = [shape[1], 1, 1, 1]
    size[axis] = shape[axis]
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=dtype).contiguous(memory_format=layout)
    return (
        x.requires_grad_(),
        torch.randn(size, dtype=dtype, requires_grad=True),
        torch.randn(shape[1], dtype=dtype, requires_grad=True),
    )


def by_loops(x, kernel, axis, bias):
    x, taps = x.movedim(axis, -1), kernel.flatten(1)
    y = torch.zeros_like(x)
    length = x.shape[-1]
    for i in range(length):
        for t in range(length):
            y[..., i] += taps[:, t, None] * x[..., (i + t) % length]
    return y.movedim(-1, axis) + bias[:, None, None]


@pytest.mark.parametrize("algorithm", NAMES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("axis", [2, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_circular_conv_matches_the_definition(shape, axis, layout, algorithm):
    x, kernel, bias = inputs(shape, axis, layout)
    want = by_loops(x, kernel, axis, bias)
    upstream = torch.randn_like(want)
    wanted = torch.autograd.grad(want, (x, kernel, bias), upstream)
    got = circular_conv(x, kernel, axis, bias, algorithm=algorithm)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(torch.autograd.grad(got, (x, kernel, bias), upstream), wanted)
    with torch.inference_mode():
        torch.testing.assert_close(circular_conv(x, kernel, axis, bias, algorithm=algorithm), want)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("axis", [2, 3])
def test_gradients_match_finite_differences(axis, algorithm):
    x, kernel, bias = inputs((2, 2, 3, 4), axis)

    def run(x, kernel, bias):
        return circular_conv(x, kernel, axis, bias, algorithm=algorithm)

    assert torch.autograd.gradcheck(run, (x, kernel, bias))
    assert torch.autograd.gradgradcheck(run, (x, kernel, bias))


@pytest.mark.parametrize("algorithm", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("axis", [2, 3])
def test_autocast_computes_in_half_precision(axis, layout, dtype, algorithm):
    x, kernel, bias = inputs((4, 6, 16, 8), axis, layout, torch.float32)
    with torch.autocast("cpu", dtype):
        half = (x * 1).to(dtype)  # as a preceding layer would return it
        y = circular_conv(half, kernel, axis, bias, algorithm=algorithm)
        assert circular_conv(x, kernel, axis, bias, algorithm=algorithm).dtype == dtype
    assert y.dtype == dtype
    torch.testing.assert_close(y.float(), by_loops(x, kernel, axis, bias), rtol=0.02, atol=0.15)
    y.float().sum().backward()
    assert x.grad.dtype == kernel.grad.dtype == torch.float32


def takes_products(shape, axis=2, layout=torch.contiguous_format, dtype=torch.float32):
    x, kernel, _ = inputs(shape, axis, layout, dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        products = circular_conv(x, kernel, axis, algorithm="products")
        chosen = circular_conv(x, kernel, axis).stride()
        assert products.stride() != circular_conv(x, kernel, axis, algorithm="convolution").stride()
    return chosen == products.stride()


@pytest.mark.parametrize("axis", [2, 3])
def test_auto_algorithm_in_nchw(axis):
    assert takes_products((2, 4, 16, 16), axis)
    assert takes_products((2, 4, 3, 3), axis)
    with torch.inference_mode():
        assert takes_products((2, 4, 8, 8), axis)
        assert not takes_products((2, 4, 7, 7), axis)


@pytest.mark.parametrize("axis", [2, 3])
def test_auto_algorithm_in_channels_last(axis):
    layout = torch.channels_last
    assert takes_products((2, 4, 12, 12), axis, layout)
    assert not takes_products((2, 4, 8, 8), axis, layout)
    assert takes_products((2, 4, 8, 8), axis, layout, torch.bfloat16) == (axis == 3)
    assert not takes_products((1, 4, 16, 16), axis, layout)
    with torch.inference_mode():
        assert not takes_products((2, 4, 16, 16), axis, layout)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("algorithm", NAMES)
def test_grouped_and_dense_kernels_use_the_convolution(algorithm, groups):
    torch.manual_seed(0)
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    kernel = torch.randn(4, 4 // groups, 5, 1, dtype=torch.float64)
    got = circular_conv(x, kernel, 2, groups=groups, algorithm=algorithm)
    # Each channel is convolved, and the channels of a group are summed.
    size = 4 // groups
    for out in range(4):
        first = out // size * size
        each = [
            circular_conv(x[:, first + i : first + i + 1], kernel[out : out + 1, i : i + 1], 2)
            for i in range(size)
        ]
        torch.testing.assert_close(got[:, out : out + 1], sum(each))


def test_deterministic_mode_does_not_change_results():
    x, kernel, bias = inputs((4, 6, 16, 8), 2, dtype=torch.float32)
    try:
        torch.use_deterministic_algorithms(True)
        for algorithm in ALGORITHMS:
            runs = []
            for _ in range(2):
                y = circular_conv(x, kernel, 2, bias, algorithm=algorithm)
                runs.append(torch.autograd.grad(y.square().sum(), (x, kernel, bias)))
            assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    finally:
        torch.use_deterministic_algorithms(False)


def both_axes(algorithm="auto"):
    return nn.Sequential(
        CircularConv(8, HEIGHT, 16, algorithm=algorithm),
        CircularConv(8, WIDTH, 16, algorithm=algorithm),
    )


@pytest.mark.parametrize("algorithm", NAMES)
def test_exports_use_the_convolution(algorithm):
    network = both_axes(algorithm).eval()
    x = torch.randn(2, 8, 16, 16)
    program = torch.export.export(network, (x,))
    operators = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert "aten.conv2d.default" in operators
    assert not any(word in name for name in operators for word in ("bmm", "index_select", "fft"))
    torch.testing.assert_close(program.module()(x), network(x), rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("algorithm", NAMES)
def test_traces_use_the_convolution(algorithm):
    network = both_axes(algorithm).eval()
    x = torch.randn(2, 8, 16, 16)
    traced = torch.jit.trace(network, x)
    graph = str(traced.inlined_graph)
    assert "aten::_convolution" in graph or "aten::conv2d" in graph
    assert not any(word in graph for word in ("bmm", "index_select", "fft"))
    torch.testing.assert_close(traced(x), network(x), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_compilation_has_no_graph_breaks_and_one_graph_per_size(layout):
    network = both_axes()
    compiled = torch.compile(network, fullgraph=True, dynamic=False)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    for size in (16, 12, 16, 12, 16):
        x = torch.randn(2, 8, size, size).contiguous(memory_format=layout).requires_grad_()
        outputs, gradients = [], []
        for run in (network, compiled):
            outputs.append(run(x))
            gradients += torch.autograd.grad(outputs[-1].square().sum(), x)
        torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-3)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("axis", [2, 3])
def test_gradient_of_a_product_has_the_layout_of_the_map(axis, layout):
    """BatchNorm's backward is slow on CPUs if its gradient has another layout than its input."""
    x, kernel, bias = inputs((3, 4, 6, 8), axis, layout)
    layouts = []
    x.register_hook(lambda gradient: layouts.append(gradient.is_contiguous(memory_format=layout)))
    circular_conv(x, kernel, axis, bias, algorithm="products").sum().backward()
    assert layouts == [True]
