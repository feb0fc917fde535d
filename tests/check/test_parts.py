"""The check of parts that have to go together."""

import pytest

from faults import assert_one_is
from running import faults_of


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["recipe.multi_scale.divisor=48"], "divisor=48: expected a multiple of 32, the output"),
        (
            [
                *("recipe.multi_scale={rule:balanced,largest:1.25}", "recipe.batch_size=2"),
                "recipe.image_size=256",
            ],
            "recipe.batch_size=2: with recipe.multi_scale.rule=balanced, a step at 288x288 pixels "
            "has only 1 image; expected at least 2 … or set recipe.multi_scale.rule=rel",
        ),
        (["recipe.image_size=250"], "recipe.image_size=250: expected a multiple of 32 … 256"),
        (["recipe.image_size=[256,300]"], "image_size=[256,300]: expected a multiple of 32"),
        (["backbone.widths=[191,256,320]"], "backbone.widths=[191, 256, 320]: … even"),
        (["backbone=mobilevit_s", "backbone.heads=5"], "multiples of backbone.heads=5"),
        (
            ["backbone.kernel_resize=crop", "recipe.image_size=[256,288]"],
            "backbone, head at recipe.image_size=[256,288]: backbone.kernel_resize=crop: a feature "
            "map of 36 pixels … kernel of 32 … backbone.kernel_resize=interpolate",
        ),
        (
            ["backbone=resnet50", "backbone.parc_layers=[layer4.0.conv2]"],
            "ResNet: ParC layer layer4.0.conv2: … stride 2; expected 1",
        ),
        (
            ["backbone=parc_mobilenetv2", "backbone.position_embeddings=[features.8.conv.1.0]"],
            "MobileNetV2: position embedding of features.8.conv.1.0: … expected one of features",
        ),
        (
            ["backbone=parc_convnext_xt", "backbone.meta_size=3"],
            "ParC: ConvNeXt does not run on images of 3x3: Calculated padded input size",
        ),
        (
            ["backbone=timm", "backbone.name=mobilenetv9_100"],
            "backbone.name=mobilenetv9_100: timm … has no such network … nearest: mobilenet",
        ),
        (
            ["backbone=timm", "backbone.name=ghostnet_100", "backbone.output_stride=16"],
            "backbone.output_stride=16: … ghostnet_100 … Fix: use 32",
        ),
        (
            ["backbone=timm", "backbone.name=resnet18.nobody"],
            "backbone.name=resnet18.nobody: … (Invalid pretrained tag",
        ),
        (
            ["backbone=timm", "backbone.name=deit_tiny_patch16_224", "recipe.image_size=256"],
            "recipe.image_size=256: expected 224, the only size that backbone=timm takes",
        ),
        (
            ["task=detection", "backbone=t2t_vit_7"],
            "head=ssdlite: the backbone has one level, of stride 16; … Fix: choose a backbone with",
        ),
        (
            ["task=segmentation", "backbone=t2t_vit_7"],
            "head=deeplabv3: the backbone has one level, of stride 16; … Fix: choose a backbone",
        ),
        (
            ["task=detection", "task.evaluated_detections=300"],
            "task.evaluated_detections=300: only task.detections_per_image=200 boxes … are kept; "
            "… Fix: task.detections_per_image=300",
        ),
        (
            ["data.split=test"],
            "data.split=test: a training chooses its best epoch by the validation set … Fix: … "
            "action=test ckpt=RUN data.split=test",
        ),
        (
            ["action=predict", "data.split=test"],
            "data.split=test: action=predict reads the images of input; … Fix: input=FOLDER",
        ),
        (
            ["action=check", "data.split=test"],
            "data.split=test: data=demo is demonstration data without a test set; expected",
        ),
        (
            ["task=detection", "+recipe.class_weights=balanced"],
            "recipe.class_weights: task=detection does not support this key, … negative anchors",
        ),
        (
            ["task=segmentation", "recipe.sampler=balanced"],
            "recipe.sampler: task=segmentation does not support this key, … expected task=class",
        ),
        (
            ["recipe.sampler=balanced", "~data.sampler"],
            "recipe.sampler=balanced: data=demo does not get this value; expected sampler: "
            "${recipe.sampler} in its config. Fix: add this line…, or set recipe.sampler=null",
        ),
        (
            ["recipe.sampler=balanced", "data.sampler=null"],
            "recipe.sampler=balanced: data=demo does not get this value; … leave data.sampler out, "
            "or set recipe.sampler=null",
        ),
        (
            ["recipe=imagenet_300e", "data.multi_scale=null"],
            "recipe.multi_scale={…}: data=demo does not get this value; expected multi_scale: ${re",
        ),
        (["recipe.sampler=random"], "recipe.sampler=random: expected null or balanced"),
        (
            ["recipe.class_weights=[1,0]"],
            "recipe.class_weights=[1,0]: expected null or balanced or a list of values, each",
        ),
        *(
            (
                [f"action={action}", "task.evaluated_classes=folders"],
                f"task.evaluated_classes=folders: action={action} does not use this key; expected "
                "null. Fix: … action=test ckpt=RUN",
            )
            for action in ("fit", "check", "predict", "export")
        ),
        (
            ["task.evaluated_classes={cat: dog}"],
            "task.evaluated_classes={…}: expected null, folders, a list of class names, or the pa",
        ),
        (
            ["task=detection", "task.evaluated_classes=[person]"],
            "task.evaluated_classes=[person]: only task=classification has this key, … val/ap/CL",
        ),
        (["data.split=train"], "data.split=train: expected one of val, test"),
        (["data=imagenet", "data.root=/nowhere"], "data.root: /nowhere/train does not exist"),
        (["action=profile", "profile.image_size=[250,256]"], "profile.image_size=[250,256]: … 32"),
        (["action=benchmark", "benchmark.image_size=40"], "benchmark.image_size=40: … 32, the"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_each_fault_is_named(overrides, message):
    assert_one_is(message, faults_of(*overrides))


def test_folders_of_another_number_of_classes(imagenet):
    (fault,) = faults_of("data=imagenet", f"data.root={imagenet}", "data.num_classes=3")
    assert f"data.num_classes=3: {imagenet} has 1000 classes" in fault


@pytest.mark.parametrize("action", ["profile", "benchmark"])
def test_what_reads_no_data_needs_none(action):
    assert faults_of(f"action={action}", "data=imagenet") == []
    assert faults_of(f"action={action}", "data=imagefolder", "data.root=/nowhere") == []
