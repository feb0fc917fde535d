"""Former names of modules, so that old checkpoints can still be loaded."""

from __future__ import annotations

from typing import Any

# Former prefixes of `_target_` in checkpoints' configurations, and their current names.
RENAMED = {
    "parcnet_train.backbones": "parcnet_train.models.backbones",
    "parcnet_train.heads": "parcnet_train.models.heads",
    "parcnet_train.schedule": "parcnet_train.optim.schedule",
    "parcnet_train.loggers": "parcnet_train.runs.loggers",
    "parcnet_train.data.boxed_images": "parcnet_train.data.detection.dataset",
    "parcnet_train.data.classification.ImageFolderData": (
        "parcnet_train.data.classification.module.ImageFolderData"
    ),
    "parcnet_train.data.demo.DigitsData": "parcnet_train.data.demo.classification.DigitsData",
    "parcnet_train.data.demo_detection": "parcnet_train.data.demo.detection",
    "parcnet_train.data.demo_segmentation": "parcnet_train.data.demo.segmentation",
    "parcnet_train.data.detection.CocoData": "parcnet_train.data.detection.module.CocoData",
    "parcnet_train.data.detection_transforms": "parcnet_train.data.detection.transforms",
    "parcnet_train.data.huggingface": "parcnet_train.data.classification.huggingface",
    "parcnet_train.data.segmentation.VocData": "parcnet_train.data.segmentation.module.VocData",
    "parcnet_train.data.segmentation_transforms": "parcnet_train.data.segmentation.transforms",
    "parcnet_train.data.transforms": "parcnet_train.data.classification.transforms",
}


def renamed(value: Any) -> Any:
    """Return a configuration of plain values with the current name in every `_target_`.

    Args:
        value: Mapping, list or plain value; it is not changed.
    """
    if isinstance(value, dict):
        return {
            key: current(inner) if key == "_target_" else renamed(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [renamed(inner) for inner in value]
    return value


def current(target: Any) -> Any:
    """Return the current name of a class or function; any other value is returned unchanged."""
    for old, new in RENAMED.items():
        if target == old or (isinstance(target, str) and target.startswith(f"{old}.")):
            return new + target.removeprefix(old)
    return target
