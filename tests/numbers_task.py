"""Task on numbers in float64, which Lightning trains in a fraction of a second."""

import functools
from typing import NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader

from parcnet_train.callbacks.steps import EpochLength, ValidationSchedule
from parcnet_train.data.samplers import EvalBatches, TrainBatches
from parcnet_train.optim.schedule import warmup_cosine
from parcnet_train.tasks.base import Task
from parcnet_train.tasks.metrics import loss_and_skipped


class Numbers(NamedTuple):
    """Batch of inputs and targets."""

    images: torch.Tensor
    targets: torch.Tensor


class NumbersData(pl.LightningDataModule):
    """Random samples with the samplers of real trainings."""

    begin = (0, 0)

    def __init__(self, length, batch_size, multi_scale=None, accumulate=1):
        super().__init__()
        random = np.random.default_rng(0)
        self.values = random.normal(size=(length, 4))
        self.size = (32, 32)
        self.sampler = TrainBatches(
            length,
            batch_size * accumulate,
            self.size,
            0,
            accumulate=accumulate,
            multi_scale=multi_scale,
        )

    def __getitem__(self, key):
        return self.values[key.sample, :3], self.values[key.sample, 3]

    def __len__(self):
        return len(self.values)

    @staticmethod
    def collate(samples):
        images, targets = (torch.tensor(np.stack(each)) for each in zip(*samples, strict=True))
        return Numbers(images, targets)

    def batches(self, epoch):
        """Return the batches of an epoch for a plain loop."""
        self.sampler.set_epoch(epoch)
        return [self.collate([self[key] for key in keys]) for keys in self.sampler]

    def train_dataloader(self):
        return DataLoader(self, batch_sampler=self.sampler, collate_fn=self.collate)

    def val_dataloader(self):
        batches = EvalBatches(len(self), 4, self.size)
        return DataLoader(self, batch_sampler=batches, collate_fn=self.collate)


class NumbersTask(Task):
    """Least squares without dropout, so that a plain loop gives the same results."""

    monitor, mode, shown = "val/loss", "min", ("val/loss",)

    def __init__(self, reference_batch, lr=0.1, **schedule):
        generator = torch.Generator().manual_seed(0)
        network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Linear(2, 1)).double()
        for parameter in network.parameters():
            parameter.data = torch.rand(parameter.shape, generator=generator).double()
        super().__init__(
            network,
            lambda model: torch.optim.SGD(model.parameters(), lr=lr),
            functools.partial(warmup_cosine, **schedule),
            reference_batch,
        )
        self.val_metrics = loss_and_skipped("val/loss", "val/skipped")

    def losses(self, batch):
        return (self.model(batch.images).squeeze(1) - batch.targets) ** 2

    def training_step(self, batch, batch_idx):
        losses = self.losses(batch)
        self.train_metrics["train/loss_epoch"].update(losses)
        self.train_metrics["train/skipped"].update(0)
        return losses.mean()

    def validation_step(self, batch, batch_idx):
        self.val_metrics["val/loss"].update(self.losses(batch))
        self.val_metrics["val/skipped"].update(0)

    def validation_metrics(self):
        values = self.val_metrics.compute()
        self.val_metrics.reset()
        return values


def train(task, data, callbacks=(), logger=False, max_steps=None, validated=(1.0, 1), **settings):
    """Train with callbacks; `validated` are arguments of `ValidationSchedule`."""
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=logger,
        callbacks=[EpochLength(max_steps), ValidationSchedule(*validated), *callbacks],
        enable_checkpointing=any(isinstance(each, ModelCheckpoint) for each in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        **settings,
    )
    trainer.fit(task, data)
    return trainer
