from pathlib import Path

import cv2
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

from parcnet_train.callbacks.pictures import NAME, Pictures
from parcnet_train.visualize.pictures import grid

BATCHES = torch.arange(10).float().split(3)


class Doubler(pl.LightningModule):
    """A task whose pictures have the brightness of its inputs and outputs."""

    def __init__(self, count):
        super().__init__()
        self.count = count
        self.weight = torch.nn.Parameter(torch.tensor(2.0))
        self.drawn = []

    def training_step(self, batch, batch_idx):
        return self.weight * 0

    def validation_step(self, batch, batch_idx):
        return (self.weight * batch).tolist()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def configure_callbacks(self):
        return [Pictures(self.count, self.draw)]

    def draw(self, batch, outputs):
        for value, found in zip(batch, outputs, strict=True):
            self.drawn.append((int(value), int(found)))
            yield tuple(np.full((8, 8, 3), each, np.uint8) for each in self.drawn[-1])


class Wandb(WandbLogger):
    """A logger that stores what wandb would get."""

    def __init__(self):
        self.images = []

    def log_image(self, key, images, step=None):
        self.images.append((key, images, step))

    def log_metrics(self, metrics, step=None):
        pass

    def log_hyperparams(self, params):
        pass

    def save(self):
        pass

    def finalize(self, status):
        pass


def trainer(folder, loggers=(), epochs=2):
    return pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        default_root_dir=folder,
        logger=list(loggers),
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def loader():
    return DataLoader(BATCHES, batch_size=None)


def test_every_evaluation_writes_pictures_of_its_first_images(tmp_path):
    network = Doubler(count=4)
    loggers = [CSVLogger(tmp_path), TensorBoardLogger(tmp_path), wandb := Wandb()]
    trainer(tmp_path, loggers).fit(network, loader(), loader())
    first = [(0, 0), (1, 2), (2, 4), (3, 6)]  # pictures of two batches
    assert network.drawn == first * 2
    expected = grid([tuple(np.full((8, 8, 3), each, np.uint8) for each in pair) for pair in first])
    files = sorted((tmp_path / "pictures").iterdir())
    assert [file.name for file in files] == ["epoch_001.jpg", "epoch_002.jpg"]
    for file in files:
        np.testing.assert_allclose(cv2.imread(str(file)), expected, atol=9)
    steps = [len(BATCHES) - 1, 2 * len(BATCHES) - 1]
    (folder,) = tmp_path.glob("lightning_logs/*/events*")
    events = EventAccumulator(str(folder)).Reload().Images(NAME)
    assert [event.step for event in events] == steps
    image = cv2.imdecode(np.frombuffer(events[0].encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(image, expected)
    assert [(key, step) for key, _, step in wandb.images] == [(NAME, step) for step in steps]
    np.testing.assert_array_equal(wandb.images[0][1], [expected])


def test_an_evaluation_without_training_writes_final_jpg(tmp_path):
    network = Doubler(count=64)
    trainer(tmp_path).validate(network, loader(), verbose=False)
    assert len(network.drawn) == 10  # there are no more
    assert [file.name for file in Path(tmp_path / "pictures").iterdir()] == ["final.jpg"]


def test_other_processes_draw_nothing(tmp_path, monkeypatch):
    network = Doubler(count=4)
    monkeypatch.setattr(pl.Trainer, "is_global_zero", False)
    trainer(tmp_path).validate(network, loader(), verbose=False)
    assert network.drawn == []
    assert not (tmp_path / "pictures").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_full_disk_costs_only_the_picture(tmp_path, caplog):
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "epoch_001.jpg.partial").symlink_to("/dev/full")
    trainer(tmp_path).fit(Doubler(count=1), loader(), loader())
    (line,) = (each.message for each in caplog.records if "epoch_001.jpg" in each.message)
    assert "cannot be written: No space left on device. Fix: free some disk space" in line
    assert [file.name for file in folder.iterdir()] == ["epoch_002.jpg"]
