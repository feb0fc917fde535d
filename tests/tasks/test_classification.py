"""The classification task."""

import copy

import cv2
import numpy as np
import pytest
import torch

import parcnet_train
from parcnet_train.checkpoints.reading import read_checkpoint
from parcnet_train.data.samplers import MultiScale, TrainBatches
from parcnet_train.predict.inputs import read_file
from parcnet_train.tasks.classification import ClassificationTask
from running import MULTI_SCALE, TINY, launched, run

METRICS = ("val/top1", "val/top5", "val/loss")


def write_images(root, number):
    """Write this many images of `train`, of two classes, and two of `val`."""
    for split, count in (("train", number), ("val", 2)):
        for index in range(count):
            folder = root / split / "ab"[index % 2]
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f"{index}.png"), np.full((32, 32, 3), index, np.uint8))


def test_multi_scale_epochs_have_the_planned_lengths_and_all_images(tmp_path, monkeypatch):
    write_images(tmp_path / "data", 41)
    shapes = []
    step = ClassificationTask.training_step

    def watched(task, batch, batch_idx):
        shapes.append((task.current_epoch, len(batch.images), *batch.images.shape[2:]))
        return step(task, batch, batch_idx)

    monkeypatch.setattr(ClassificationTask, "training_step", watched)
    settings = ["recipe.batch_size=8", "trainer.max_epochs=3", "trainer.limit_train_batches=1.0"]
    settings += [
        "data=imagefolder",
        f"data.root={tmp_path / 'data'}",
        "trainer.limit_val_batches=1",
    ]
    results = run([*TINY, *MULTI_SCALE, *settings], tmp_path / "run")
    plans = TrainBatches(41, 8, (64, 64), 0, multi_scale=MultiScale("balanced"))
    expected = [
        (epoch, scale.images, *scale.size)
        for epoch in range(3)
        for scale in plans.plan(epoch).scales
    ]
    assert shapes == expected
    lengths = {len(plans.plan(epoch).scales) for epoch in range(3)}
    assert len(lengths) > 1
    assert results["steps"] == len(expected)


EVALUATED = (1, 2, 4, 5, 6, 8, 9)  # of ten classes
NAMES = [f"class {letter}" for letter in "abcdefghij"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folders of seven of the ten classes, with images of noise."""
    root, rng = tmp_path_factory.mktemp("set"), np.random.default_rng(0)
    for index in EVALUATED:
        (root / NAMES[index]).mkdir()
        for number in range(4):
            pixels = rng.integers(0, 256, (3, 3, 3), dtype=np.uint8)
            pixels = cv2.resize(pixels, (32, 32), interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(root / NAMES[index] / f"{number}.png"), pixels)
    return root


@pytest.fixture(scope="module")
def network(trained, folder, tmp_path_factory):
    """The small training with other classes, and weights whose answers depend on the image.

    Its averaged weights and its trained ones give different answers.
    """
    checkpoint = dict(read_checkpoint(trained[0] / "checkpoints" / "best.ckpt"))
    model = parcnet_train.load(trained[0])
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        for parameter in model.parameters():
            if parameter.dim() == 4:  # large enough that images remain different
                torch.nn.init.kaiming_normal_(parameter)
        model.train()
        for _ in range(10):  # BatchNorm's statistics become those of the images
            model(pixels_of(model, folder))
        model.eval()
        for key in ("state_dict", "current_model_state"):
            model.head.linear.weight.normal_()
            model.head.linear.bias -= model(pixels_of(model, folder)).mean(0)
            state = {f"model.{name}": value for name, value in model.state_dict().items()}
            checkpoint[key] = {**checkpoint[key], **copy.deepcopy(state)}
    path = tmp_path_factory.mktemp("network") / "network.ckpt"
    torch.save({**checkpoint, "class_names": NAMES}, path)
    return path


def pixels_of(model, folder):
    """All images of a folder, `(N, 3, 32, 32)` uint8, sorted by path."""
    return torch.stack([model.predictor.prepare(read_file(p)).pixels for p in files_of(folder)])


def files_of(folder):
    return sorted(folder.glob("*/*.png"))


def metrics_by_definition(network, folder, classes, ema=True):
    """The three metrics if only these classes can be chosen, image by image."""
    model = parcnet_train.load(network, ema)
    with torch.inference_mode():
        logits = model(pixels_of(model, folder)).double().numpy()
    top1, top5, losses = [], [], []
    for path, row in zip(files_of(folder), logits, strict=True):
        true = row[NAMES.index(path.parent.name)]
        better = sum(row[other] > true for other in classes)
        top1.append(better < 1)
        top5.append(better < 5)
        losses.append(np.log(np.exp(row[list(classes)] - true).sum()))
    return np.mean(top1), np.mean(top5), np.mean(losses)


def of_set(network, folder, wanted):
    """Overrides that evaluate a checkpoint on the class folders of a folder."""
    found = ["action=test", f"ckpt={network}", "data=imagefolder", f"data.root={folder}"]
    return [*found, "data.val_dir=.", "data.num_workers=0", f"task.evaluated_classes={wanted}"]


def test_only_evaluated_classes_can_be_chosen(network, folder, tmp_path):
    results = run([*of_set(network, folder, "folders"), "recipe.ema.compare=true"], tmp_path)
    expected = metrics_by_definition(network, folder, EVALUATED)
    assert [results[name] for name in METRICS] == pytest.approx(expected, abs=1e-4)
    raw = metrics_by_definition(network, folder, EVALUATED, ema=False)
    assert results["val/raw/top1"] == pytest.approx(raw[0], abs=1e-5)
    of_all = metrics_by_definition(network, folder, range(10))
    assert min(np.abs(np.subtract(expected, of_all))) > 0.01  # the other classes would matter
    assert 0 < raw[0] != expected[0] > 0
    assert (results["evaluated_classes"], results["images"]) == (7, 28)


def test_folders_of_a_file_are_evaluated_and_others_are_left_out(network, folder, tmp_path):
    wanted, other = EVALUATED[1:], EVALUATED[0]
    same, renamed = tmp_path / "same", tmp_path / "renamed"
    for index in wanted:
        for root, name in ((same, NAMES[index]), (renamed, f"my {NAMES[index]}")):
            root.mkdir(exist_ok=True)
            (root / name).symlink_to(folder / NAMES[index])
    (renamed / NAMES[other]).symlink_to(folder / NAMES[other])
    lines = [f"my {NAMES[index]}\t{NAMES[index]}" for index in wanted]
    (tmp_path / "classes.txt").write_text("\n".join(lines))
    results = run(of_set(network, renamed, tmp_path / "classes.txt"), tmp_path / "test")
    expected = metrics_by_definition(network, same, wanted)
    assert [results[name] for name in METRICS] == pytest.approx(expected, abs=1e-4)
    assert (results["evaluated_classes"], results["images"]) == (6, 24)


@pytest.mark.slow  # test_detection.py has the same for another evaluation, and is not
def test_evaluated_classes_do_not_depend_on_the_number_of_processes(network, folder, tmp_path):
    overrides = of_set(network, folder, "folders")
    one = run(overrides, tmp_path / "one")
    several = launched(overrides, 3, tmp_path / "several")
    for name in (*METRICS, "images", "evaluated_classes"):
        assert several[name] == one[name], name
