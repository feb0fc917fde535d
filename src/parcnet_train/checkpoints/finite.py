"""Refusal of weights that are not finite."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from parcnet_train.errors import CheckpointError, listed


def refuse_non_finite(state: Mapping[str, Tensor], origin: str) -> None:
    """Refuse weights with values that are NaN or infinite.

    Args:
        state: State dict, whose integers are always finite.
        origin: File, or key and value that name it, for the message.

    Raises:
        CheckpointError: If there are any; the message has their number and the first names.
    """
    # float8 has no `isfinite`, and float32 holds all of its values.
    found = [
        name
        for name, value in state.items()
        if value.is_floating_point()
        and not (value.float() if value.itemsize == 1 else value).isfinite().all()
    ]
    if found:
        raise CheckpointError(
            f"{origin}: {len(found)} of {len(state)} tensors have values that are NaN or infinite: "
            f"{listed(found)}; expected finite weights. Fix: use weights from before the training "
            "diverged"
        )
