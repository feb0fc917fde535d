"""Images of one color, and the position of a color in a picture."""

import numpy as np

HEIGHT, WIDTH = 60, 120  # pictures are larger by a factor of four
GRAY = (90, 90, 90)


def image(color=GRAY):
    return np.full((HEIGHT, WIDTH, 3), color, dtype=np.uint8)


def extent(picture, color):
    """Return left, top, right and bottom of the pixels with a color."""
    rows, columns = np.nonzero((picture == color).all(axis=-1))
    return [columns.min(), rows.min(), columns.max(), rows.max()]
