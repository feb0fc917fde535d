"""Weights and images of the golden files, which formulas define."""

import json
import zlib
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).parent / "golden"


def read(name):
    return json.loads((FOLDER / f"{name}.json").read_text())


def state_dict(golden):
    entries = {}
    for key, shape, dtype in golden["state_dict"]:
        if not dtype.startswith("float"):
            entries[key] = torch.zeros(shape, dtype=getattr(torch, dtype))
            continue
        z = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
        if key.endswith("running_var"):
            value = 1 + 0.1 * np.abs(z)
        elif "meta_pe" in key:
            value = 0.5 * z
        elif len(shape) >= 2:
            value = golden.get("gain", 1) * z / np.sqrt(np.prod(shape[1:]))
        elif key.endswith("weight"):
            value = 1 + 0.1 * z
        else:
            value = 0.1 * z
        entries[key] = torch.from_numpy(np.asarray(value, dtype=np.float32))
    return entries


def weights_of(module):
    """Return a state dict for a module, with values by the same formula.

    The gain keeps the activations of MobileViT from vanishing, so that logits depend on the image.
    """
    entries = [
        (name, tuple(value.shape), str(value.dtype).removeprefix("torch."))
        for name, value in module.state_dict().items()
    ]
    return state_dict({"state_dict": entries, "gain": 1.5})


def image(shape):
    """Return an image with channels in the authors' order: blue, green, red."""
    i = np.arange(np.prod(shape), dtype=np.float64)
    x = 0.5 + 0.5 * np.sin(0.011 * i) * np.cos(0.00037 * i)
    return torch.from_numpy(x.reshape(shape).astype(np.float32))
