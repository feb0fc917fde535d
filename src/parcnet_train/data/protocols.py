"""What a data module needs of its data sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from parcnet_train.data.decoding import Image
from parcnet_train.data.samplers import SampleKey
from parcnet_train.data.stores.paths import AnyPath
from parcnet_train.errors import ConfigError


class DataSet(Protocol):
    """Data set whose samples are addressed by `SampleKey`."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: SampleKey) -> Any: ...

    def look(self, sample: int) -> Any:
        """Read the files of a sample.

        Raises:
            DataError: If one of them is faulty.
        """

    def original(self, sample: int) -> Image:
        """Return the image of a sample at its original size.

        Raises:
            UnreadableError: If it cannot be read.
        """

    def files(self) -> npt.NDArray[np.bytes_]:
        """Return the names of all files, relative to their folders."""

    def labels_in_memory(self) -> Sequence[npt.NDArray[Any]]:
        """Return the labels that are known without opening a file; empty if all are in files."""


@runtime_checkable
class InFiles(Protocol):
    """Data set whose samples are files, which are fetched from an object store batch by batch."""

    def paths_of(self, sample: int) -> Sequence[AnyPath]:
        """Return the paths of the files of a sample."""


@runtime_checkable
class Labeled(Protocol):
    """Data set with one class per image, as `recipe.sampler=balanced` needs it.

    Attributes:
        labels: Class index of every image, `(n,)`.
    """

    labels: npt.NDArray[np.int64]


@runtime_checkable
class Counted(Protocol):
    """Data set that counts its labels, as `recipe.class_weights=balanced` needs it."""

    def class_counts(
        self, num_classes: int, rank: int = 0, world_size: int = 1
    ) -> npt.NDArray[np.int64]:
        """Return the number of labels of every class, `(num_classes,)`.

        Args:
            num_classes: Number of classes.
            rank: Only samples `rank`, `rank + world_size` and so on are counted.
            world_size: Number of processes that count.
        """


def lacking(key: str, dataset: DataSet, member: str) -> ConfigError:
    """Return the error of a key that needs a member that a data set does not have."""
    return ConfigError(
        f"{key}=balanced: {type(dataset).__name__} has no {member}; expected a data set with this "
        f"{member.partition(' ')[0]}. Fix: {key}=null, or add it as ImageDataset does",
        key,
    )
