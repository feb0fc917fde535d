"""Scenes that are drawn once and shared."""

import numpy as np
import pytest

from parcnet_train.data.demo import scenes
from parcnet_train.data.demo.scenes import draw_scenes


@pytest.fixture(scope="module")
def drawn():
    """All scenes of both splits; images are empty to save time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes, "make_background", lambda height, width, rng: (height, width))
        patch.setattr(scenes, "paste", lambda image, sticker, rng: None)
        patch.setattr(scenes, "_photograph", lambda size, rng: np.empty((*size, 3), np.uint8))
        return {split: list(draw_scenes(split)) for split in ("train", "val")}
