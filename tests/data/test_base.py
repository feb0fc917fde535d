"""Behavior shared by the data modules of all tasks: workers, seeds, sizes."""

import itertools
import os

import numpy as np
import pytest
import torch
from lightning_fabric.utilities.data import _set_sampler_epoch
from pytorch_lightning import Trainer

from class_folders import fitted, make_data
from parcnet_train.data import base
from parcnet_train.data.classification.transforms import Augmentation
from parcnet_train.data.samplers import MultiScale
from parcnet_train.errors import ConfigError, DataError, message_of


def equal(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_unreadable_image_in_a_loader_process_has_the_same_message(image_folder):
    (image_folder / "val" / "ant" / "0.png").write_bytes(b"")
    data = fitted(image_folder, num_workers=1)
    with pytest.raises(DataError) as raised:
        list(data.val_dataloader())
    assert message_of(raised.value).startswith(f"{image_folder}/val/ant/0.png cannot be read")
    assert message_of(raised.value).endswith("data.on_error=skip")
    data.end_workers()


def test_last_validation_batch_is_padded(image_folder):
    first, second = fitted(image_folder, batch_size=5).val_dataloader()
    assert first.labels.tolist() == [0, 0, 1, 1, 2]
    assert second.labels.tolist() == [2, -1, -1, -1, -1]
    assert first.images.flatten(1).any(dim=1).all()
    assert second.images.flatten(1).any(dim=1).tolist() == [True, False, False, False, False]


def test_repeats_show_each_image_several_times(image_folder):
    data = fitted(image_folder, batch_size=4, augmentation=Augmentation(repeats=2))
    batches = list(data.train_dataloader())
    assert [len(batch.labels) for batch in batches] == [4, 4, 4]
    for batch in batches:
        assert batch.labels[::2].tolist() == batch.labels[1::2].tolist()
        assert not (batch.images[::2] == batch.images[1::2]).all()


def test_processes_count_the_classes_together(image_folder, monkeypatch):
    data = fitted(image_folder)
    monkeypatch.setattr(data, "_place", lambda: (1, 2))
    labels = torch.tensor(data.train_set.labels)
    wanted = labels[1::2].bincount(minlength=3)
    # As if the other process had counted the same.
    monkeypatch.setattr(base, "total", lambda counts: 2 * counts)
    assert data.class_counts(3).tolist() == (2 * wanted).tolist()


def test_data_set_that_counts_all_labels_is_not_added_up(image_folder, monkeypatch):
    class Whole(list):
        """A data set whose method has no rank and world size."""

        def class_counts(self, num_classes):
            return np.arange(num_classes)

    data = make_data(image_folder)
    data.train_set = Whole([0])
    monkeypatch.setattr(data, "_place", lambda: (1, 2))
    monkeypatch.setattr(base, "total", lambda counts: 2 * counts)
    assert data.class_counts(3).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("key", "ask"),
    [
        ("recipe.class_weights", lambda data: data.class_counts(2)),
        ("recipe.sampler", lambda data: data.train_dataloader()),
    ],
)
def test_data_set_without_labels_in_memory_is_refused_if_they_are_needed(image_folder, key, ask):
    class Bare(list):
        """A data set of the protocol, without further members."""

    data = make_data(image_folder, sampler="balanced")
    data.train_set = Bare([0])
    with pytest.raises(ConfigError) as caught:
        ask(data)
    assert str(caught.value).startswith(f"{key}=balanced: Bare has no ")
    assert f"Fix: {key}=null" in str(caught.value)


def test_multi_scale_batches_vary_in_size(image_folder):
    scales = MultiScale(smallest=0.5, largest=1.5, count=3)
    data = fitted(image_folder, image_size=64, batch_size=2, multi_scale=scales, num_workers=1)
    assert {batch.images.shape[2:] for batch in data.val_dataloader()} == {(64, 64)}
    loader = data.train_dataloader()
    sizes = set()
    for epoch in range(4):
        _set_sampler_epoch(loader, epoch)
        sizes |= {batch.images.shape[2:] for batch in loader}
    assert sizes == {(32, 32), (64, 64), (96, 96)}


def test_one_number_as_image_size_is_a_square(image_folder):
    assert make_data(image_folder, image_size=24).image_size == (24, 24)


def test_batches_do_not_depend_on_the_number_of_workers(image_folder, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(2), raising=False)
    alone, shared = fitted(image_folder, seed=3), fitted(image_folder, seed=3, num_workers=2)
    assert shared.workers() == 2
    for first, second in (
        (alone.train_dataloader(), shared.train_dataloader()),
        (alone.val_dataloader(), shared.val_dataloader()),
    ):
        assert all(itertools.starmap(equal, zip(first, second, strict=True)))


def test_persistent_workers_load_the_next_epoch(image_folder):
    loader = fitted(image_folder, num_workers=1).train_dataloader()
    assert loader.persistent_workers
    alone = fitted(image_folder).train_dataloader()
    epochs = []
    for epoch in range(2):
        _set_sampler_epoch(loader, epoch)
        _set_sampler_epoch(alone, epoch)
        epochs.append(list(loader))
        assert all(itertools.starmap(equal, zip(epochs[-1], alone, strict=True)))
    assert not any(itertools.starmap(equal, zip(*epochs, strict=True)))


def test_seed_changes_order_and_augmentation(image_folder):
    first = list(fitted(image_folder, seed=0).train_dataloader())
    second = list(fitted(image_folder, seed=1).train_dataloader())
    assert [b.labels.tolist() for b in first] != [b.labels.tolist() for b in second]
    assert not any(itertools.starmap(equal, zip(first, second, strict=True)))


@pytest.mark.parametrize("cores", [(3, 8), (8, 3)], ids=["machine", "scheduler"])
def test_workers_never_exceed_processors(image_folder, monkeypatch, cores):
    monkeypatch.setattr(os, "cpu_count", lambda: cores[0])
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(cores[1]), raising=False)
    assert make_data(image_folder, num_workers=8).workers() == 3
    assert make_data(image_folder, num_workers=2).workers() == 2
    assert make_data(image_folder, num_workers=0).workers() == 0


@pytest.mark.parametrize(("processes", "expected"), [(1, 8), (3, 2), (4, 2), (16, 1)])
def test_processes_of_a_machine_share_its_processors(
    image_folder, processes, expected, monkeypatch
):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(8), raising=False)
    data = make_data(image_folder, num_workers=8)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert data.workers() == expected
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    data.trainer = Trainer(accelerator="cpu", devices=processes, logger=False)
    assert data.workers() == expected
    data.setup("fit")
    assert data.train_dataloader().num_workers == expected
