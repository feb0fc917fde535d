"""Composition and `check`: every config file is good, every fault is named."""

import inspect
import os
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest
import pytorch_lightning
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

import running
from coco_files import write_coco
from parcnet_train.config.compose import CONF, GROUPS, NO_CONFIG, compose_plain, nearest
from parcnet_train.config.rules import REFUSED, RULES
from parcnet_train.data.prepare.voc_sources import VOC_CLASSES
from parcnet_train.errors import ConfigError
from running import composed, configure, faults_of
from voc_files import write_voc

FILES = [f for f in sorted(CONF.glob("*/*.yaml")) if f.parent.name != "hydra"]


# Parts of configurations, as their names begin, that belong to one task.
OF_TASKS = {
    "detection": (
        *("coco", "ssdlite", "demo_detection", "detection"),
        *(f"table2_row{row}" for row in (8, 9, 10)),
    ),
    "segmentation": (
        *("voc", "deeplabv3", "demo_segmentation", "segmentation"),
        *(f"table2_row{row}" for row in (11, 12, 13)),
    ),
}
REAL_DATA = {"detection": "coco", "segmentation": "voc"}


@pytest.mark.parametrize("file", FILES, ids=lambda f: f"{f.parent.name}={f.stem}")
def test_every_config_file_has_no_fault(file, imagenet, huggingface_folder, coco, voc):
    group, choice = file.parent.name, file.stem
    root = huggingface_folder if choice == "huggingface" else imagenet
    overrides = [f"{group}={choice}"]
    for task, names in OF_TASKS.items():
        if choice.startswith(names):
            root = {"detection": coco, "segmentation": voc}[task]
            overrides += [f"task={task}"] if group != "task" else []
            overrides += [f"data={REAL_DATA[task]}"] if group not in ("data", "experiment") else []
    overrides += [f"data.root={root}"] if not choice.startswith("demo_") else []
    if group == "tuned":
        recipes = (f.stem for f in FILES if f.parent.name == "recipe")
        recipe = max((name for name in recipes if choice.startswith(name)), key=len)
        overrides[0] = f"backbone={choice.removeprefix(recipe + '_')}"
        overrides.append(f"recipe={recipe}")
    assert faults_of(*overrides) == []


@pytest.mark.parametrize("task", ["classification", "detection", "segmentation"])
@pytest.mark.parametrize("more", [[], ["debug=tiny"], ["recipe.epochs=5", "recipe.batch_size=64"]])
def test_recipe_finetune_has_a_part_for_each_task(task, more, image_folder, coco, voc):
    layouts = {
        "classification": ("imagefolder", image_folder),
        "detection": ("coco_format", coco),
        "segmentation": ("voc_format", voc),
    }
    data, root = layouts[task]
    values, faults = running.configure(
        [f"task={task}", f"data={data}", f"data.root={root}", "recipe=finetune", *more]
    )
    assert faults == []
    recipe = values["recipe"]
    of_task = {"classification": "crop_scale", "detection": "crop", "segmentation": "short_side"}
    assert of_task[task] in recipe["augmentation"]
    assert recipe["batch_size"] == recipe["reference_batch"]
    assert recipe["schedule"]["warmup_steps"] == 0
    if not more:
        assert recipe["epochs"]["at_least"] == values["trainer"]["max_epochs"]["at_least"] == 30
    elif "recipe.epochs=5" in more:
        assert recipe["epochs"] == values["trainer"]["max_epochs"] == 5


@pytest.mark.parametrize("more", [["ablation=table2_row9"], ["experiment=voc_parcnet_s"]], ids=str)
def test_recipe_finetune_follows_the_task_of_other_groups(more, coco, voc):
    root = voc if "experiment" in more[0] else coco
    data = [] if "experiment" in more[0] else ["data=coco"]
    values, faults = running.configure([*more, *data, "recipe=finetune", f"data.root={root}"])
    assert faults == []
    assert values["recipe"]["batch_size"] == 8


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


def test_every_group_of_the_folder_is_known():
    assert {f.parent.name for f in FILES} - {"callbacks", "tuned"} <= set(GROUPS)


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """Folders of a thousand classes with an image each, which is what `check` looks at."""
    root = tmp_path_factory.mktemp("imagenet")
    image = root / "image.png"
    cv2.imwrite(str(image), np.zeros((8, 8, 3), np.uint8))
    for split in ("train", "val"):
        for number in range(1000):
            folder = root / split / f"n{number:08}"
            folder.mkdir(parents=True)
            (folder / f"{split}.png").hardlink_to(image)
    return root


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    """COCO's layout with as many categories, and an image in each half."""
    root = tmp_path_factory.mktemp("coco")
    image = {"id": 1, "file_name": "1.png", "height": 40, "width": 40}
    categories = [{"id": number, "name": f"thing {number}"} for number in range(1, 81)]
    box = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [0, 0, 10, 10]}
    document = {"images": [image], "annotations": [box], "categories": categories}
    return write_coco(root, document, document)


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    """VOC's layout with as many classes."""
    return write_voc(tmp_path_factory.mktemp("voc"), VOC_CLASSES)


def test_experiment_beats_tuned_and_shell_beats_experiment(tmp_path):
    values, _ = running.configure(["experiment=imagenet_mobilevit_s", f"data.root={tmp_path}"])
    assert values["recipe"]["optimizer"]["lr"] == 0.002  # tuned for the experiment's backbone
    assert values["head"]["dropout"] == 0.1
    values, _ = running.configure(
        ["experiment=imagenet_mobilevit_s", f"data.root={tmp_path}", "recipe.optimizer.lr=0.5"]
    )
    assert values["recipe"]["optimizer"]["lr"] == 0.5


def test_a_null_of_an_optional_group_is_what_it_has_anyway():
    assert faults_of("debug=null", "experiment=null", "ablation=null") == []


def test_folders_of_another_number_of_classes(imagenet):
    (fault,) = faults_of("data=imagenet", f"data.root={imagenet}", "data.num_classes=3")
    assert f"data.num_classes=3, but {imagenet} has 1000 classes" in fault


def test_imagenet_gets_the_recipe_of_the_paper_untouched(imagenet):
    values, faults = running.configure(["data=imagenet", f"data.root={imagenet}"])
    recipe = values["recipe"]
    assert faults == []
    # Paper, section 4.1.
    assert recipe["epochs"] == values["trainer"]["max_epochs"] == 300
    assert recipe["optimizer"] == {
        "_target_": "torch.optim.AdamW",
        "_partial_": True,
        "lr": 0.004,
        "betas": [0.9, 0.999],
        "weight_decay": 0.025,
    }
    assert recipe["schedule"]["min_lr"] == 0.0004
    assert recipe["schedule"]["warmup_steps"] == 3000
    assert recipe["label_smoothing"] == values["task"]["label_smoothing"] == 0.1
    assert recipe["batch_size"] * 8 == 1024
    assert values["data"]["image_size"] == 256
    assert values["data"]["num_classes"] == 1000


def test_all_faults_are_reported_at_once():
    found = faults_of("backbone=parcnet_z", "recipe.optimizer.lrr=1", "trainer.max_epochs=0")
    assert len(found) == 3
    assert re.search(r"backbone=parcnet_z.*mobilevit_s.*did you mean parcnet_s\?", found[0])
    assert found[1].startswith(
        "recipe.optimizer.lrr: there is no such key; did you mean recipe.optimizer.lr? ("
    )
    assert found[2] == "trainer.max_epochs=0: allowed is a whole number of at least 1"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["recipe.epochs=0"], "recipe.epochs=0: allowed is a whole number of at least 1"),
        (["recipe.epochs=1.5"], "recipe.epochs=1.5: allowed is a whole number"),
        (["recipe.batch_size=true"], "recipe.batch_size=true: allowed is a whole number"),
        (
            ["recipe.optimizer.lr=-1"],
            "lr=-1: allowed is a number above 0 and up to 100",
        ),
        (["recipe.optimizer.lr=fast"], "recipe.optimizer.lr=fast: allowed is a number above 0"),
        (["recipe.label_smoothing=1"], "recipe.label_smoothing=1: allowed is a number from 0 to"),
        (["recipe.gradient_clip=0"], "recipe.gradient_clip=0: allowed is null or a number above 0"),
        (["recipe.augmentation.crop_scale=[0.5]"], "crop_scale=[0.5]: allowed is a list of two"),
        (
            ["recipe.multi_scale.rule=balance"],
            "recipe.multi_scale.rule=balance: allowed is one of released, balanced; did you mean b",
        ),
        (
            ["recipe.multi_scale=on"],
            "recipe.multi_scale=on: allowed is null or a mapping with a _t",
        ),
        (["recipe.multi_scale.largest=0.5"], "largest=0.5: allowed is a number from 1 to 10"),
        (["recipe.multi_scale.divisor=48"], "divisor=48: allowed are multiples of 32, the last s"),
        (
            [
                *("recipe.multi_scale={rule:balanced,largest:1.25}", "recipe.batch_size=2"),
                "recipe.image_size=256",
            ],
            "recipe.batch_size=2: with recipe.multi_scale.rule=balanced a step takes 1 of 288x288 "
            "pixels; allowed is a whole number of at least 2 … or use recipe.multi_scale.rule=rel",
        ),
        (["recipe.accumulate=automatic"], "automatic: allowed is auto, or a whole number … auto?"),
        (["recipe.reference_batch=0"], "recipe.reference_batch=0: allowed is a whole number of at"),
        (
            ["checkpoint.every_n_steps=0"],
            "every_n_steps=0: allowed is null or a whole number of at",
        ),
        (["checkpoint.every_minutes=-1"], "every_minutes=-1: allowed is null or a number above 0"),
        (["checkpoint.keep_best=0"], "checkpoint.keep_best=0: allowed is a whole number of at lea"),
        (["recipe.image_size=250"], "recipe.image_size=250: allowed are multiples of 32 … 256"),
        (["recipe.image_size=[256,300]"], "image_size=[256,300]: allowed are multiples of 32"),
        (["recipe.image_size=big"], "recipe.image_size=big: allowed is a number of pixels, or"),
        (
            ["action=fitt"],
            "action=fitt: allowed is one of fit, test, predict, average, … mean fit?",
        ),
        (["trainer.precision=16-mix"], "trainer.precision=16-mix: … did you mean 16-mixed?"),
        (["trainer.accelerator=cpux"], "trainer.accelerator=cpux: … did you mean cpu?"),
        (["trainer=ddp", "trainer.devices=0"], "trainer.devices=0: allowed is auto, or a whole"),
        (["trainer=ddp", "trainer.devices=all"], "trainer.devices=all: allowed is auto, or a"),
        (["trainer=ddp", "trainer.num_nodes=0"], "trainer.num_nodes=0: allowed is a whole number"),
        (["trainer=ddp", "trainer.strategy=dpp"], "strategy=dpp: … did you mean ddp?"),
        (["trainer=ddp", "trainer.sync_batchnorm=1"], "sync_batchnorm=1: allowed is true or false"),
        (["data.on_error=skp"], "data.on_error=skp: allowed is one of stop, skip; did you mean s"),
        (["seed=x"], "seed=x: allowed is a whole number from 0 to below 2^32"),
        (["backbone.fusion=cat"], "backbone.fusion=cat: allowed is one of concat, add"),
        (["backbone.widths=[192,256]"], "backbone.widths=[192,256]: allowed is tuple"),
        (
            ["backbone.widths=[1,2,x]"],
            "allowed is a list of whole numbers of at",
        ),
        (
            ["backbone.depths=[0,2,2]"],
            "backbone.depths=[0,2,2]: allowed is a list of whole numbers",
        ),
        (["backbone.depths=[-1,2,2]"], "backbone.depths=[-1,2,2]: allowed is a list of whole"),
        (["backbone.channels=[0,1,2]"], "backbone.channels=[0,1,2]: allowed is a list of whole"),
        (["backbone.stem_channels=[0,1,2]"], "backbone.stem_channels=[0,1,2]: allowed is a list"),
        (["backbone.meta_lengths=[0,1,2]"], "backbone.meta_lengths=[0,1,2]: allowed is a list"),
        (["backbone.meta_lengths=[32,16]"], "backbone.meta_lengths=[32,16]: allowed is tuple[int,"),
        (["backbone=resnet50", "backbone.depths=[3,4,6]"], "depths=[3,4,6]: allowed is tuple[int,"),
        (["backbone.stem_kernel=-1"], "backbone.stem_kernel=-1: allowed is an odd number of at"),
        (["backbone.stem_kernel=4"], "backbone.stem_kernel=4: allowed is an odd number of at"),
        (
            ["backbone.kernel_share=0"],
            "backbone.kernel_share=0: allowed is a number above 0 and up",
        ),
        (["backbone.dropout=1.5"], "backbone.dropout=1.5: allowed is a number from 0 to below 1"),
        (["backbone.output_stride=16.0"], "output_stride=16.0: allowed is one of 8, 16, 32"),
        (
            ["backbone=mobilevit_s", "backbone.heads=0"],
            "backbone.heads=0: allowed is a whole number",
        ),
        (
            ["backbone=mobilevit_s", "backbone.expansion=0"],
            "backbone.expansion=0: allowed is a who",
        ),
        (["backbone.widths=[191,256,320]"], "backbone.widths=[191, 256, 320]: each must be even"),
        (["backbone=mobilevit_s", "backbone.heads=5"], "backbone.heads=5 must divide"),
        (
            ["backbone.kernel_resize=crop", "recipe.image_size=[256,288]"],
            "backbone, head at recipe.image_size=[256,288]: backbone.kernel_resize=crop: a feature "
            "map of 36 pixels is longer than the meta kernel of 32; use smaller images or",
        ),
        (
            ["backbone=resnet50", "backbone.parc_layers=[layer4.0.conv2]"],
            "ResNet: ParC layer layer4.0.conv2: has stride 2; allowed is 1",
        ),
        (
            ["backbone=parc_mobilenetv2", "backbone.position_embeddings=[features.8.conv.1.0]"],
            "MobileNetV2: position embedding of features.8.conv.1.0: allowed are the ParC layers f",
        ),
        (["backbone=resnet50", "backbone.std=[1,1,0]"], "backbone.std=[1,1,0]: allowed is a list"),
        (["backbone=resnet50", "backbone.mean=[0.5]"], "backbone.mean=[0.5]: allowed is tuple"),
        (["backbone=parc_resnet50", "backbone.meta_size=0"], "meta_size=0: allowed is a number of"),
        (
            ["backbone=parc_convnext_xt", "backbone.meta_size=3"],
            "ParC: ConvNeXt does not run on images of 3x3: Calculated padded input size",
        ),
        (["backbone=convnext_xt", "backbone.stochastic_depth=1"], "allowed is a number from 0 to"),
        (
            ["backbone=timm", "backbone.name=mobilenetv9_100"],
            "backbone.name=mobilenetv9_100: timm … has no such network; near are mobilenet",
        ),
        (
            ["backbone=timm", "backbone.name=ghostnet_100", "backbone.output_stride=16"],
            "backbone.output_stride=16: timm cannot make ghostnet_100 with it; use 32, or another",
        ),
        (
            ["backbone=timm", "backbone.name=resnet18.nobody"],
            "backbone.name=resnet18.nobody: timm cannot make it (Invalid pretrained tag",
        ),
        (
            ["backbone=timm", "backbone.name=deit_tiny_patch16_224", "recipe.image_size=256"],
            "backbone, head at recipe.image_size=256: Input height (256) doesn't match model (224)",
        ),
        (["backbone=timm", "backbone.name=null"], "backbone.name=null: allowed is str"),
        (["backbone.heads=5"], "a new key is added with a plus: +backbone.heads=..."),
        (["+backbone.depth=3"], "backbone.depth: ParCNet takes no such argument; … depths?"),
        (["+recipe.epoch=3"], "recipe.epoch: there is no such key; did you mean epochs?"),
        (["+recipe.ema.decayy=3"], "recipe.ema.decayy: EMA takes … decay?"),
        (["+trane=3"], "trane: there is no such key; did you mean trainer?"),
        (["~trainer.devices"], "trainer.devices is missing"),
        (["~trainer.precision"], "trainer.precision is missing"),
        (["~backbone.widths"], "backbone.widths is missing; ParCNet needs it"),
        (["backbone._target_=a.b"], "backbone._target_=a.b: there is no such class or function"),
        (["data=imagenet"], "data.root has no value; give it one: data.root=..."),
        (["data=imagenet", "data.root=/nowhere"], "data.root: /nowhere/train does not exist"),
        (["recipe.batch_size=1"], "recipe.batch_size=1: allowed is a whole number of at least 2"),
        (["recipe.optimizer.lr=1e38"], "recipe.optimizer.lr=1e+38: allowed is a number above 0"),
        (["trainer.limit_val_batches=0"], "trainer.limit_val_batches=0: allowed is a whole number"),
        (
            ["recipe.augmentation.crop_ratio=[1,inf]"],
            "crop_ratio=[1,inf]: allowed is a list of two",
        ),
        (["recipe.augmentation.crop_scale=[1,0.1]"], "crop_scale=[1,0.1]: … the smaller one first"),
        (["recipe.optimizer=null"], "recipe.optimizer=null: allowed is a mapping with a _target_"),
        (["recipe.ema=3"], "recipe.ema=3: allowed is null or a mapping with a _target_"),
        (["~logger"], "logger is missing"),
        (["+logger.mine={a:1}"], "logger.mine={'a':1}: allowed is a mapping with a _target_"),
        (["backbone=null"], "backbone=null: there is no such config; allowed are convnext_xt"),
        (["paths.runs=/dev/null/x"], "/dev/null is not a folder that can be written to"),
        (["paths.runs=null"], "paths.runs=null: allowed is the path of a folder"),
        (["action=test"], "ckpt has no value; action=test needs one"),
        (["ckpt=nowhere.ckpt"], "ckpt=nowhere.ckpt: … does not exist; allowed are `last`"),
        (["paths.runs=nowhere", "ckpt=last"], "expected last.ckpt in a run of nowhere/"),
        (["a b=1"], "'a b=1' cannot be read; allowed is key=value"),
        (["trainer.accelerator=cpu", "trainer.precision=16-mixed"], "16-mixed needs a GPU"),
        (["backbone=parcnet_s,parcnet_q"], "backbone=parcnet_q: there is no such config"),
        (["seed=${seeed}"], "seed: Interpolation key 'seeed' not found"),
        (["profile.compare=table4"], "compare=table4: allowed is null or one of … mean table3?"),
        (["profile.image_size=big"], "profile.image_size=big: allowed is a number of pixels, or"),
        (["action=profile", "profile.image_size=[250,256]"], "profile.image_size=[250,256]: … 32"),
        (["action=benchmark", "benchmark.image_size=40"], "benchmark.image_size=40: … 32, the"),
        (["profile.num_classes=0"], "profile.num_classes=0: allowed is a whole number of at least"),
        (["profile.batch_size=0"], "profile.batch_size=0: allowed is a whole number of at least 1"),
        (["action=profile", "ckpt=last"], "ckpt=last: action=profile reads none; leave it out"),
        (["benchmark.target=operators"], "benchmark.target=operators: … did you mean operator?"),
        (["benchmark.repeats=0"], "benchmark.repeats=0: allowed is a whole number of at least 1"),
        (["benchmark.batch_size=1"], "benchmark.batch_size=1: allowed is … since BatchNorm"),
        (["benchmark.compile=1"], "benchmark.compile=1: allowed is true or false"),
        (["recipe.mixing=0.2"], "recipe.mixing=0.2: allowed is null or {mixup: 0.2, cutmix: 1.0}"),
        (["recipe.mixing={mixup: 0.2}"], "recipe.mixing.cutmix is missing"),
        (
            ["recipe.mixing={mixup: 0.2, cutmixx: 1}"],
            "recipe.mixing.cutmixx: there is no such key; did you mean cutmix?",
        ),
        (["recipe.mixing={mixup: -1, cutmix: 1}"], "mixup=-1: allowed is a number of at least 0"),
        (["recipe.augmentation.repeats=0"], "repeats=0: allowed is a whole number of at least 1"),
        (["recipe.augmentation.random_erasing=2"], "random_erasing=2: allowed is a number from 0"),
        (
            ["recipe.augmentation.randaugment=true"],
            "randaugment=true: allowed is null or {operations: 2, magnitude: 9}",
        ),
        (
            ["recipe.augmentation.randaugment={operations: 2, magnitude: 31}"],
            "randaugment.magnitude=31: allowed is a whole number from 0 to 30",
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
            "color_jitter.hue=0.6: allowed is a number from 0 to 0.5",
        ),
        (["+benchmark.size=3"], "benchmark.size: there is no such key"),
        (["~profile"], "profile is missing"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_each_fault_is_named(overrides, message):
    found = faults_of(*overrides)
    pattern = ".*".join(re.escape(part.strip()) for part in message.split("…"))
    assert any(re.search(pattern, fault) for fault in found), found


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


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look into every folder")
def test_a_folder_that_may_not_be_looked_into_is_named(tmp_path):
    (tmp_path / "locked").mkdir(mode=0)
    (fault,) = faults_of(f"paths.runs={tmp_path}/locked/runs")
    assert fault.endswith(f"{tmp_path}/locked is not a folder that can be written to")


@pytest.mark.parametrize("action", ["profile", "benchmark"])
def test_what_reads_no_data_needs_none(action):
    assert faults_of(f"action={action}", "data=imagenet") == []
    assert faults_of(f"action={action}", "data=imagefolder", "data.root=/nowhere") == []


def test_another_configuration_can_be_composed_while_hydra_runs():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        plain = compose_plain(["backbone=parcnet_xs", "data=nowhere", "data.root=${none}"])
        assert GlobalHydra.instance().is_initialized()
    assert plain.values["choices"]["backbone"] == "parcnet_xs"
    assert [NO_CONFIG in fault for fault in plain.faults] == [True, False]
    assert not GlobalHydra.instance().is_initialized()


def test_a_broken_file_beside_ours_is_a_fault(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nrecipe: {epoch: 3}\n")
    _, faults = running.configure(["experiment=mine"], config_dir=str(tmp_path))
    assert faults == ["recipe.epoch: there is no such key; did you mean epochs?"]
    (tmp_path / "experiment" / "bad.yaml").write_text("defaults: [nowhere]\n")
    with pytest.raises(ConfigError, match="nowhere"):
        running.configure(["experiment=bad"], config_dir=str(tmp_path))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_with_a_byte_order_mark_is_named(encoding, tmp_path):
    folder = tmp_path / "it's [mine], größer=ours"
    file = folder / "experiment" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("# @package _global_\nseed: 3\n", encoding)
    with pytest.raises(ConfigError, match="byte order mark") as raised:
        running.configure(["experiment=mine"], config_dir=str(folder))
    assert str(file) in str(raised.value)
    file.write_text(file.read_text(encoding), "utf-8")
    assert running.configure(["experiment=mine"], config_dir=str(folder))[0]["seed"] == 3


def test_composition_needs_no_torch():
    code = (
        "import sys; from parcnet_train.config.compose import compose_config;"
        "from parcnet_train.sweeps.grid import register_resolvers;"
        "register_resolvers(); compose_config([]); import parcnet_train.__main__;"
        "print(sorted(m for m in sys.modules if m in ('torch', 'numpy', 'cv2')))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_sweeper_that_is_not_installed_is_named(tmp_path):
    (tmp_path / "sweep").mkdir()
    file = tmp_path / "sweep" / "mine.yaml"
    file.write_text("# @package _global_\ndefaults: [override /hydra/sweeper: nowhere]\n")
    with pytest.raises(ConfigError, match="'hydra/sweeper/nowhere', a plugin of Hydra that is not"):
        running.configure(["sweep=mine"], config_dir=str(tmp_path))


@pytest.mark.parametrize(
    ("word", "allowed", "near"),
    [
        ("parcnet_xxs", ("parcnet_s", "parcnet_xs", "resnet50"), "parcnet_xs"),
        ("ParCNet_S", ("parcnet_s", "resnet50"), "parcnet_s"),
        ("dpp", ("auto", "ddp"), "ddp"),
        ("fti", ("fit", "test"), "fit"),
        ("automatic", ("auto", "manual"), "auto"),
        ("segmentaion", ("classification", "segmentation"), "segmentation"),
        ("recipe.optimiser.lr", ("recipe.optimizer.lr", "recipe.schedule.min_lr"), "optimizer.lr"),
        ("epochs", ("recipe.epochs", "trainer.max_epochs"), "recipe.epochs"),
        ("Seed", ("seed", "data.seed"), "seed"),
        ("gpu", ("cpu", "ddp", "default"), None),
        ("voc", ("coco", "demo"), None),
        ("train", ("fit", "test", "predict"), None),
        ("efficientnet", ("parcnet_s", "resnet50", "mobilenetv2"), None),
        ("model.lr", ("recipe.lr", "model.size"), None),
        ("data.foo", ("data.root", "data.seed"), None),
        ("data.root", ("data.root_of_all.root", "root"), None),
        ("x", ("xs", "x"), None),
        ("10", ("100", "101"), None),
        ("1e-3", ("1e-4",), None),
        ("/data/coco", ("data.coco", "/data/coc"), None),
        ("~/coco", ("coco",), None),
        ("", ("a",), None),
    ],
)
def test_only_near_words_are_proposed(word, allowed, near):
    proposal = nearest(word, allowed)
    assert proposal.endswith(f"{near}?") if near else proposal == ""


@pytest.mark.parametrize("devices", ["[1]", "[0,1]", "'0,1'", "-1", "cuda:1"])
def test_which_devices_are_used_is_for_the_environment_to_say(devices):
    (fault,) = faults_of("trainer=ddp", f"trainer.devices={devices}")
    assert fault.startswith("trainer.devices=")
    assert "CUDA_VISIBLE_DEVICES" in fault


def test_every_setting_of_the_trainer_works_or_is_refused():
    known = {key.removeprefix("trainer.") for key in (*RULES, *REFUSED) if "trainer." in key}
    free = {
        *("gradient_clip_val", "gradient_clip_algorithm", "deterministic", "benchmark"),
        *("inference_mode", "profiler", "detect_anomaly", "enable_autolog_hparams"),
    }
    parameters = inspect.signature(pytorch_lightning.Trainer).parameters
    assert parameters.keys() - known - free == set()
    assert not free & known


@pytest.mark.parametrize("plus", ["", "+"])
def test_what_a_training_cannot_follow_is_refused_by_name(plus):
    faults = sorted(faults_of(*(f"{plus}{key}=3" for key in REFUSED)))
    for fault, (key, words) in zip(faults, sorted(REFUSED.items()), strict=True):
        assert fault.startswith(f"{key}=")
        assert words in fault


@pytest.mark.parametrize(
    ("overrides", "fault"),
    [
        (["trainer.max_steps=0"], "trainer.max_steps=0"),
        (["trainer.val_check_interval=0.0"], "trainer.val_check_interval=0.0"),
        (["trainer.val_check_interval=1.5"], "trainer.val_check_interval=1.5"),
        (["trainer.check_val_every_n_epoch=0"], "trainer.check_val_every_n_epoch=0"),
        (
            ["trainer.check_val_every_n_epoch=2", "trainer.val_check_interval=50"],
            "trainer.check_val_every_n_epoch=2",
        ),
    ],
)
def test_wrong_validations_are_named(overrides, fault):
    (line,) = faults_of(*overrides)
    assert line.startswith(fault)


@pytest.mark.parametrize(
    ("override", "chosen"),
    [
        ("logger=[tensorboard,wandb]", ["tensorboard", "wandb"]),
        ("logger=[wandb]", "wandb"),
        ("logger=wandb", "wandb"),
        ("seed=1", "csv"),
    ],
)
def test_several_loggers_are_named(override, chosen):
    assert composed(override)["choices"]["logger"] == chosen


def test_several_loggers_of_a_file_are_named(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /logger: [csv, tensorboard]\n"
    )
    values, faults = configure(["experiment=mine"], config_dir=str(tmp_path))
    assert (values["choices"]["logger"], faults) == (["csv", "tensorboard"], [])


def test_several_experiments_are_named(tmp_path):
    (tmp_path / "experiment").mkdir()
    for name in ("one", "two"):
        (tmp_path / "experiment" / f"{name}.yaml").write_text("# @package _global_\nseed: 3\n")
    values, _ = configure(["experiment=[one,two]"], config_dir=str(tmp_path))
    assert values["choices"]["experiment"] == ["one", "two"]


@pytest.mark.parametrize("group", ["task", "backbone", "head", "data", "recipe", "trainer"])
def test_a_list_of_what_a_run_has_one_of_is_refused(group):
    names = sorted(file.stem for file in (CONF / group).glob("*.yaml"))[:2]
    (fault,) = faults_of(f"{group}=[{','.join(names)}]")
    assert fault.startswith(f"{group}=[{','.join(names)}]: ")
    assert f"-m {group}={','.join(names)}" in fault
