"""Definitions in numpy, float64 and loops, that tests of ParC compare with."""

import numpy as np

from parcnet_train.models.layers.circular import HEIGHT


def column(values, axis):
    """Values `(C, L)` as a parameter along one axis: `(C, 1, L, 1)` or `(C, 1, 1, L)`."""
    return values[:, None, :, None] if axis == HEIGHT else values[:, None, None, :]


def values_of(parameter, axis):
    """A kernel or embedding with C values per place along the axis, as `(C, L)`."""
    last = parameter.detach().double()
    length = last.shape[axis - 4]
    return last.reshape(-1, length).numpy()


def naive_circular_conv(x, kernel, axis):
    """`y[i] = sum over t of kernel[t] * x[(i + t) mod length]`, kernel `(C, L)`."""
    y = np.zeros_like(x)
    batch, channels, height, width = x.shape
    for b, c, i, j in np.ndindex(batch, channels, height, width):
        for t in range(x.shape[axis]):
            source = ((i + t) % height, j) if axis == HEIGHT else (i, (j + t) % width)
            y[b, c, i, j] += kernel[c, t] * x[b, c, *source]
    return y


def interpolate(values, length):
    """Linear with aligned corners: `(C, K)` to `(C, length)`."""
    places = np.linspace(0, values.shape[1] - 1, length)
    return np.stack([np.interp(places, np.arange(values.shape[1]), row) for row in values])
