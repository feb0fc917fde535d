"""The same samples from a folder, an object store, and shards in both."""

import numpy as np
import pytest
import torch

from packing import packed, put
from parcnet_train.build import build_data
from running import configure

KINDS = ["folder", "objects", "shards", "shards of objects"]
OF_TASKS = {
    "classification": ("imagefolder", "image_folder"),
    "detection": ("coco_format", "coco_folder"),
    "segmentation": ("voc_format", "voc_folder"),
}


def place(kind, folder, target, monkeypatch):
    """Put a folder where it is read from; returns the value of data.root."""
    if "shards" in kind:
        packed(folder, target / "packed", monkeypatch)
        folder = target / "packed"
    return put(folder, kind.replace(" ", ""), monkeypatch) if "objects" in kind else str(folder)


def batches_of(task, root, cache):
    data_name, _ = OF_TASKS[task]
    config, faults = configure(
        [
            *("debug=tiny", f"task={task}", f"data={data_name}", f"data.root={root}"),
            *("backbone=parcnet_xs", "recipe.image_size=64", "recipe.batch_size=2"),
            *("data.num_workers=2", f"paths.cache={cache}"),
        ]
    )
    assert faults == []
    data = build_data(config)
    data.setup("fit")
    found = [list(data.train_dataloader()), list(data.val_dataloader())]
    prints = data.fingerprint()
    data.end_workers()
    return found, prints, data.class_names


def leaves(value):
    if isinstance(value, torch.Tensor):
        return [value.numpy()]
    if isinstance(value, list | tuple):
        return [leaf for each in value for leaf in leaves(each)]
    return [np.array(value)]


# Shards of objects need everything that the other two need.
FEWER = [pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS[1:3]]


@pytest.mark.parametrize("kind", [*FEWER, KINDS[3]])
@pytest.mark.parametrize("task", OF_TASKS)
def test_batches_are_those_of_the_folder(task, kind, request, monkeypatch, tmp_path_factory):
    folder = request.getfixturevalue(OF_TASKS[task][1])
    target = tmp_path_factory.mktemp("stored")
    expected = batches_of(task, folder, target / "cache")
    found = batches_of(task, place(kind, folder, target, monkeypatch), target / "cache")
    assert found[1:] == expected[1:]
    pairs = list(zip(leaves(found[0]), leaves(expected[0]), strict=True))
    assert len(pairs) > 10
    for each, other in pairs:
        np.testing.assert_array_equal(each, other)
