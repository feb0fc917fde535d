"""Loading of the model in a checkpoint: `parcnet_train.load`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from parcnet_train.build import build_model, height_and_width
from parcnet_train.checkpoints.checkpoints import model_state
from parcnet_train.checkpoints.reading import read_checkpoint
from parcnet_train.checkpoints.state_dict_diff import weight_differences
from parcnet_train.errors import CheckpointError, UserError, first_line, printable, shortened
from parcnet_train.models.model import Model
from parcnet_train.predict.tasks import predictor_of
from parcnet_train.runs.directories import checkpoint_in
from parcnet_train.targets import may_be, named_targets
from parcnet_train.version import __version__


def load(path: str | Path, ema: bool = True, packages: Sequence[str] = ("parcnet_train",)) -> Model:
    """Load the model of a checkpoint, ready to be called on images.

    Args:
        path: Checkpoint file of this package; run directory, whose best checkpoint is loaded; or
            folder that `action=release` has written, also `hf-hub:OWNER/NAME` or
            `hf-hub:OWNER/NAME@REVISION`: such a folder on the Hugging Face hub, from its cache if
            it is there.
        ema: Whether to load the EMA weights if the run has them; false loads the trained weights.
            A release has only one of them.
        packages: Names of the packages whose subclasses of `torch.nn.Module` a checkpoint may use
            in backbone and head; add your own.

    Returns:
        The model in evaluation mode on the CPU. It takes `(B, 3, H, W)` RGB images, uint8 or float
        in [0, 1], and returns the outputs of its head (a classifier: logits `(B, classes)`). Its
        `predict` takes one image of any size, or a path, and returns the prediction with class
        names.

    Raises:
        CheckpointError: If the file cannot be read, names anything but modules of those packages,
            or its weights do not fit the network that it names; also if those of a release have
            another checksum than its `config.json` says.
    """
    file = checkpoint_in(path)
    return restore(read_checkpoint(file), file, ema, packages)


def restore(
    checkpoint: Mapping[str, Any],
    path: str | Path,
    ema: bool = True,
    packages: Sequence[str] = ("parcnet_train",),
) -> Model:
    """Return the model of a checkpoint that has been read; see `load`."""
    model = network_in(checkpoint, f"ckpt={path}", packages)
    state = model_state(checkpoint, ema)
    if lines := weight_differences(state, model.state_dict()):
        shown = printable(shortened(checkpoint.get("parcnet_train_version")))
        first = (
            f"ckpt={path}: its weights do not fit its configuration in parcnet_train "
            f"{__version__}; it was written by {shown}"
        )
        raise CheckpointError("\n".join([first, *lines]))
    model.load_state_dict(state)
    config = checkpoint["config"]
    data = config.get("data") or config["recipe"]  # converted checkpoints have no data
    size = height_and_width(data["image_size"])
    name, names = config["choices"]["task"], checkpoint["class_names"]
    with refusing(f"ckpt={path}"):
        model.predictor = predictor_of(name, names, size, config["task"], config.get("data") or {})
    return model.eval()


def network_in(
    checkpoint: Mapping[str, Any], origin: str, packages: Sequence[str] = ("parcnet_train",)
) -> Model:
    """Build the network of a checkpoint, with initial weights.

    Args:
        checkpoint: Checkpoint as read from its file, which is not trusted.
        origin: Key and value that name the file, for the message.
        packages: Names of the packages whose modules it may consist of.

    Raises:
        CheckpointError: If it names anything else, or the network cannot be built.
        ConfigError: If a class refuses its arguments.
    """
    refuse_other_classes(checkpoint, origin, packages)
    with refusing(origin):
        return build_model(checkpoint["config"], len(checkpoint["class_names"]))


@contextlib.contextmanager
def refusing(origin: str) -> Iterator[None]:
    """Turn any error of a stored configuration into one line: its values may be of any type.

    Args:
        origin: Key and value that name the file.

    Raises:
        CheckpointError: If anything but a `UserError` is raised.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"{origin}: its configuration does not fit the network: {first_line(error)}. Fix: use "
            "the parcnet_train that wrote it, or download the file again"
        ) from error


def refuse_other_classes(
    checkpoint: Mapping[str, Any], origin: str, packages: Sequence[str] = ("parcnet_train",)
) -> None:
    """Check that backbone and head of a checkpoint name only modules of some packages.

    Args:
        checkpoint: Checkpoint as read from its file, which is not trusted.
        origin: Key and value that name the file, for the message.
        packages: Names of the packages.

    Raises:
        CheckpointError: If they name anything else.
    """
    for part in ("backbone", "head"):
        for key, target in named_targets(checkpoint["config"][part], part):
            if not may_be(key, target, packages):
                raise CheckpointError(
                    f"{origin}: its {part} is {target}; expected a class of a network in "
                    f"{', '.join(packages)}. Fix: if you trust the file, use load(..., "
                    f"packages=[...]), or on the command line add its {part}=..."
                )


def restore_for(path: Path, targets: Sequence[str]) -> tuple[Model, dict[str, Any]]:
    """Load the model of the checkpoint that a command line names with `ckpt`.

    Backbone and head of the command line do not have to be those of the checkpoint. Their packages
    are trusted, since the user who typed them wants their code to run.

    Args:
        path: Checkpoint file.
        targets: Dotted names of the classes of the command line's backbone and head.

    Returns:
        The model and the checkpoint.

    Raises:
        CheckpointError: If `load` raises it.
    """
    checkpoint = read_checkpoint(path)
    own = [target.split(".")[0] for target in targets]
    packages = list(dict.fromkeys(["parcnet_train", *own]))
    return restore(checkpoint, path, packages=packages), checkpoint
