"""Predictions of small trainings, and their images."""

import json

import cv2
import numpy as np
import PIL.Image
import torch

from parcnet_train.checkpoints.reading import read_checkpoint
from running import TINY, run


def best(folder):
    return folder / "checkpoints" / "best.ckpt"


def predict(ckpt, given, output, *more):
    """Predict, and return the results and the predictions."""
    results = run(["action=predict", f"ckpt={ckpt}", f"input={given}", *more], output)
    return results, json.loads((output / "predictions.json").read_text())


def photo(number=0, height=30, width=40):
    coarse = np.random.default_rng(number).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def write_mixed(folder):
    """Write 20 ordinary images and five unusual ones, of which two cannot be read."""
    folder.mkdir()
    for number in range(20):
        ending = ("jpg", "png")[number % 2]
        cv2.imwrite(str(folder / f"good{number:02d}.{ending}"), photo(number))
    (folder / "x.jpg").write_text("this is no image")
    whole = cv2.imencode(".jpg", photo(0, 300, 400))[1].tobytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    PIL.Image.fromarray(photo(1)).convert("CMYK").save(folder / "cmyk.jpg")
    cv2.imwrite(str(folder / "deep.png"), photo(2).astype(np.uint16) * 257)
    first, *others = (PIL.Image.fromarray(photo(number)) for number in (3, 4, 5))
    first.save(folder / "animated.gif", save_all=True, append_images=others)
    return folder


DETECTION = ("task=detection", "data=coco_format", *TINY[:-1], "task.pictures=0")


def changed(folder, output, **data):
    """Write the checkpoint of a run with other data settings."""
    checkpoint = read_checkpoint(best(folder))
    checkpoint["config"]["data"].update(data)
    torch.save(checkpoint, output)
    return output


SEGMENTATION = ("task=segmentation", "data=voc_format", *TINY[:-1], "task.pictures=0")
SEGMENTATION += ("head.channels=16", "recipe.schedule.warmup_steps=0")
