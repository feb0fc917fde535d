"""Files through a network: read ahead by threads, in batches, what cannot be read left out."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from torch import nn

from parcnet_train.distributed.processes import own_cores
from parcnet_train.errors import UnreadableError
from parcnet_train.predict.inputs import read_file
from parcnet_train.predict.predictions import Classified, Prediction
from parcnet_train.predict.predictor import Options, Predictor, Prepared
from parcnet_train.visualize.pictures import Picture, resize


class Loaded(NamedTuple):
    """A file that was read."""

    prepared: Prepared
    picture: Picture  # small, to draw on


class Found(NamedTuple):
    """What the network says of a file."""

    prediction: Prediction
    picture: Picture  # to draw it on


def load_file(path: Path, predictor: Predictor) -> Loaded | UnreadableError:
    """Reads a file and prepares it."""
    try:
        image = read_file(path, predictor.max_pixels)
    except UnreadableError as error:
        return error
    try:
        return Loaded(predictor.prepare(image), resize(image))
    except UnreadableError as error:
        return UnreadableError(f"{path}: {error}")


def outcomes(
    paths: Sequence[Path],
    predictor: Predictor,
    network: nn.Module,
    options: Options,
    batch_size: int,
) -> Iterator[tuple[Path, Found | UnreadableError]]:
    """What a network says of files, in their order.

    Args:
        paths: of the files.
        predictor: of the network.
        network: in evaluation mode.
        options: of the caller.
        batch_size: files at a time.
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
    """Whether a prediction can be written; of detections, only finite boxes are kept."""
    return not isinstance(prediction, Classified) or all(
        map(math.isfinite, prediction.probabilities)
    )


def read_ahead(
    paths: Sequence[Path], predictor: Predictor, size: int
) -> Iterator[list[tuple[Path, Loaded | UnreadableError]]]:
    """Batches of files, the next one read while one is worked on."""
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
