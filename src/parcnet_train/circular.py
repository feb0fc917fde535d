"""Global circular depthwise convolution along one axis: equations 1 and 2 of the ParC-Net paper.

`y[i] = sum over t of kernel[t] * x[(i + t) mod length]`, one kernel per channel and as long as the
axis. Two forms give the same numbers: a depthwise convolution of the input wrapped around, and one
matrix product per channel with the circulant matrix of its kernel. The matrices are the faster way
to train, since the gradients of a long depthwise convolution are slow; the convolution is what
deployment tools understand. `scripts/benchmark_operator.py` measures both.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

HEIGHT, WIDTH = 2, 3

# On CPUs the products lose below this length: their matrices are too small for the BLAS.
SHORTEST_PRODUCT = 8


def circular_conv(x: Tensor, kernel: Tensor, axis: int) -> Tensor:
    """Circular convolution in the form that is faster for these inputs.

    Args:
        x: `(B, C, H, W)` of any memory format.
        kernel: `(C, 1, H, 1)` for axis 2 or `(C, 1, 1, W)` for axis 3.
        axis: 2 (the paper's ParC-V) or 3 (ParC-H).

    Returns:
        `(B, C, H, W)`; the strides depend on the form.
    """
    form = circular_by_products if _products_pay(x, kernel, axis) else circular_by_convolution
    return form(x, kernel, axis)


def circular_by_convolution(x: Tensor, kernel: Tensor, axis: int) -> Tensor:
    """The form for export and for inference; arguments as for `circular_conv`."""
    wrapped = torch.cat([x, x.narrow(axis, 0, x.shape[axis] - 1)], dim=axis)
    return functional.conv2d(wrapped, kernel, groups=x.shape[1])


def circular_by_products(x: Tensor, kernel: Tensor, axis: int) -> Tensor:
    """The form for training; arguments as for `circular_conv`.

    Works on `(C, H, B, W)`, where neither axis needs a copy: height is a product from the left,
    width one from the right. The result is a view of such a tensor, so that a second convolution
    starts without a copy.
    """
    batch, channels, height, width = x.shape
    matrices = circulant(kernel, axis)
    rows = x.permute(1, 2, 0, 3)
    if not rows.is_contiguous():
        # Two steps: torch turns channels_last into this order slowly, into NCHW fast.
        rows = x.contiguous().permute(1, 2, 0, 3).contiguous()
    if axis == HEIGHT:
        product = torch.bmm(matrices, rows.view(channels, height, batch * width))
    else:
        product = torch.bmm(rows.view(channels, height * batch, width), matrices.mT)
    return product.view(channels, height, batch, width).permute(2, 0, 1, 3)


def circulant(kernel: Tensor, axis: int) -> Tensor:
    """Matrices `(C, length, length)` with `kernel[(j - i) mod length]` in row i and column j."""
    channels, length = kernel.shape[0], kernel.shape[axis]
    index = torch.arange(length, device=kernel.device)
    taps = (index - index[:, None]) % length
    # Unlike `kernel[:, taps]`, this has a fast backward on CPUs.
    return kernel.view(channels, length).index_select(1, taps.flatten()).view(-1, length, length)


def _products_pay(x: Tensor, kernel: Tensor, axis: int) -> bool:
    """Whether the products are the faster form, by the measurements on CPUs."""
    if torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export():
        return False
    if x.shape[axis] < SHORTEST_PRODUCT:
        return False
    if x.stride(1) > 1:
        return True
    # Channels_last: the change of layout costs more than a forward pass, or than a single image.
    trains = torch.is_grad_enabled() and (x.requires_grad or kernel.requires_grad)
    return trains and x.shape[0] > 1
