"""Scripts beside exported files, run as their users run them, and compared with `predict`."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import cv2
import numpy as np

from exporting import NAMES
from lively import lively, used_to_images
from parcnet_train.deploy.exportable import Exportable
from parcnet_train.deploy.formats.formats import FORMATS
from parcnet_train.deploy.standalone.write import write_script
from parcnet_train.predict.tasks import predictor_of

THRESHOLD = 0.3

# Refuses to import what a device does not have; ExecuTorch itself needs torch.
ALONE = """
import pathlib, runpy, sys
sys.argv = sys.argv[1:]
for name in ("torch", "torchvision", "parcnet_train"):
    if name != "torch" or "executorch" not in pathlib.Path(sys.argv[0]).read_text():
        sys.modules[name] = None
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def pictures(folder, number=8, channels=3):
    """Files of several sizes and formats with soft shapes in them; one is turned by its EXIF."""
    formats = ("jpg", "png", "bmp", "webp") if channels != 4 else ("png",)
    random, paths = np.random.default_rng(0), []
    for index in range(number):
        size = tuple(int(each) for each in random.integers(60, 180, 2))
        coarse = random.integers(0, 256, (6, 8, max(3, channels)), np.uint8)
        image = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
        path = folder / f"photo {index}.{formats[index % len(formats)]}"
        path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())
        paths.append(path)
    if channels == 4:
        return paths
    content = paths[0].read_bytes()
    # Orientation 6 in an EXIF segment after the start of the file.
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    paths[0].write_bytes(content[:2] + segment + content[2:])
    return paths


def exported(form, backbone, task, size, folder, data=None, **options):
    """A network, its predictor, its file and the script beside it."""
    data = data or {}
    channels = data.get("channels", 3)
    overrides = () if channels == 3 else (f"data.channels={channels}",)
    model = used_to_images(lively(backbone, task, *overrides), size, channels)
    predictor = predictor_of(task, NAMES, size, {}, data)
    network = Exportable(model, size, **options)
    path = folder / f"network{FORMATS[form].suffixes[0]}"
    about = (NAMES, predictor.about())
    FORMATS[form].write(network, path, network.description(*about))
    script = write_script(path, "network", network.about(*about))
    return SimpleNamespace(model=model, predictor=predictor, path=path, script=script)


def run_script(script, arguments, folder):
    """Run a script where neither torch nor this package is."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    command = [sys.executable, "-c", ALONE, str(script), *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def answers(script, paths, *options, folder):
    """What the script prints for each image."""
    finished = run_script(script, [*paths, *options], folder)
    assert finished.returncode == 0, finished.stderr
    return [json.loads(line) for line in finished.stdout.splitlines()]


def assert_equal_to_predict(made, task, paths, folder):
    """Compare the answers of the script with those of PyTorch, by the limits of the docs."""
    options = ("--score-threshold", str(THRESHOLD)) if task == "detection" else ()
    found = answers(made.script, paths, *options, folder=folder)
    assert [each["file"] for each in found] == list(map(str, paths))
    expected = [made.predictor.predict(made.model, path, 3, THRESHOLD) for path in paths]
    if task == "segmentation":
        compare_masks(found, expected, folder)
        return
    for ours, theirs in zip(found, expected, strict=True):
        (compare_classes if task == "classification" else compare_objects)(ours, theirs)


def compare_classes(ours, expected):
    best = ours["predictions"][:3]
    assert [each["index"] for each in best] == expected.labels
    assert [each["class"] for each in best] == expected.names
    found = [each["probability"] for each in best]
    np.testing.assert_allclose(found, expected.probabilities, atol=1e-3)


def compare_objects(ours, expected):
    objects = ours["objects"]
    assert len(objects) == len(expected.names) > 0
    scores = [each["score"] for each in objects]
    np.testing.assert_allclose(scores, expected.scores, atol=1e-3)
    for name, box in zip(expected.names, expected.boxes, strict=True):
        distances = [np.abs(box - each["box"]).max() for each in objects if each["class"] == name]
        assert min(distances) < 0.5


def compare_masks(found, expected, folder):
    equal = []
    for ours, theirs in zip(found, expected, strict=True):
        mask = cv2.imread(folder / ours["mask"], cv2.IMREAD_UNCHANGED)
        assert mask.shape == theirs.mask.shape
        assert ours["classes"].keys() <= set(NAMES)
        equal.append((mask == theirs.mask).ravel())
    # Of all images: in an untrained network, rounding decides some pixels of an image.
    assert np.concatenate(equal).mean() >= 0.999
