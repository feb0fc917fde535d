"""Plain images, and where a colour is in a picture."""

import numpy as np

HEIGHT, WIDTH = 60, 120  # pictures are four times as large
GREY = (90, 90, 90)


def image(colour=GREY):
    return np.full((HEIGHT, WIDTH, 3), colour, dtype=np.uint8)


def extent(picture, colour):
    """Left, top, right and bottom of what has a colour."""
    rows, columns = np.nonzero((picture == colour).all(axis=-1))
    return [columns.min(), rows.min(), columns.max(), rows.max()]
