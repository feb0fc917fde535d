"""`action=release`: a checkpoint as a folder that others load, also from the Hugging Face hub."""

from __future__ import annotations

import hashlib
import logging
import time
from pathlib import Path

from safetensors.torch import save

from parcnet_train.actions.predict import predictor_in, refuse_not_finite
from parcnet_train.actions.release.card import card
from parcnet_train.actions.release.contents import Source, config_of
from parcnet_train.actions.results import Results, about
from parcnet_train.build import Config, named_classes
from parcnet_train.config.action_sections import Release
from parcnet_train.config.sections import Paths
from parcnet_train.config.typed import run_spec, section
from parcnet_train.files import to_json, write_whole
from parcnet_train.models.model import Model
from parcnet_train.restore import restore_for
from parcnet_train.runs.directories import checkpoint_of, write_results
from parcnet_train.runs.evaluations import evaluation_of
from parcnet_train.runs.releases import CARD, CONFIG, OURS, WEIGHTS

log = logging.getLogger(__name__)

FOLDER = "release"


def release(config: Config) -> Results:
    """Write the checkpoint `ckpt=` as a folder to publish, and write `results.json`.

    Args:
        config: The whole configuration as plain values, with `choices`: the chosen configs. Of it,
            `ckpt`, `release` and `paths` are looked at, the rest is that of the checkpoint.

    Returns:
        What `results.json` holds.

    Raises:
        CheckpointError: If the checkpoint has another task, or weights that are not finite.
    """
    started = time.perf_counter()
    settings, output = section(Release, config), Path(section(Paths, config).output)
    ckpt = checkpoint_of(run_spec(config))
    model, checkpoint = restore_for(ckpt, named_classes(config))
    predictor = predictor_in(model, checkpoint, ckpt)
    refuse_not_finite(model, ckpt)
    weights = weights_of(model)
    evaluation = evaluation_of(settings.results, ckpt, checkpoint["epoch"] + 1)
    described = config_of(Source(ckpt, checkpoint, evaluation), model, predictor.about())
    described[OURS]["sha256"] = hashlib.sha256(weights).hexdigest()
    folder = output / FOLDER
    files = {
        WEIGHTS: weights,
        CARD: card(described, settings.license).encode(),
        CONFIG: to_json(described, indent=2),
    }
    # Last, and none while the weights are replaced: a checksum of other weights says "damaged".
    (folder / CONFIG).unlink(missing_ok=True)
    for name, content in files.items():
        write_whole(folder / name, content)
    log.info("wrote %s", folder)
    results = {
        **about(config),
        **checkpoint["choices"],
        "release/folder": str(folder),
        "release/bytes": sum(map(len, files.values())),
        "release/sha256": described[OURS]["sha256"],
        "release/architecture": described["architecture"],
        "parameters": described[OURS]["parameters"],
        "checkpoint": str(ckpt),
        "checkpoint_epoch": checkpoint["epoch"] + 1,
        "seconds": time.perf_counter() - started,
    }
    write_results(output, results)
    print(folder)
    return results


def weights_of(model: Model) -> bytes:
    """Return the weights of a model as the content of a safetensors file."""
    # Copies, since a file must not have two entries that share memory.
    state = {name: value.contiguous().clone() for name, value in model.state_dict().items()}
    return save(state, metadata={"format": "pt"})
