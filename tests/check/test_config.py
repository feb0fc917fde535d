"""The check of a configuration: every file has no fault, every fault is named."""

import re

import pytest

from expected import expected_of
from faults import assert_one_is
from running import CONFIG_FILES, LARGER, OF_LIBRARIES, faults_of


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["recipe.epochs=0"], "recipe.epochs=0: expected a whole number of at least 1"),
        (["recipe.epochs=1.5"], "recipe.epochs=1.5: expected a whole number"),
        (["recipe.batch_size=true"], "recipe.batch_size=true: expected a whole number"),
        (
            ["recipe.optimizer.lr=-1"],
            "lr=-1: expected a number above 0 and up to 100",
        ),
        (["recipe.optimizer.lr=fast"], "recipe.optimizer.lr=fast: expected a number above 0"),
        (["recipe.label_smoothing=1"], "recipe.label_smoothing=1: expected a number from 0 to"),
        (["recipe.on_nan=skp"], "recipe.on_nan=skp: expected one of stop, skip; did you mean sk"),
        (["recipe.gradient_clip=0"], "recipe.gradient_clip=0: expected null or a number above 0"),
        (["recipe.augmentation.crop_scale=[0.5]"], "crop_scale=[0.5]: expected a list of two"),
        (
            ["recipe.multi_scale.rule=balance"],
            "recipe.multi_scale.rule=balance: expected one of released, balanced; did you mean b",
        ),
        (
            ["recipe.multi_scale=on"],
            "recipe.multi_scale=on: expected null or a mapping with a _t",
        ),
        (["recipe.multi_scale.largest=0.5"], "largest=0.5: expected a number from 1 to 10"),
        (["recipe.accumulate=automatic"], "automatic: expected auto or a whole number … auto?"),
        (["recipe.reference_batch=0"], "recipe.reference_batch=0: expected a whole number of at"),
        (
            ["checkpoint.every_n_steps=0"],
            "every_n_steps=0: expected null or a whole number of at",
        ),
        (["checkpoint.every_minutes=-1"], "every_minutes=-1: expected null or a number above 0"),
        (["checkpoint.keep_best=0"], "checkpoint.keep_best=0: expected a whole number of at lea"),
        (
            ["recipe.image_size=big"],
            "recipe.image_size=big: expected a positive number of pixels, or",
        ),
        (
            ["action=fitt"],
            "action=fitt: expected one of fit, test, predict, average, … mean fit?",
        ),
        (["trainer.precision=16-mix"], "trainer.precision=16-mix: … did you mean 16-mixed?"),
        (["trainer.accelerator=cpux"], "trainer.accelerator=cpux: … did you mean cpu?"),
        (["trainer=ddp", "trainer.devices=0"], "trainer.devices=0: expected auto, or a whole"),
        (["trainer=ddp", "trainer.devices=all"], "trainer.devices=all: expected auto, or a"),
        (["trainer=ddp", "trainer.num_nodes=0"], "trainer.num_nodes=0: expected auto or a whole"),
        (["trainer=ddp", "trainer.strategy=dpp"], "strategy=dpp: … did you mean ddp?"),
        (["trainer=ddp", "trainer.sync_batchnorm=1"], "sync_batchnorm=1: expected true or false"),
        (["data.on_error=skp"], "data.on_error=skp: expected one of stop, skip; did you mean s"),
        (["seed=x"], "seed=x: expected a whole number from 0 to below 2^32"),
        (["backbone.fusion=cat"], "backbone.fusion=cat: expected one of concat, add"),
        (["backbone.widths=[192,256]"], "backbone.widths=[192,256]: expected a list of"),
        (
            ["backbone.widths=[1,2,x]"],
            "expected a list of three values, each a whole number of at",
        ),
        (
            ["backbone.depths=[0,2,2]"],
            "backbone.depths=[0,2,2]: expected a list of three values, each a whole number",
        ),
        (
            ["backbone.depths=[-1,2,2]"],
            "backbone.depths=[-1,2,2]: expected a list of three values, each a whole",
        ),
        (
            ["backbone.channels=[0,1,2]"],
            "backbone.channels=[0,1,2]: expected a list of three values, each a whole",
        ),
        (["backbone.stem_channels=[0,1,2]"], "backbone.stem_channels=[0,1,2]: expected a list"),
        (["backbone.meta_lengths=[0,1,2]"], "backbone.meta_lengths=[0,1,2]: expected a list"),
        (["backbone.meta_lengths=[32,16]"], "backbone.meta_lengths=[32,16]: expected a list of"),
        (["backbone=resnet50", "backbone.depths=[3,4,6]"], "depths=[3,4,6]: expected a list of"),
        (["backbone.stem_kernel=-1"], "backbone.stem_kernel=-1: expected an odd number of at"),
        (["backbone.stem_kernel=4"], "backbone.stem_kernel=4: expected an odd number of at"),
        (
            ["backbone.kernel_share=0"],
            "backbone.kernel_share=0: expected a number above 0 and up",
        ),
        (["backbone.dropout=1.5"], "backbone.dropout=1.5: expected a number from 0 to below 1"),
        (["backbone.output_stride=16.0"], "output_stride=16.0: expected one of 8, 16, 32"),
        (
            ["backbone=mobilevit_s", "backbone.heads=0"],
            "backbone.heads=0: expected a whole number",
        ),
        (
            ["backbone=mobilevit_s", "backbone.expansion=0"],
            "backbone.expansion=0: expected a who",
        ),
        (["backbone=resnet50", "backbone.std=[1,1,0]"], "backbone.std=[1,1,0]: expected a list"),
        (["backbone=resnet50", "backbone.mean=[0.5]"], "backbone.mean=[0.5]: expected a list of"),
        (["backbone=parc_resnet50", "backbone.meta_size=0"], "meta_size=0: expected a positive"),
        (["backbone=convnext_xt", "backbone.stochastic_depth=1"], "expected a number from 0 to"),
        (["backbone=timm", "backbone.name=null"], "backbone.name=null: expected a string"),
        (["+backbone.depth=3"], "backbone.depth: ParCNet has no such argument; … depths?"),
        (["+recipe.epoch=3"], "recipe.epoch: there is no such key; did you mean epochs?"),
        (["+recipe.ema.decayy=3"], "recipe.ema.decayy: EMA has no … decay?"),
        (["+trane=3"], "trane: there is no such key; did you mean trainer?"),
        (["~trainer.devices"], "trainer.devices is missing"),
        (["~trainer.precision"], "trainer.precision is missing"),
        (["~backbone.widths"], "backbone.widths is missing; ParCNet requires it"),
        (["backbone._target_=a.b"], "backbone._target_=a.b: this class or function does not"),
        (["recipe.batch_size=1"], "recipe.batch_size=1: expected a whole number of at least 2"),
        (["recipe.optimizer.lr=1e38"], "recipe.optimizer.lr=1e+38: expected a number above 0"),
        (["trainer.limit_val_batches=0"], "trainer.limit_val_batches=0: expected a whole number"),
        (
            ["recipe.augmentation.crop_ratio=[1,inf]"],
            "crop_ratio=[1,inf]: expected a list of two",
        ),
        (["recipe.augmentation.crop_scale=[1,0.1]"], "crop_scale=[1,0.1]: … in ascending order"),
        (["recipe.optimizer=null"], "recipe.optimizer=null: expected a mapping with a _target_"),
        (["recipe.ema=3"], "recipe.ema=3: expected null or a mapping with a _target_"),
        (["~logger"], "logger is missing"),
        (["+logger.mine={a:1}"], "logger.mine={'a':1}: expected a mapping with a _target_"),
        (["paths.runs=null"], "paths.runs=null: expected a string"),
        (["profile.compare=table4"], "compare=table4: expected null or one of … mean table3?"),
        (
            ["profile.image_size=big"],
            "profile.image_size=big: expected a positive number of pixels, or",
        ),
        (["profile.num_classes=0"], "profile.num_classes=0: expected a whole number of at least"),
        (["profile.batch_size=0"], "profile.batch_size=0: expected a whole number of at least 1"),
        (["benchmark.target=operators"], "benchmark.target=operators: … did you mean operator?"),
        (["benchmark.repeats=0"], "benchmark.repeats=0: expected a whole number of at least 1"),
        (["benchmark.batch_size=1"], "benchmark.batch_size=1: expected … since BatchNorm"),
        (["benchmark.compile=1"], "benchmark.compile=1: expected true or false"),
        (["recipe.mixing=0.2"], "recipe.mixing=0.2: expected null or a mapping of mixup, cutmix"),
        (["recipe.mixing={mixup: 0.2}"], "recipe.mixing.cutmix is missing"),
        (
            ["recipe.mixing={mixup: 0.2, cutmixx: 1}"],
            "recipe.mixing.cutmixx: there is no such key; did you mean cutmix?",
        ),
        (["recipe.mixing={mixup: -1, cutmix: 1}"], "mixup=-1: expected a number of at least 0"),
        (["recipe.augmentation.repeats=0"], "repeats=0: expected a whole number of at least 1"),
        (["recipe.augmentation.random_erasing=2"], "random_erasing=2: expected a number from 0"),
        (
            ["recipe.augmentation.randaugment=true"],
            "randaugment=true: expected null or a mapping of operations, magnitude",
        ),
        (
            ["recipe.augmentation.randaugment={operations: 2, magnitude: 31}"],
            "randaugment.magnitude=31: expected a whole number from 0 to 30",
        ),
        (
            ["recipe.augmentation.randaugment={operations: 2}"],
            "recipe.augmentation.randaugment.magnitude is missing",
        ),
        (
            ["recipe.augmentation.color_jitter={brightness: 0.4, huee: 0.1}"],
            "color_jitter.huee: there is no such key; did you mean hue?",
        ),
        (
            [
                "recipe.augmentation.color_jitter="
                "{brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.6}"
            ],
            "color_jitter.hue=0.6: expected a number from 0 to 0.5",
        ),
        (["+benchmark.size=3"], "benchmark.size: there is no such key"),
        (["~profile"], "profile is missing"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_each_fault_is_named(overrides, message):
    assert_one_is(message, faults_of(*overrides))


# Parts of configurations, as their names begin, that belong to one task.
OF_TASKS = {
    "detection": ("coco", "proof_bccd", "ssdlite", "demo_detection", "detection"),
    "segmentation": ("voc", "proof_camvid", "deeplabv3", "demo_segmentation", "segmentation"),
}


REAL_DATA = {"detection": "coco", "segmentation": "voc"}


NAMES = {f"{file.parent.name}={file.stem}": file for file in CONFIG_FILES}
# The check of an experiment builds the network of its backbone, too; other sizes of a family, and
# networks that a library has, are built slowly.
SLOWLY = {
    *(name for name, file in NAMES.items() if f"experiment=imagenet_{file.stem}" in NAMES),
    *(f"experiment=imagenet_{backbone}" for backbone in (*LARGER, *OF_LIBRARIES)),
    *(f"backbone={backbone}" for backbone in OF_LIBRARIES),
}
FILES = [
    pytest.param(file, id=name, marks=[pytest.mark.slow] if name in SLOWLY else [])
    for name, file in NAMES.items()
]


@pytest.mark.parametrize("file", FILES)
def test_every_config_file_has_no_fault(file, imagenet, huggingface_folder, coco, voc, trained):
    group, choice = file.parent.name, file.stem
    root = huggingface_folder if choice == "huggingface" else imagenet
    overrides = [f"{group}={choice}"]
    chosen = re.search(r"override /task: (\w+)", file.read_text())
    for task, names in OF_TASKS.items():
        if chosen[1] == task if chosen else choice.startswith(names):
            root = {"detection": coco, "segmentation": voc}[task]
            overrides += [f"task={task}"] if group != "task" else []
            overrides += [f"data={REAL_DATA[task]}"] if group not in ("data", "experiment") else []
    overrides += [f"data.root={root}"] if not choice.startswith("demo_") else []
    if (group, choice) == ("head", "native"):
        overrides.append("backbone=pvt_tiny")  # a network with a classifier of its own
    if group == "backbone":  # some take one size only, or have no map for another classifier
        overrides += ["recipe.image_size=224", "recipe.multi_scale=null"]
        overrides.append(f"head={expected_of(file).head}")
    if (group, choice) == ("recipe", "imagenet_300e_distilled"):
        overrides.append(f"recipe.distillation.teacher={trained[0]}")
    if group == "tuned":
        recipes = (f.stem for f in CONFIG_FILES if f.parent.name == "recipe")
        recipe = max((name for name in recipes if choice.startswith(name)), key=len)
        overrides[0] = f"backbone={choice.removeprefix(recipe + '_')}"
        overrides.append(f"recipe={recipe}")
    assert faults_of(*overrides) == []


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("recipe.epochs.at_least=0", "recipe.epochs.at_least=0"),
        ("recipe.epochs={at_least:3}", "recipe.epochs.images is missing"),
        ("recipe.epochs.steps=3", "recipe.epochs.steps"),
        ("recipe.epochs=many", "recipe.epochs=many"),
        ("recipe.schedule.warmup_share=1", "recipe.schedule.warmup_share=1"),
    ],
)
def test_wrong_epochs_are_named(override, fault, image_folder):
    data = ["data=imagefolder", f"data.root={image_folder}"]
    recipe = "recipe=imagenet_300e" if "{" in override else "recipe=finetune"
    (line,) = faults_of(*data, recipe, override)
    assert line.startswith(fault)


def test_all_faults_are_reported_at_once():
    found = faults_of("backbone=parcnet_z", "recipe.optimizer.lrr=1", "trainer.max_epochs=0")
    assert len(found) == 3
    assert re.search(r"backbone=parcnet_z.*mobilevit_s.*did you mean parcnet_s\?", found[0])
    assert found[1].startswith(
        "recipe.optimizer.lrr: there is no such key; did you mean recipe.optimizer.lr? ("
    )
    assert found[2].startswith("trainer.max_epochs=0: expected a whole number of at least 1")


def test_a_fault_is_reported_once():
    assert len(faults_of("recipe.epochs=-1")) == 1
    assert len(faults_of("data=imagefolder")) == 1
    assert len(faults_of("recipe.augmentation.flip=${oc.env:NOT_SET}")) == 1


def test_faults_of_several_parts_are_reported_together():
    found = faults_of(
        *("trainer.max_epochs=0", "data=imagefolder", "data.root=/nowhere", "ckpt=nowhere.ckpt"),
        *("backbone.fusion=sum", "paths.cache=/dev/null"),
    )
    keys = ("trainer.max_epochs=0", "data.root:", "backbone.fusion=sum", "paths.cache=/dev/null")
    assert len(found) == len(keys)  # the checkpoint is not compared with a backbone in fault
    assert all(any(fault.startswith(key) for fault in found) for key in keys)
