"""Model cards: what they say, and that no text of others changes their form."""

import json
import shlex

import pytest
import yaml

from faults import is_like
from parcnet_train.actions.release.card import code, license_of, load_of, measured_on
from parcnet_train.errors import CheckpointError
from releasing import SMALL, change, config_of, release, write_checkpoint
from running import faults_of

HOSTILE = "x`\n# heading\n<script>alert(1)</script>\u202e\udcff"
METRICS = {
    "metric": "miou",
    "values": {"miou": 0.5},
    "split": "test",
    "images": 1200,
    "dataset": "roads",
    "data": "voc_format",
    "image_size": [64, 128],
    "evaluated_classes": None,
    "scales": [1.0],
    "mirror": False,
    "epoch": 7,
    "chosen": False,
    "evaluator": None,
}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "test set of `roads` (1,200 images, 64x128 pixels), with the weights of epoch 7."),
        ({"images": None, "image_size": None}, "`roads`, with the weights of epoch 7."),
        ({"dataset": None, "epoch": 0}, "of a data set that is not recorded (1,200 … pixels)."),
        ({"evaluator": "coco 1.0"}, "epoch 7, by `coco 1.0`."),
        ({"evaluated_classes": 3}, "Only 3 of 10 classes were evaluated."),
        ({"scales": [0.5, 1.0]}, "are averages over scales [0.5, 1.0]."),
        ({"mirror": True}, "are averages over the image and its mirror image."),
        ({"chosen": True}, "This epoch was chosen by its mean IoU on the same images"),
    ],
    ids=str,
)
def test_card_says_what_the_metrics_were_measured_on(changes, text):
    assert is_like(" ".join(measured_on({**METRICS, **changes}, 10)), f"…{text}")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (None, {}),
        ("apache-2.0", {"license": "apache-2.0"}),
        ("MIT", {"license": "mit"}),
        ("Our Own License", {"license": "other", "license_name": "Our Own License"}),
    ],
)
def test_hub_knows_the_license(name, expected):
    assert license_of(name) == expected


def test_empty_license_is_refused():
    (fault,) = (each for each in faults_of("action=release", "release.license=''") if "lic" in each)
    assert fault.startswith("release.license=")


def test_own_packages_are_named():
    config = {"backbone": {"_target_": "mine.Net"}, "head": {"_target_": "parcnet_train.x.Head"}}
    expected = 'parcnet_train.load("PATH", packages=["parcnet_train", "mine"])'
    assert load_of(config) == expected
    assert load_of({**config, "backbone": config["head"]}) == 'parcnet_train.load("PATH")'


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (HOSTILE, r"`x\n# heading\n<script>alert(1)</script>\u202e\udcff`"),
        ("tench, @user $x$ https://x", "`tench, @user $x$ https://x`"),
        ("\U0001f469\u200d\U0001f680 a\xa0b", "`\U0001f469\u200d\U0001f680 a\xa0b`"),
    ],
)
def test_text_stays_code_on_one_line(text, shown):
    assert code(text) == shown


@pytest.fixture(scope="module")
def again(tmp_path_factory):
    """A release whose texts are hostile, and the card of its release."""
    folder = tmp_path_factory.mktemp("again")
    path = write_checkpoint(folder / "a.ckpt", averaged=["a", "b"])
    _, first = release(path, folder / "first")
    change(
        first,
        class_names=[HOSTILE, "b", "c"],
        dataset=HOSTILE,
        converted={"from": HOSTILE, "file": HOSTILE, "entry": None},
        distillation={"kind": HOSTILE, "teacher": HOSTILE},
        metrics={**METRICS, "metric": HOSTILE, "dataset": HOSTILE, "evaluator": HOSTILE},
        parcnet_train_version=HOSTILE,
        provenance={
            "trained": {"revision": HOSTILE, "packages": {"torch": HOSTILE}, "data": None},
        },
    )
    return first, (release(first, folder / "second")[1] / "README.md").read_text()


def test_hostile_texts_do_not_change_the_form_of_a_card(again):
    _, card = again
    front, text = card.split("---\n", 2)[1:]
    lines = [line for line in text.splitlines() if not line.startswith("```")]
    assert not any(line.startswith(("# heading", "<script>")) for line in lines)
    assert all(line.count("`") % 2 == 0 for line in lines)
    outside = "".join("".join(line.split("`")[::2]) for line in lines)
    assert "<script>" not in outside
    assert yaml.safe_load(front)["library_name"] == "parcnet-train"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("metrics", {**METRICS, "images": "many"}),
        ("metrics", {**METRICS, "values": {"miou": "high"}}),
        ("provenance", {"trained": {"packages": [1]}}),
        ("provenance", {"trained": {"data": {"train_images": "x"}}}),
        ("converted", {"from": 1}),
    ],
    ids=str,
)
def test_description_of_another_form_is_refused(again, key, value, tmp_path):
    first, _ = again
    before = (first / "config.json").read_text()
    content = json.loads(before)
    content["parcnet_train"][key] = value
    (first / "config.json").write_text(json.dumps(content))
    try:
        with pytest.raises(CheckpointError) as caught:
            release(first, tmp_path)
    finally:
        (first / "config.json").write_text(before)
    assert is_like(str(caught.value), f"ckpt={first}… its {key}… is invalid; expected")


@pytest.mark.parametrize(
    "network",
    [
        (*SMALL, "data.channels=1", "backbone.fusion=add"),
        pytest.param(
            (
                "backbone=torchvision",
                "backbone.name=mobilenet_v3_small",
                "backbone.weights=library",
            ),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["ours", "library"],
)
def test_command_for_fine_tuning_is_accepted(network, tmp_path):
    config = write_checkpoint(tmp_path / "a.ckpt", network=network)
    _, folder = release(config, tmp_path / "run")
    (line,) = [
        each
        for each in (folder / "README.md").read_text().splitlines()
        if "backbone.pretrained=PATH" in each
    ]
    words = shlex.split(line.replace("PATH", str(folder)))[3:]
    faults = faults_of(*words)
    assert [each for each in faults if "DATA" not in each] == []
    assert config_of(folder)["parcnet_train"]["task"] == "classification"
