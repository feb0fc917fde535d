"""Reference implementations in NumPy, float64 and loops, for tests of ParC."""

import numpy as np

from parcnet_train.models.layers.circular import HEIGHT


def column(values, axis):
    """Reshape values `(C, L)` for one axis: `(C, 1, L, 1)` or `(C, 1, 1, L)`."""
    return values[:, None, :, None] if axis == HEIGHT else values[:, None, None, :]


def values_of(parameter, axis):
    """Return a kernel or embedding with C values per position along the axis as `(C, L)`."""
    last = parameter.detach().double()
    length = last.shape[axis - 4]
    return last.reshape(-1, length).numpy()


def naive_circular_conv(x, kernel, axis):
    """Compute `y[i] = sum over t of kernel[t] * x[(i + t) mod length]`, kernel `(C, L)`."""
    y = np.zeros_like(x)
    batch, channels, height, width = x.shape
    for b, c, i, j in np.ndindex(batch, channels, height, width):
        for t in range(x.shape[axis]):
            source = ((i + t) % height, j) if axis == HEIGHT else (i, (j + t) % width)
            y[b, c, i, j] += kernel[c, t] * x[b, c, *source]
    return y


def naive_oversized_conv(x, kernel, axis):
    """Compute `y[i] = sum over j of kernel[j - i + length - 1] * x[j]`, kernel `(C, 2L - 1)`."""
    y = np.zeros_like(x)
    length = x.shape[axis]
    for b, c, i, j in np.ndindex(*x.shape):
        here = (i, j)[axis - HEIGHT]
        for there in range(length):
            source = (there, j) if axis == HEIGHT else (i, there)
            y[b, c, i, j] += kernel[c, there - here + length - 1] * x[b, c, *source]
    return y


def interpolate(values, length):
    """Interpolate linearly with aligned corners, from `(C, K)` to `(C, length)`."""
    places = np.linspace(0, values.shape[1] - 1, length)
    return np.stack([np.interp(places, np.arange(values.shape[1]), row) for row in values])
