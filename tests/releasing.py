"""Small checkpoints of every task, and their releases."""

import json

import torch

from lively import enliven, used_to_images
from parcnet_train.build import build_model, height_and_width
from parcnet_train.runs.releases import CONFIG, OURS
from running import composed, run

NAMES = {
    "classification": ["ant", "bee|<b>", "cat"],
    "detection": ["background", "car", "dog"],
    "segmentation": ["background", "sky"],
}
SMALL = ("backbone=parcnet_xs", "backbone.depths=[1,1,1]")


def write_checkpoint(path, task="classification", *overrides, network=SMALL, **changes):
    """Write a checkpoint of a lively network, as converting and averaging do: only weights."""
    names = NAMES[task]
    config = composed(f"task={task}", "debug=tiny", *network, *overrides)
    torch.manual_seed(0)
    model = build_model(config, len(names)).eval()
    enliven(model)
    used_to_images(model, height_and_width(config["recipe"]["image_size"]), model.in_channels)
    content = {
        "state_dict": {f"model.{name}": value for name, value in model.state_dict().items()},
        "config": config,
        "choices": config["choices"],
        "class_names": names,
        "epoch": 4,
        "global_step": 9,
        "parcnet_train_version": "0.1.0",
        **changes,
    }
    torch.save(content, path)
    return path


def release(ckpt, output, *overrides):
    """Release a checkpoint; return the results and the folder."""
    results = run(["action=release", f"ckpt={ckpt}", *overrides], output)
    return results, output / "release"


def config_of(folder):
    return json.loads((folder / CONFIG).read_text())


def change(folder, **values):
    """Change values of our section; `config` and `choices` are updated, other keys replaced."""
    content = config_of(folder)
    for key, value in values.items():
        ours = content[OURS]
        ours[key] = ours.get(key, {}) | value if isinstance(value, dict) else value
    (folder / CONFIG).write_text(json.dumps(content))
    return folder
