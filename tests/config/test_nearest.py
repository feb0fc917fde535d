"""Names that a slip is near to."""

import pytest

from parcnet_train.config.compose import nearest


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
