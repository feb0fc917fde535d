"""A trained network that looks for label errors, and its pass over a set of images."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch

from parcnet_train.data.loading import stack_images
from parcnet_train.distributed.processes import own_cores
from parcnet_train.doctor.pictures import image_of
from parcnet_train.doctor.sets import ImageSet
from parcnet_train.errors import UnreadableError
from parcnet_train.models.model import Model
from parcnet_train.predict.predictor import Predictor, Prepared
from parcnet_train.terminal import progress

Item = TypeVar("Item")


@dataclass
class Network:
    """A trained network, and how it is run.

    Attributes:
        model: Model of a checkpoint, on its device.
        batch_size: Images per batch.
        context: Function that returns the context in which the network runs, for the precision.
        name: Name of the run, for the report.
    """

    model: Model
    batch_size: int
    context: Callable[[], contextlib.AbstractContextManager[Any]]
    name: str

    @property
    def predictor(self) -> Predictor:
        """Preprocessing and postprocessing of the task."""
        found = self.model.predictor
        assert isinstance(found, Predictor)
        return found


class Batch(NamedTuple):
    """Readable images of a set.

    Attributes:
        places: Positions in the set.
        prepared: Prepared images.
        pixels: Pixels of all images, on the network's device.
    """

    places: list[int]
    prepared: list[Prepared]
    pixels: torch.Tensor


def predicted(
    network: Network,
    images: ImageSet,
    size: int,
    results_of: Callable[[Batch], Iterable[Item]],
) -> Iterator[list[Item]]:
    """Run a network on all images of a set, and yield the results in lists of at most `size`.

    Each list is of images from all over the set: in a part of class folders, whole classes are
    missing, and without a label of a class, no image counts as one of that class.

    Args:
        network: Trained network.
        images: Set of images.
        size: Largest number of images of a list.
        results_of: Function that returns the result for each image of a batch.
    """
    count = -(-len(images) // size)
    batch_size = 1 if network.predictor.takes_one else network.batch_size
    with (
        progress(f"predicting, {images.title}", len(images)) as bar,
        ThreadPoolExecutor(own_cores()) as pool,
        torch.inference_mode(),
        network.context(),
    ):
        for first in range(count):
            places = range(first, len(images), count)
            found: list[Item] = []
            for start in range(0, len(places), batch_size):
                tried = places[start : start + batch_size]
                batch = batch_of(network, images, tried, pool)
                if batch is not None:
                    found += results_of(batch)
                bar.update(len(tried))
            if found:
                yield found


def batch_of(
    network: Network, images: ImageSet, places: Sequence[int], pool: Executor
) -> Batch | None:
    """Read and prepare some images in threads; None if none is readable."""
    predictor = network.predictor
    device = next(network.model.parameters()).device

    def prepare(place: int) -> Prepared | None:
        image = image_of(images, place, predictor.max_pixels)
        try:
            return None if image is None else predictor.prepare(image)
        except UnreadableError:
            return None

    found = [
        (place, each)
        for place, each in zip(places, pool.map(prepare, places), strict=True)
        if each is not None
    ]
    if not found:
        return None
    prepared = [each for _, each in found]
    pixels = stack_images([each.pixels for each in prepared]).to(device)
    return Batch([place for place, _ in found], prepared, pixels)
