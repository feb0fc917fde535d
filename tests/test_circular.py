"""The circular convolution: its definition, its two forms, their gradients and dispatch."""

import pytest
import torch

from parcnet_train.backbones.parcnet import ParCMixer
from parcnet_train.circular import (
    circular_by_convolution,
    circular_by_products,
    circular_conv,
)

FORMS = [circular_by_convolution, circular_by_products, circular_conv]
SHAPES = [(1, 3, 1, 1), (2, 3, 1, 4), (3, 2, 4, 2), (1, 5, 7, 7), (2, 4, 8, 8), (3, 4, 20, 12)]
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def inputs(shape, axis, layout=torch.contiguous_format, dtype=torch.float64):
    size = [shape[1], 1, 1, 1]
    size[axis] = shape[axis]
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=dtype).contiguous(memory_format=layout)
    return x.requires_grad_(), torch.randn(size, dtype=dtype, requires_grad=True)


def by_loops(x, kernel, axis):
    x, taps = x.movedim(axis, -1), kernel.flatten(1)
    y = torch.zeros_like(x)
    length = x.shape[-1]
    for i in range(length):
        for t in range(length):
            y[..., i] += taps[:, t, None] * x[..., (i + t) % length]
    return y.movedim(-1, axis)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("axis", [2, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_matches_the_definition(shape, axis, layout, form):
    x, kernel = inputs(shape, axis, layout)
    want = by_loops(x, kernel, axis)
    upstream = torch.randn_like(want)
    wanted = torch.autograd.grad(want, (x, kernel), upstream)
    got = form(x, kernel, axis)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(torch.autograd.grad(got, (x, kernel), upstream), wanted)
    with torch.inference_mode():
        torch.testing.assert_close(form(x, kernel, axis), want)


@pytest.mark.parametrize("form", FORMS[:2])
@pytest.mark.parametrize("axis", [2, 3])
def test_gradients(axis, form):
    x, kernel = inputs((2, 2, 3, 4), axis)
    assert torch.autograd.gradcheck(lambda *args: form(*args, axis), (x, kernel))
    assert torch.autograd.gradgradcheck(lambda *args: form(*args, axis), (x, kernel))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("axis", [2, 3])
def test_autocast(axis, layout):
    x, kernel = inputs((4, 6, 16, 8), axis, layout, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y = circular_conv(x, kernel, axis)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), by_loops(x, kernel, axis), rtol=0.02, atol=0.1)
    y.float().sum().backward()
    assert x.grad.dtype == kernel.grad.dtype == torch.float32


def test_dispatch():
    def uses_products(shape, layout=torch.contiguous_format, axis=2):
        arguments = (*inputs(shape, axis, layout), axis)
        return circular_conv(*arguments).stride() == circular_by_products(*arguments).stride()

    assert uses_products((2, 4, 16, 16))
    assert uses_products((2, 4, 16, 16), torch.channels_last)
    assert not uses_products((2, 4, 4, 4))
    assert not uses_products((1, 4, 16, 16), torch.channels_last)
    with torch.inference_mode():
        assert uses_products((2, 4, 16, 16))
        assert not uses_products((2, 4, 16, 16), torch.channels_last)


def test_export_takes_the_convolution():
    mixer = ParCMixer(8, 16, position_embedding=True).eval()
    x = torch.randn(2, 8, 16, 16)
    program = torch.export.export(mixer, (x,))
    operators = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert "aten.conv2d.default" in operators
    assert not any("bmm" in operator or "index_select" in operator for operator in operators)
    torch.testing.assert_close(program.module()(x), mixer(x), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_compiles(layout):
    mixer = ParCMixer(8, 16, position_embedding=True)
    x = torch.randn(2, 8, 16, 16).contiguous(memory_format=layout).requires_grad_()
    outputs, gradients = [], []
    for network in (mixer, torch.compile(mixer, fullgraph=True)):
        outputs.append(network(x))
        gradients += torch.autograd.grad(outputs[-1].square().sum(), x)
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-3)
