import functools

import pytest
import torch
from torch import nn
from torchvision.models.segmentation import deeplabv3, fcn
from torchvision.models.segmentation._utils import _SimpleSegmentationModel

from parcnet_train.build import build_model, meta_device
from parcnet_train.config.compose import compose_plain
from parcnet_train.errors import ConfigError
from parcnet_train.models.base import Level
from parcnet_train.models.heads.deeplabv3 import DeepLabV3
from running import BACKBONES, OWN, configure, is_dense

LEVELS = (Level(4, 6), Level(8, 8), Level(16, 12), Level(16, 20))
SIZE = (96, 64)  # size of the images


@functools.cache
def values_of(backbone):
    return compose_plain(["task=segmentation", f"backbone={backbone}"], OWN).values


def head(levels=LEVELS, num_classes=3, **arguments):
    torch.manual_seed(0)
    return DeepLabV3(levels, num_classes, **{"channels": 16, **arguments}).eval()


def maps(levels=LEVELS, size=SIZE, batch=2):
    torch.manual_seed(1)
    return [
        torch.randn(batch, level.channels, size[0] // level.stride, size[1] // level.stride)
        for level in levels
    ]


def drawn(module):
    """Build a head in evaluation mode, whose norms change their input."""
    torch.manual_seed(2)
    for value in module.state_dict().values():
        if value.is_floating_point() and value.dim() == 1:
            value.uniform_(0.5, 1.5)
    return module.eval()


def take_weights(ours, theirs):
    """Copy the weights of another package's layers, which have the same order."""
    names, values = ours.state_dict().keys(), theirs.state_dict().values()
    ours.load_state_dict(dict(zip(names, values, strict=True)))


# Authors' implementation, 21 classes.
@pytest.mark.parametrize(
    ("backbone", "parameters"),
    [("parcnet_s", 5_816_397), ("mobilevit_s", 6_357_941), ("mobilevit_xs", 2_944_069)],
)
def test_parameter_counts_match_published_ones(backbone, parameters):
    with meta_device():
        model = build_model(values_of(backbone), num_classes=21).eval()
        logits = model(torch.empty(1, 3, 512, 512))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert logits.shape == (1, 21, 512, 512)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_head_works_on_every_backbone_or_reports_its_single_level(backbone):
    if not is_dense(backbone):
        message = "head=deeplabv3: the backbone has one level, of stride .* Fix: choose a backbone"
        with pytest.raises(ConfigError, match=message), meta_device():
            build_model(values_of(backbone), num_classes=3)
        return
    torch.manual_seed(0)
    model = build_model(values_of(backbone), num_classes=3).eval()
    assert model.backbone.levels[-1].stride == 16
    for size in ((96, 160), (75, 109)):  # the latter is not a multiple of any stride
        with torch.inference_mode():
            logits = model(torch.rand(2, 3, *size))
        assert logits.shape == (2, 3, *size)
        assert logits.isfinite().all()


def test_every_parameter_gets_a_finite_gradient():
    torch.manual_seed(0)
    values = values_of("parcnet_xs")
    values = {**values, "head": {**values["head"], "auxiliary": True}}
    model = build_model(values, num_classes=3).train()
    sum(logits.square().mean() for logits in model(torch.rand(3, 3, 64, 96))).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


# torchvision's rates are those of stride 8.
@pytest.mark.parametrize(("stride", "rates"), [(16, (6, 12, 18)), (8, (12, 24, 36))])
def test_head_matches_torchvision_except_for_one_convolution(stride, rates):
    levels = (*LEVELS[:2], Level(stride, 12), Level(stride, 20))
    classifier = drawn(deeplabv3.DeepLabHead(20, 3, rates))
    auxiliary = drawn(fcn.FCNHead(12, 3))
    # The convolution that our head lacks is set to the identity, and so are its norm and its ReLU,
    # since their input is positive.
    aspp, convolution, norm, _, linear = classifier
    nn.init.dirac_(convolution.weight)
    norm.load_state_dict(nn.BatchNorm2d(256).state_dict())
    norm.eps = 0
    ours = head(levels, channels=256, auxiliary=True)
    for module, theirs in (
        (ours.aspp, aspp),
        (ours.classifier, linear),
        (ours.auxiliary, auxiliary),
    ):
        take_weights(module, theirs)
    given, size = maps(levels), (91, 59)  # less than a stride below that of the maps
    theirs = _SimpleSegmentationModel(
        lambda _: {"out": given[-1], "aux": given[-2]}, classifier, auxiliary
    )
    with torch.inference_mode():
        expected = theirs(torch.empty(2, 3, *size))
        torch.testing.assert_close(ours(given, size), expected["out"])
        ours.training = True  # its layers stay in evaluation mode
        for found, wanted in zip(ours(given, size), expected.values(), strict=True):
            torch.testing.assert_close(found, wanted)


def test_auxiliary_classifier_is_active_only_in_training():
    plain, module = head(), head(auxiliary=True)
    added = {name for name, _ in module.named_parameters()} - dict(plain.named_parameters()).keys()
    assert all(name.startswith("auxiliary.") for name in added)
    sizes = {name: p.numel() for name, p in module.named_parameters()}
    # 3x3 from 12 channels to 3, their norm, 1x1 to 3 classes.
    assert sum(sizes[name] for name in added) == 9 * 12 * 3 + 2 * 3 + 3 * 3 + 3
    assert module(maps(), SIZE).shape == (2, 3, *SIZE)
    logits, auxiliary = module.train()(maps(), SIZE)
    assert logits.shape == auxiliary.shape == (2, 3, *SIZE)
    assert isinstance(plain.train()(maps(), SIZE), torch.Tensor)


@pytest.mark.parametrize("backbone", ["parcnet_xs", "mobilevit_xxs", "mobilenetv2", "convnext_xt"])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_auxiliary_classifier_reads_the_stage_before_the_last(backbone, output_stride):
    values = values_of(backbone)
    values = {
        **values,
        "backbone": {**values["backbone"], "output_stride": output_stride},
        "head": {**values["head"], "auxiliary": True},
    }
    torch.manual_seed(0)
    model = build_model(values, num_classes=3)
    model(torch.rand(2, 3, 32, 32))[1].square().mean().backward()
    *stages, last = model.backbone.stage_parameters()
    assert all(each.grad is not None for stage in stages for each in stage)
    assert all(each.grad is None for each in last)


def test_dropout_before_the_classifier_drops_whole_channels():
    module = head(dropout=0.5).train()
    seen = []
    module.classifier.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    module.aspp.register_forward_hook(lambda _, __, found: seen.append(found))
    module(maps(size=(128, 160), batch=8), (128, 160))
    aspp, dropped = seen
    kept = dropped.flatten(2).any(dim=2)
    assert 0.3 < kept.float().mean() < 0.7
    torch.testing.assert_close(dropped, 2 * aspp * kept[:, :, None, None])


def test_initial_weights_match_the_release():
    module = head(channels=256, auxiliary=True)
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d):
            fan_out = layer.out_channels * layer.kernel_size[0] * layer.kernel_size[1]
            expected = (2 / fan_out) ** 0.5  # Kaiming normal
            assert layer.weight.std().item() == pytest.approx(expected, rel=0.3), name
            assert layer.bias is None or not layer.bias.any(), name


@pytest.mark.parametrize("stride", [4, 32])
def test_a_last_level_of_a_different_stride_is_an_error(stride):
    message = rf"^head=deeplabv3: .*stride {stride}; .*8 or 16.*backbone\.output_stride=16"
    with pytest.raises(ConfigError, match=message):
        head((*LEVELS, Level(stride, 20)))


def test_check_reports_a_backbone_with_output_stride_32():
    overrides = ["task=segmentation", "backbone=parcnet_xs", "backbone.output_stride=32"]
    overrides.append("action=profile")
    (fault,) = configure(overrides)[1]
    assert fault.startswith("backbone, head: head=deeplabv3: ")
    assert "stride 32; expected 8 or 16" in fault
    assert fault.endswith("backbone.output_stride=16")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("head.rates=[0]", "head.rates=[0]: expected a list of values, each a whole number"),
        ("head.rates=6", "head.rates=6: expected a list of values, each a whole number"),
        ("head.channels=0", "head.channels=0: expected a whole number of at least 1"),
        ("head.dropout=1", "head.dropout=1: expected a number from 0 to below 1"),
        ("head.auxiliary=yes", "head.auxiliary=yes: expected true or false"),
        ("+head.rate=6", "head.rate: DeepLabV3 has no such argument; did you mean rates?"),
    ],
)
def test_check_reports_invalid_head_arguments(override, message):
    overrides = ["task=segmentation", "backbone=parcnet_xs", "action=profile", override]
    (fault,) = configure(overrides)[1]
    assert message in fault


@pytest.mark.parametrize(
    ("task", "head", "of"),
    [
        ("classification", "deeplabv3", "segmentation"),
        ("segmentation", "classifier", "classification"),
    ],
)
def test_check_reports_a_head_of_a_different_task(task, head, of):
    faults = configure(
        [f"task={task}", f"head={head}", "backbone.output_stride=16", "action=profile"]
    )[1]
    assert faults == [f"head={head}: it is for task={of}, not for task={task}"]
