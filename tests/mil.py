"""Interpreter of Core ML programs in PyTorch, from Apple's documentation of each operator.

https://apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html
"""

import torch
from coremltools.converters.mil.frontend.milproto.load import load
from torch.nn import functional

from parcnet_train.deploy.formats.coreml import read


def convolved(x, weight, strides, pad_type, pad, dilations, groups, bias=None):
    top, bottom, left, right = {"custom": pad, "valid": [0] * 4}[pad_type]
    x = functional.pad(x, (left, right, top, bottom))
    return functional.conv2d(x, weight, bias, strides, 0, dilations, groups)


def normed(x, axes, epsilon, gamma, beta):
    assert axes == [-1]
    return functional.layer_norm(x, x.shape[-1:], gamma, beta, epsilon)


def multiplied(x, y, transpose_x=False, transpose_y=False):
    return (x.mT if transpose_x else x) @ (y.mT if transpose_y else y)


def enlarged(x, scale_factor_height, scale_factor_width, align_corners):
    factors = (scale_factor_height, scale_factor_width)
    return functional.interpolate(
        x, scale_factor=factors, mode="bilinear", align_corners=align_corners
    )


def sliced(x, begin, end, begin_mask=None, end_mask=None):
    free = [False] * x.ndim  # masks: axes that start at the first or end at the last element
    firsts = [0 if is_free else n for n, is_free in zip(begin, begin_mask or free, strict=True)]
    lasts = [None if is_free else n for n, is_free in zip(end, end_mask or free, strict=True)]
    return x[tuple(map(slice, firsts, lasts))]


def joined(values, axis, interleave=False):
    assert not interleave
    return torch.cat(values, axis)


OPERATORS = {
    "add": lambda x, y: x + y,
    "concat": joined,
    "conv": convolved,
    "layer_norm": normed,
    "linear": lambda x, weight, bias=None: functional.linear(x, weight, bias),
    "matmul": multiplied,
    "mul": lambda x, y: x * y,
    "reduce_mean": lambda x, axes, keep_dims: x.mean(axes, keep_dims),
    "relu": lambda x: x.clamp(min=0),
    "reshape": lambda x, shape: x.reshape(shape),
    "sigmoid_hard": lambda x, alpha, beta: (alpha * x + beta).clamp(0, 1),
    "silu": lambda x: x * x.sigmoid(),
    "slice_by_index": sliced,
    "softmax": lambda x, axis: x.softmax(axis),
    "thresholded_relu": lambda x, alpha: torch.where(x >= alpha, x, 0),
    "transpose": lambda x, perm: x.permute(perm),
    "upsample_bilinear": enlarged,
}


def computed(path, images):
    """Return the outputs of a package by their names, for `(1, 3, H, W)` images."""
    spec = read(path)
    weights = path / "Data" / "com.apple.CoreML" / "weights"
    main = load(spec, spec.specificationVersion, str(weights)).functions["main"]
    values = {"images": images}
    for operator in main.operations:
        if operator.op_type == "const":
            continue
        given = {name: value_of(each, values) for name, each in operator.inputs.items()}
        (output,) = operator.outputs
        values[output.name] = OPERATORS[operator.op_type](**given)
    return {each.name: values[each.name].numpy() for each in main.outputs}


def value_of(variable, values):
    """Return a computed tensor, a weight, a number, a word, or a list of them."""
    if isinstance(variable, list | tuple):
        return [value_of(each, values) for each in variable]
    if variable.val is None:
        return values[variable.name]
    if getattr(variable.val, "dtype", None) == "float32" and variable.val.ndim:
        return torch.from_numpy(variable.val)
    return variable.val.tolist() if hasattr(variable.val, "tolist") else variable.val
