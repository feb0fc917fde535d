"""The trainings, evaluations, exports and predictions of the documentation run on small data."""

import json
import re
import shutil

import cv2
import numpy as np
import pytest
import tifffile
import torch

import golden
import parcnet_train
from coco_files import TRAIN, VAL, write_coco
from documentation import ONCE, PAGES, ROOT, TASKS, blocks, task_of
from parcnet_train.conversion.convert import convert
from predicting import photo
from running import run
from voc_files import write_voc

# Where the data of a page are; the paper's data sets are replaced by the demonstrations'.
PAPERS = {"imagenet": "demo", "coco": "demo_detection", "voc": "demo_segmentation"}
SMALL = ("debug=tiny", "data.num_workers=0", "trainer.accelerator=cpu")
TRAINED = ("backbone=parcnet_xs", "debug=tiny", "recipe.image_size=64", "recipe.multi_scale=null")
# What another test runs, or what takes files, programs or machines that are not here.
ELSEWHERE = {
    "-m": "tests/sweeps/",
    "trainer=ddp": "tests/distributed/",
    "action=prepare": "tests/actions/test_prepare.py",
    "action=benchmark": "tests/actions/benchmark/",
    "action=profile": "tests/actions/test_profile.py",
    "action=report": "tests/actions/test_report.py",
    "action=schema": "tests/actions/test_schema.py",
    "action=compare": "tests of this action",
    "action=watch": "tests of this action",
    "--cfg": "tests/test_cli.py",
    "--help": "tests/test_cli.py",
    "input=-": "tests/actions/test_predict.py",
    "backbone.weights=library": "no network",
    "export.format=litert": "tests/deploy/formats/, in .venv-runtimes",
    "export.format=executorch": "tests/deploy/formats/, in .venv-runtimes",
    "release.results=TEST_RUN": "tests/actions/release/",
    "ckpt=release": "tests/actions/release/",
    "backbone.pretrained=hf-hub:owner/name": "tests/actions/release/, from a cache",
    "ckpt=mobilevit_s.ckpt": "tests/conversion/test_convert.py, with a thousand classes",
    "trainer.max_epochs=0": "shown as faults",
    "backbone=parcnet_z": "shown as a fault",
}
RUN_HERE = [
    each
    for each in ONCE.values()
    if not any(word in ELSEWHERE for word in (*each.overrides, *each.options))
    and ("ckpt=last" not in each.overrides or "action=" in "".join(each.overrides))  # test_resume
]


def write_folders(root):
    """Write class folders with a few images in all three sets."""
    random = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for name in ("ant", "bee", "cat"):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(4):
                pixels = random.integers(0, 256, (40, 48, 3), np.uint8)
                cv2.imwrite(str(folder / f"{split}{number}.png"), pixels)


def write_roboflow(root):
    """Write COCO's annotations where Roboflow has them."""
    write_coco(root)
    for ours, theirs, document in (("train2017", "train", TRAIN), ("val2017", "valid", VAL)):
        (root / ours).rename(root / theirs)
        (root / theirs / "_annotations.coco.json").write_text(json.dumps(document))


@pytest.fixture(scope="module")
def world(tmp_path_factory, request):
    """Folder with everything that the pages name: data sets, runs, photos, a module."""
    import timm

    root = tmp_path_factory.mktemp("world")
    for name in ("flowers", "cifar10", "xrays"):
        write_folders(root / name)
    for name in ("ant", "bee"):  # as ImageNet-A has some of ImageNet's classes
        shutil.copytree(root / "flowers" / "val" / name, root / "flowers" / "imagenet-a" / name)
    for name in ("cells", "bccd_coco", "READY", "shelves"):
        write_coco(root / name)
    write_roboflow(root / "roboflow")
    for name in ("streets", "camvid", "ade20k", "camvid_voc", "fields"):
        write_voc(root / name)
    for file in list((root / "fields" / "JPEGImages").iterdir()):  # of six channels
        height, width, _ = cv2.imread(str(file)).shape
        tifffile.imwrite(
            file.with_suffix(".tif"),
            np.zeros((height, width, 6), np.uint8),
            photometric="minisblack",
            planarconfig="contig",
        )
        file.unlink()
    (root / "beans").symlink_to(request.getfixturevalue("huggingface_folder"))
    (root / "photos").mkdir()
    for file in (root / "photo.jpg", root / "photos" / "a.jpg"):
        cv2.imwrite(str(file), photo())
    run(TRAINED, root / "RUN_digits")
    own = ("data=imagefolder", "data.root=flowers")  # which has a test set
    for task in TASKS:
        data = own if task == "classification" else (f"task={task}",)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(root)
            run(
                [*data, *TRAINED, "checkpoint.keep_best=2", "trainer.max_epochs=2"],
                root / f"RUN_{task}",
            )
        newest = root / "runs" / task / f"parcnet_xs-{task}" / "2026-01-01_00-00-00"
        shutil.copytree(root / f"RUN_{task}", newest)
        (newest / "run.json").write_text("{}")
    torch.save(golden.weights_of(timm.create_model("mobilevit_s")), root / "timm.pt")
    convert(root / "timm.pt", root / "mobilevit_s.ckpt", "timm", "mobilevit_s", "classification")
    (root / "my_module.py").write_text(
        "from pytorch_lightning.callbacks import Callback\n\n\nclass MyCallback(Callback):\n"
        "    def __init__(self, argument):\n        self.argument = argument\n"
    )
    return root


def overrides_here(command):
    """The overrides of a command, on the data of this folder and with small steps."""
    run_of_page = f"RUN_{task_of(command)}"
    if "export.decode=true" in command.overrides:
        run_of_page = "RUN_detection"
    if any("kind: soft" in each or "distilled" in each for each in command.overrides):
        run_of_page = "RUN_digits"  # which has the classes of the demonstration
    found, papers = [], False
    for each in command.overrides:
        key, _, value = each.partition("=")
        if key == "data" and value in PAPERS:
            papers = True
            each = f"data={PAPERS[value]}"
        if key == "experiment":
            papers = True
            found.append(f"data={PAPERS[value.partition('_')[0]]}")
        if key == "data.root" and papers:
            continue
        each = each.replace("RUN/checkpoints/best.ckpt", "RUN").replace("/data/pets", "flowers")
        each = "data.root=flowers" if each == "data.root=/data" else each
        found.append(each.replace("RUN", run_of_page))
    actions = [each.partition("=")[2] for each in found if each.startswith("action=")] or ["fit"]
    if actions[0] == "test":
        found.append("trainer.limit_val_batches=2")
    if actions[0] == "fit" and not any(each.startswith("ckpt=") for each in found):
        found += SMALL
        if any("pretrained" in each or "teacher" in each for each in found):
            found.append("recipe.image_size=64")
        if f"backbone.pretrained={run_of_page}" in found:
            found.append("backbone=parcnet_xs")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("command", RUN_HERE, ids=lambda command: command.where)
def test_commands_run(command, world, monkeypatch):
    monkeypatch.chdir(world)
    monkeypatch.syspath_prepend(world)
    results = parcnet_train.run(*overrides_here(command))
    assert results.get("status", "done") == "done"


def test_most_trainings_of_the_pages_run_here():
    assert len(RUN_HERE) > 35


# Without examples of classes, those that tests/timm_models/ runs, and those for .venv-runtimes.
ELSEWHERE_IN_PYTHON = re.compile(r"RUN/|hub|executorch")
PYTHON = [
    block
    for page in PAGES
    for block in blocks(page)
    if block.language == "python" and not block.title and not ELSEWHERE_IN_PYTHON.search(block.text)
]


@pytest.mark.slow
@pytest.mark.parametrize("block", PYTHON, ids=lambda b: f"{b.page.relative_to(ROOT)}:{b.line}")
def test_python_blocks_run(block, world, monkeypatch):
    monkeypatch.chdir(world)
    train = parcnet_train.run
    monkeypatch.setattr(parcnet_train, "run", lambda *given: train(*given, *SMALL), raising=False)
    exec(compile(block.text.replace('"RUN"', '"RUN_classification"'), str(block.page), "exec"), {})
