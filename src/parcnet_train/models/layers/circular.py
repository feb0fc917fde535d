"""Global circular convolution along one axis: equations 1 and 2 of the ParC-Net paper.

`y[i] = sum over t of kernel[t] * x[(i + t) mod length]`, with kernels as long as the axis. Three
algorithms give the same result: a convolution of the wrapped input (the definition, which
deployment tools understand), one matrix product per channel with the circulant matrix of its
kernel, and a product of Fourier transforms. `action=benchmark` measures them side by side.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from parcnet_train.precision import at_least_float32

Algorithm = Literal["auto", "convolution", "products", "fourier"]

HEIGHT, WIDTH = 2, 3

# Smallest lengths for which products are faster on CPUs, see docs/benchmarks.md.
INFERENCE_LENGTH = 8  # inference, NCHW
CHANNELS_LAST_LENGTH = 12  # training, channels_last


def circular_conv(
    x: Tensor,
    kernel: Tensor,
    axis: int,
    bias: Tensor | None = None,
    groups: int | None = None,
    algorithm: Algorithm = "auto",
) -> Tensor:
    """Convolve circularly along one axis.

    Args:
        x: Input `(B, C, H, W)` in any memory format.
        kernel: Kernels `(C, C / groups, H, 1)` for axis 2 or `(C, C / groups, 1, W)` for axis 3.
        axis: Axis of the convolution: 2 (the paper's ParC-V) or 3 (ParC-H).
        bias: Bias `(C,)`; None: no bias.
        groups: Number of groups. The default is C, a depthwise convolution; any other number uses
            the convolution, whatever the algorithm.
        algorithm: Algorithm to use; `auto` takes the one that was measured to be the fastest for
            such inputs. Exports and traces always use the convolution.

    Returns:
        The result `(B, C, H, W)`, whose strides depend on the algorithm.
    """
    if groups not in (None, x.shape[1]) or _is_exporting():
        return circular_by_convolution(x, kernel, axis, bias, groups)
    if algorithm == "auto":
        algorithm = "products" if _products_pay(x, kernel, axis) else "convolution"
    return ALGORITHMS[algorithm](x, kernel, axis, bias)


def circular_by_convolution(
    x: Tensor, kernel: Tensor, axis: int, bias: Tensor | None = None, groups: int | None = None
) -> Tensor:
    """Convolve the wrapped input, for export and inference; arguments as for `circular_conv`.

    TorchScript compiles this function.
    """
    wrapped = torch.cat([x, x.narrow(axis, 0, x.shape[axis] - 1)], dim=axis)
    return functional.conv2d(wrapped, kernel, bias, groups=x.shape[1] if groups is None else groups)


def circular_by_products(
    x: Tensor, kernel: Tensor, axis: int, bias: Tensor | None = None
) -> Tensor:
    """Convolve by products with circulant matrices, for training; depthwise, see `circular_conv`.

    The products run on `(C, H, B, W)`, in which neither axis needs a copy: the height is multiplied
    from the left, the width from the right. The result is a view of such a tensor, so that a second
    convolution starts without a copy.
    """
    batch, channels, height, width = x.shape
    matrices = circulant(kernel, axis)
    rows = x.permute(1, 2, 0, 3)
    if torch.compiler.is_compiling():  # which chooses layouts itself
        rows = rows.contiguous()
    elif not rows.is_contiguous():
        rows = _ToRows.apply(x)  # type: ignore[no-untyped-call]
    if axis == HEIGHT:
        product = torch.bmm(matrices, rows.view(channels, height, batch * width))
    else:
        product = torch.bmm(rows.view(channels, height * batch, width), matrices.mT)
    y = product.view(channels, height, batch, width).permute(2, 0, 1, 3)
    return y if bias is None else y + bias.view(-1, 1, 1).to(y.dtype)


def circular_by_fourier(x: Tensor, kernel: Tensor, axis: int, bias: Tensor | None = None) -> Tensor:
    """Convolve by products of Fourier transforms, for long axes; depthwise, see `circular_conv`.

    It is computed in float32 or wider, since CPUs have no Fourier transforms of lower precision.
    """
    length = x.shape[axis]
    spectrum = torch.fft.rfft(at_least_float32(x.contiguous()), dim=axis)
    # The kernel is not flipped: conj turns the convolution of the theorem into a correlation.
    response = torch.fft.rfft(at_least_float32(kernel).transpose(0, 1), dim=axis).conj()
    y = torch.fft.irfft(spectrum * response, n=length, dim=axis)
    device = x.device.type
    y = y.to(torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype)
    return y if bias is None else y + bias.view(-1, 1, 1).to(y.dtype)


class _ToRows(torch.autograd.Function):
    """Copy of a map in the order `(C, H, B, W)`, whose gradient is in the order of the map.

    Otherwise, the gradient would be in the order of the copy, which is slow in BatchNorm's backward
    on CPUs (docs/benchmarks.md).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Return the copy."""
        ctx.layout = layout_of(x)
        # In two steps: torch converts channels_last to NCHW fast, but to this order slowly.
        return x.contiguous().permute(1, 2, 0, 3).contiguous()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Return the gradient of the map."""
        nchw = gradient.permute(2, 0, 1, 3).contiguous()
        return nchw.contiguous(memory_format=ctx.layout)


def layout_of(x: Tensor) -> torch.memory_format:
    """Return the memory format of a map, or of the map that it is a part of."""
    return torch.channels_last if x.stride(1) == 1 else torch.contiguous_format


ALGORITHMS = {
    "convolution": circular_by_convolution,
    "products": circular_by_products,
    "fourier": circular_by_fourier,
}


def circulant(kernel: Tensor, axis: int) -> Tensor:
    """Return matrices `(C, length, length)`: `kernel[(j - i) mod length]` at row i, column j."""
    channels, length = kernel.shape[0], kernel.shape[axis]
    index = torch.arange(length, device=kernel.device)
    taps = (index - index[:, None]) % length
    # Unlike `kernel[:, taps]`, this has a fast backward on CPUs.
    return kernel.view(channels, length).index_select(1, taps.flatten()).view(-1, length, length)


def _is_exporting() -> bool:
    """Return whether this call is recorded for another runtime."""
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export() or tracing


def _products_pay(x: Tensor, kernel: Tensor, axis: int) -> bool:
    """Return whether products are faster than the convolution, see docs/benchmarks.md."""
    length = x.shape[axis]
    trains = torch.is_grad_enabled() and (x.requires_grad or kernel.requires_grad)
    if x.device.type != "cpu":  # in training, gradients of long depthwise kernels are slow
        return trains
    if layout_of(x) == torch.contiguous_format:
        return trains or length >= INFERENCE_LENGTH
    # Channels_last: changing the layout costs more than products save without a backward pass,
    # or for a single image.
    if not trains or x.shape[0] == 1:
        return False
    # The convolution along the width has no fast gradient in half precision.
    return length >= CHANNELS_LAST_LENGTH or (axis == WIDTH and x.dtype.itemsize < 4)
