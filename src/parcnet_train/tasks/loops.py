"""State of Lightning's loops in a checkpoint, changed before a training is resumed."""

from __future__ import annotations

from typing import Any


def set_batch(checkpoint: dict[str, Any], batch: int) -> None:
    """Set the next batch of an unfinished epoch, whose steps may have had fewer or more batches."""
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    more = batch - progress["current"]["ready"]
    for counts in (progress["current"], progress["total"]):
        for name in counts:
            counts[name] += more


def begin_epoch_again(checkpoint: dict[str, Any]) -> None:
    """Remove the batches of an unfinished epoch from the state of Lightning's loops."""
    loops = checkpoint["loops"]["fit_loop"]
    progress = loops["epoch_loop.batch_progress"]
    progress["current"] = dict.fromkeys(progress["current"], 0)
    # The state was saved during the last step; now no step of the epoch is running.
    progress["total"]["completed"] = progress["total"]["processed"]
    loops["epoch_loop.state_dict"]["_batches_that_stepped"] += 1
