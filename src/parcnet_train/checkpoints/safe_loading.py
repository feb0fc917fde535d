"""Reading of files written by `torch.save`, without executing anything in them."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import torch

from parcnet_train.errors import CheckpointError


class Ignored:
    """What NumPy's numbers, arrays and data types in a file become: nothing of NumPy is called.

    A crafted data type would make NumPy read memory at an address that the file chooses.
    """

    def __init__(self, *arguments: Any) -> None:
        """Ignore the arguments, which the file chooses."""

    def __setstate__(self, state: Any) -> None:
        """Ignore the content, which the file chooses."""


# What a file may contain besides tensors and plain values: the arguments of a command line, as in
# timm's checkpoints, and NumPy's numbers and arrays, as metrics often are, which are skipped. The
# functions that rebuild them have one module in NumPy 1 and another one in NumPy 2.
ALLOWED: list[Any] = [
    argparse.Namespace,
    (Ignored, "numpy.dtype"),
    (Ignored, "numpy.ndarray"),
    *(
        (Ignored, f"{module}.multiarray.{function}")
        for module in ("numpy.core", "numpy._core")
        for function in ("scalar", "_reconstruct")
    ),
]


def load_safely(path: Path) -> Any:
    """Read a file written by `torch.save` onto the CPU.

    Returns:
        Tensors and plain values; besides these, the file may contain what `ALLOWED` lists. NumPy's
        values are `Ignored`.

    Raises:
        OSError: If the file cannot be read.
        CheckpointError: If it is no such file, or it contains anything else; the message is the
            reason, and names the first class or function that is not allowed.
    """
    try:
        with torch.serialization.safe_globals(ALLOWED):
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # on other files, the unpickler raises nearly any exception
        if found := re.search(r"(GLOBAL |got <class ')([\w.]+)", str(error)):
            raise CheckpointError(
                f"the file contains {found[2]}; expected tensors, plain values, NumPy's numbers or "
                "argparse.Namespace, since nothing in a file is executed"
            ) from error
        kind = "TorchScript" if "TorchScript" in str(error) else "empty"
        is_known = kind == "TorchScript" or path.stat().st_size == 0
        raise CheckpointError(
            "the file is not a checkpoint of PyTorch" + f": it is {kind}" * is_known
        ) from error
