"""The check of transforms of one's own."""

import pytest

from faults import is_like
from parcnet_train.check.augmentation import wrong_extra
from running import composed, faults_of

EXTRA = "recipe.augmentation.extra"
BLUR = "albumentations.Blur"


def faults_of_nodes(nodes, *overrides):
    config = composed("recipe.image_size=32", *overrides)
    config["recipe"]["augmentation"]["extra"] = nodes
    return [fault.message for fault in wrong_extra(config)]


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        (
            [{"_target_": "albumentations.GausNoise"}],
            f"{EXTRA}[0]._target_=albumentations.GausNoise: this class or function does not exist",
        ),
        ([{"p": 0.5}], f"{EXTRA}[0]={{'p': 0.5}}: expected a transform such as {{_target_: albu"),
        (["Blur"], f"{EXTRA}[0]=Blur: expected a transform such as {{_target_: albumentations.G"),
        (
            [{"_target_": "torch.optim.AdamW"}],
            f"{EXTRA}[0]._target_=torch.optim.AdamW: it is not a transform of albumentations; exp",
        ),
        (
            [{"_target_": "albumentations.Blur"}, {"_target_": "albumentations.Blur", "std": 1}],
            f"{EXTRA}[1].std: Blur has no such argument",
        ),
        (
            [{"_target_": "albumentations.OneOf", "transforms": [{"_target_": BLUR, "q": 1}]}],
            f"{EXTRA}[0].transforms[0].q: Blur has no such argument",
        ),
        (
            [{"_target_": "albumentations.RandomCrop", "height": 8, "width": 8, "p": 0.01}],
            f"{EXTRA}[0]: RandomCrop: an image of 32x32x3 uint8 becomes 8x8x3 uint8; expected",
        ),
        (
            [{"_target_": "albumentations.GaussNoise", "std_range": [0.9, 0.1]}],
            f"{EXTRA}[0]: albumentations.GaussNoise: std_range: Value error, First value should be",
        ),
        (
            [{"_target_": "albumentations.Mosaic"}],
            f"{EXTRA}[0]: albumentations.Mosaic fails on an image: … mosaic_metadata",
        ),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else "",
)
def test_wrong_transforms_are_one_line_each(nodes, message):
    (fault,) = faults_of_nodes(nodes)
    assert is_like(fault, message), fault
    assert "\n" not in fault


CROP = {"_target_": "albumentations.RandomCrop", "height": 8, "width": 8}
PAD = {"_target_": "albumentations.PadIfNeeded", "min_height": 40, "min_width": 40}
BACK = {"_target_": "albumentations.RandomCrop", "height": 32, "width": 32}


def composition(name, *transforms, **arguments):
    return {"_target_": f"albumentations.{name}", "transforms": list(transforms), **arguments}


@pytest.mark.parametrize(
    "node",
    [
        composition("OneOf", *[{"_target_": BLUR, "p": 1.0}] * 9, CROP | {"p": 1e-9}),
        composition("SomeOf", *[{"_target_": BLUR}] * 9, CROP, n=1),
        composition("OneOrOther", {"_target_": BLUR}, CROP, p=1 - 1e-9),
        composition("OneOf", {"_target_": BLUR}, composition("Sequential", PAD, CROP, p=1e-9)),
        composition(
            *("Sequential", {"_target_": BLUR}),
            composition("OneOf", *[{"_target_": BLUR}] * 9, CROP | {"p": 1e-9}),
        ),
    ],
    ids=["rare", "some", "other", "sequence within a choice", "choice within a sequence"],
)
def test_every_member_of_a_choice_is_tried(node):
    (fault,) = faults_of_nodes([node])
    assert is_like(fault, f"{EXTRA}[0]: … an image of 32x32x3 uint8 becomes 8x8x3 uint8; expected")


def test_members_of_a_sequence_are_tried_together():
    sequence = composition("Sequential", PAD, BACK)
    assert faults_of_nodes([sequence, composition("OneOf", sequence, {"_target_": BLUR})]) == []


@pytest.mark.parametrize(
    ("node", "channels"),
    [
        (
            composition(
                "SelectiveChannelTransform",
                {"_target_": "albumentations.HueSaturationValue"},
                channels=[0, 1, 2],
            ),
            5,
        ),
        (composition("SomeOf", PAD, BACK, n=2, replace=False), 3),
        (composition("Sequential", composition("OneOf"), {"_target_": BLUR}), 3),
    ],
    ids=["channels", "several", "empty"],
)
def test_only_members_of_a_choice_are_tried_one_by_one(node, channels):
    assert faults_of_nodes([node], f"data.channels={channels}") == []


@pytest.mark.parametrize("task", ["classification", "detection", "segmentation"])
def test_transforms_of_every_task_are_accepted(task):
    choice = [{"_target_": "albumentations.Affine", "rotate": [-9, 9]}, {"_target_": BLUR}]
    nodes = [{"_target_": "albumentations.OneOf", "transforms": choice, "p": 0.5}]
    assert faults_of_nodes(nodes, f"task={task}", "backbone=parcnet_xs") == []


def test_transforms_are_typed_on_the_command_line():
    text = "{_target_: albumentations.GaussNoise, p: 0.2, std: 1}, {_target_: albumentations.Blur}"
    faults = faults_of(f"{EXTRA}=[{text}]")
    assert [fault.split(":")[0] for fault in faults] == [f"{EXTRA}[0].std"]
