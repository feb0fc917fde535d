"""Base of the int8 forms that cannot keep single layers in float32."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

from parcnet_train.deploy.exportable import ALL_VALUES, Images, Scheme


class WholeFile(ABC):
    """File in float32 that can only be quantized as a whole; see `formats.Quantizable`.

    Args:
        path: Path of the float32 file, or of the first of its files.
        images: Calibration images, each `(1, 3, H, W)` RGB in [0, 1].
        folder: Empty folder for temporary files.
        scheme: How the ranges of the activations are chosen, if the quantizer lets us choose.

    Attributes:
        layers: Empty, since no layer can be excluded.
    """

    layers: Sequence[str] = ()

    def __init__(
        self, path: Path, images: Images, folder: Path, scheme: Scheme = ALL_VALUES
    ) -> None:
        self.path, self.images, self.folder, self.scheme = path, images, folder, scheme

    def write(self, path: Path, float_layers: Sequence[str] = ()) -> None:
        """Write the file in int8, with the same description.

        Args:
            path: Path of the new file, or of the first of its files.
            float_layers: Must be empty.

        Raises:
            ConfigError: If the quantizer is not installed.
            TrainingError: If it fails, or a file cannot be written.
        """
        assert not float_layers  # `check` rejects them
        self.write_int8(path)

    @abstractmethod
    def write_int8(self, path: Path) -> None:
        """Write the file in int8; see `write`."""

    def sensitivities(self, images: Images) -> Iterator[tuple[str, float]]:
        """Return nothing, since `layers` is empty."""
        return iter(())
