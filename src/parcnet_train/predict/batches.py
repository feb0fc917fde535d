"""Predictions for many files: threads read ahead, and unreadable files are reported."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from torch import nn

from parcnet_train.data.channels import to_rgb
from parcnet_train.distributed.processes import own_cores
from parcnet_train.errors import UnreadableError
from parcnet_train.predict.inputs import read_file
from parcnet_train.predict.predictions import Classified, Prediction
from parcnet_train.predict.predictor import Options, Predictor, Prepared
from parcnet_train.visualize.pictures import Picture, resize


class Loaded(NamedTuple):
    """A file that was read and prepared."""

    prepared: Prepared
    picture: Picture  # resized image to draw on


class Found(NamedTuple):
    """The prediction for a file."""

    prediction: Prediction
    picture: Picture  # resized image to draw on


def load_file(path: Path, predictor: Predictor) -> Loaded | UnreadableError:
    """Read a file and prepare it; return the error if it is unreadable."""
    try:
        image = read_file(path, predictor.max_pixels, predictor.channels)
    except UnreadableError as error:
        return error
    try:
        return Loaded(predictor.prepare(image), resize(to_rgb(image)))
    except UnreadableError as error:
        return UnreadableError(f"{path}: {error}")


def outcomes(
    paths: Sequence[Path],
    predictor: Predictor,
    network: nn.Module,
    options: Options,
    batch_size: int,
) -> Iterator[tuple[Path, Found | UnreadableError]]:
    """Yield the prediction, or the error, for every file, in the given order.

    Args:
        paths: Paths of the files.
        predictor: Predictor of the network.
        network: Network in evaluation mode.
        options: Options of the caller.
        batch_size: Number of files per batch.
    """
    size = 1 if predictor.takes_one else min(batch_size, len(paths))
    for batch in read_ahead(paths, predictor, size):
        loaded = [each for _, each in batch if isinstance(each, Loaded)]
        prepared = [each.prepared for each in loaded]
        found = iter(predictor.predict_all(network, prepared, options, size) if prepared else [])
        for path, each in batch:
            if not isinstance(each, Loaded):
                yield path, each
            elif is_finite(prediction := next(found)):
                yield path, Found(prediction, each.picture)
            else:
                yield path, UnreadableError(f"{path}: the network's probabilities are not finite")


def is_finite(prediction: Prediction) -> bool:
    """Return whether a prediction is finite; detections contain only finite boxes anyway."""
    return not isinstance(prediction, Classified) or all(
        map(math.isfinite, prediction.probabilities)
    )


def read_ahead(
    paths: Sequence[Path], predictor: Predictor, size: int
) -> Iterator[list[tuple[Path, Loaded | UnreadableError]]]:
    """Yield batches of files; while one is processed, threads read the next one."""
    with ThreadPoolExecutor(own_cores()) as pool:
        waiting = deque[tuple[Sequence[Path], Iterator[Loaded | UnreadableError]]]()
        starts = iter(range(0, len(paths), size))

        def read_next() -> None:
            for start in itertools.islice(starts, 1):
                batch = paths[start : start + size]
                waiting.append((batch, pool.map(load_file, batch, itertools.repeat(predictor))))

        read_next()
        while waiting:
            read_next()
            batch, results = waiting.popleft()
            yield list(zip(batch, results, strict=True))
