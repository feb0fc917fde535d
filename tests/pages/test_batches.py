"""The first training batches on the page: what is drawn is what the network gets."""

import cv2
import numpy as np
import pytest
import torch

from parcnet_train.data.batches import ClassificationBatch, DetectionBatch, SegmentationBatch
from parcnet_train.pages import batches as module
from parcnet_train.pages.batches import BATCHES, FirstBatches
from parcnet_train.pages.parts import VALUES
from parcnet_train.runs.directories import read_values

NAMES = ["background", "cat"]


class Trainer:
    is_global_zero = True
    global_step = 0
    datamodule = type("Data", (), {"class_names": NAMES})


class Module:
    watch_images = None


def fed(folder, batches, count=2, step=0, draws=True, ends=True):
    """Feed batches as a training does: the callback's hook, then the images of the step."""
    callback, trainer, module = FirstBatches(folder, count), Trainer(), Module()
    trainer.global_step = step
    callback.on_train_start(trainer, module)
    for number, batch in enumerate(batches):
        callback.on_train_batch_start(trainer, module, batch, number)
        if module.watch_images is not None and draws:
            module.watch_images(batch.images)
    if ends:
        callback.on_train_end(trainer, module)
    assert module.watch_images is None or not ends
    assert callback.batch is None or not ends
    return module


def noise(seed, size=24):
    generator = torch.Generator().manual_seed(seed)
    small = torch.randint(0, 256, (3, 3, 4, 4), generator=generator).byte()
    return torch.nn.functional.interpolate(small, (size, size))  # JPEG keeps flat squares


def classified(seed):
    return ClassificationBatch(noise(seed), torch.tensor([0, 1, 0]), torch.arange(3), 0)


def test_pictures_show_the_pixels_that_the_network_gets(tmp_path):
    batches = [classified(seed) for seed in range(BATCHES + 2)]
    module = fed(tmp_path, batches, ends=False)
    assert module.watch_images is None
    files = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert files == [f"batch_{b}_{i}.jpg" for b in range(1, BATCHES + 1) for i in (1, 2)]
    for number, batch in enumerate(batches[:BATCHES], 1):
        picture = cv2.imread(str(tmp_path / "pictures" / f"batch_{number}_2.jpg"))[..., ::-1]
        assert picture.shape == (240, 240, 3)
        # The middle of every pixel, which is enlarged ten times.
        expected = batch.images[1].permute(1, 2, 0).numpy().astype(float)
        assert np.abs(picture[5::10, 5::10] - expected).mean() < 6
    blocks = read_values(tmp_path / VALUES)["sections"]["batches"]["blocks"]
    assert [each["drawings"][1]["caption"] for each in blocks] == ["cat"] * BATCHES
    assert blocks[0]["text"] == "3 images of 24x24 pixels."


def test_a_resumed_training_keeps_the_pictures_of_its_start(tmp_path):
    assert fed(tmp_path, [classified(0)], step=5).watch_images is None
    assert not (tmp_path / "pictures").exists()


def test_mixed_images_are_named(tmp_path):
    batch = classified(0)
    fed(tmp_path, [batch._replace(images=batch.images / 255)])
    (block,) = read_values(tmp_path / VALUES)["sections"]["batches"]["blocks"]
    assert block["drawings"][0]["caption"] == "background, mixed with another image"


BOXES = torch.tensor([[[2.0, 2, 12, 12], [0, 0, 0, 0]]] * 3)
LABELS = torch.tensor([[1, -1], [-1, -1], [1, -1]])


@pytest.mark.parametrize(
    ("batch", "captions"),
    [
        (
            DetectionBatch(noise(1), BOXES, LABELS, torch.arange(3), BOXES[:, 0], 0),
            ["cat", "no object"],
        ),
        (
            SegmentationBatch(
                noise(1), torch.ones(3, 24, 24).byte(), torch.arange(3), BOXES[:, 0], [], 0
            ),
            ["", ""],
        ),
    ],
    ids=["boxes", "masks"],
)
def test_boxes_and_masks_are_drawn(batch, captions, tmp_path):
    fed(tmp_path, [batch])
    (block,) = read_values(tmp_path / VALUES)["sections"]["batches"]["blocks"]
    assert [each["caption"] for each in block["drawings"]] == captions
    plain = batch.images[0].permute(1, 2, 0).numpy()
    picture = cv2.imread(str(tmp_path / "pictures" / "batch_1_1.jpg"))[..., ::-1]
    scaled = cv2.resize(plain, (480, 480), interpolation=cv2.INTER_LINEAR)
    assert np.abs(picture[:480].astype(int) - scaled).max() > 100  # something is drawn on it


def test_a_failure_is_a_warning_and_ends_it(tmp_path, caplog):
    batches = [classified(0)._replace(labels=torch.tensor([7, 7, 7]))] * (BATCHES + 1)
    assert fed(tmp_path, batches, ends=False).watch_images is None
    page = tmp_path / "report.html"
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"{page}: the first batches are left out: ")


def test_a_task_that_shows_no_images_is_watched_no_longer_than_others(tmp_path):
    batches = [classified(seed) for seed in range(BATCHES + 1)]
    assert fed(tmp_path, batches, draws=False, ends=False).watch_images is None
    assert not (tmp_path / VALUES).exists()


def test_every_picture_is_written_once(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(module, "save", lambda *given: written.append(given))
    fed(tmp_path, [classified(seed) for seed in range(BATCHES + 2)])
    ((_, key, _, blocks),) = written
    assert (key, [each.title for each in blocks]) == ("batches", ["Batch 1", "Batch 2", "Batch 3"])
