"""The interface of timm's models, on every registered network."""

import copy

import pytest
import timm
import torch
from timm.models import group_parameters
from timm.optim import create_optimizer_v2
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from parcnet_train.build import build_backbone
from parcnet_train.models.heads.classifier import Classifier
from parcnet_train.models.model import Model
from parcnet_train.timm_models import NETWORKS, settings_of

# Stages are submodules in ParC-Net, and lists of them in the others. Small networks stand for both.
SMALL = {
    "parcnet_xs": {"depths": [1, 1, 1]},
    "parc_convnext_xt": {"depths": [1, 1, 1, 1], "parc_layers": ["features.7.0.block.0"]},
}
CASES = [
    *(pytest.param((name, changes), id=f"{name}-small") for name, changes in SMALL.items()),
    *(pytest.param((name, {}), id=name, marks=pytest.mark.slow) for name in NETWORKS),
]
SIZE = (32, 64)


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """Name of a network, and the arguments of its backbone that differ from its file."""
    return request.param


@pytest.fixture(scope="module")
def create(case):
    """Function that creates the network."""
    name, changes = case
    return lambda **arguments: timm.create_model(name, **changes, **arguments).eval()


@pytest.fixture(scope="module")
def built(create):
    torch.manual_seed(0)
    return create(num_classes=7, drop_rate=0.5)


@pytest.fixture
def network(built):
    """Network that a test may change."""
    return copy.deepcopy(built)


@pytest.fixture
def images():
    return torch.rand(2, 3, *SIZE)


def assert_close(first, second):
    assert (first - second).abs().max() <= 1e-4 * second.std()


def test_state_dict_and_logits_match_the_model_of_parcnet_train(case, built, images):
    name, changes = case
    backbone = build_backbone({"backbone": {**settings_of(name), **changes}})
    model = Model(backbone, Classifier(backbone.levels, num_classes=7)).eval()
    model.load_state_dict(built.state_dict())
    with torch.inference_mode():
        assert torch.equal(built(images), model(images))


def test_intermediates_are_the_maps_of_the_backbone(built, images):
    with torch.inference_mode():
        expected = built.backbone(images)
        last, maps = built.forward_intermediates(images)
        first = built.forward_intermediates(images, [0], stop_early=True, intermediates_only=True)
        assert len(maps) == len(expected)
        assert all(map(torch.equal, [*maps, *first, last], [*expected, expected[0], expected[-1]]))
        assert torch.equal(last, built.forward_features(images))
        assert torch.equal(built.forward_head(last), built(images))


def test_features_have_the_declared_channels_and_strides(create, images):
    for arguments in ({}, {"out_indices": (1, -1)}, {"output_stride": 8}):
        network = create(features_only=True, **arguments)
        info = network.feature_info
        height, width = SIZE
        maps = zip(info.channels(), info.reduction(), strict=True)
        expected = [(2, channels, height // r, width // r) for channels, r in maps]
        assert [tuple(each.shape) for each in network(images)] == expected
        assert max(info.reduction()) == arguments.get("output_stride", 32)
        assert arguments or info.reduction() == [2, 4, 8, 16, 32][-len(expected) :]
        assert "out_indices" not in arguments or len(expected) == 2


@pytest.mark.parametrize("kind", ["hook", "fx"])
def test_features_can_be_collected_in_other_ways(kind, built, create, images):
    network = create(features_only=True, feature_cls=kind)
    body = network.body if kind == "hook" else network.graph_module
    body.load_state_dict(built.state_dict(), strict=False)
    with torch.inference_mode():
        expected = built.forward_intermediates(images, intermediates_only=True)
        for first, second in zip(network(images), expected, strict=True):
            assert_close(first, second)


def test_pruned_networks_keep_their_maps_and_have_no_unused_parameters(built, images):
    with torch.inference_mode():
        expected = built.forward_intermediates(images, intermediates_only=True)
    for index, level in enumerate(built.backbone.levels):
        pruned = copy.deepcopy(built)
        assert pruned.prune_intermediate_layers([index]) == [index]
        assert pruned.num_features == pruned.head_hidden_size == level.channels
        features = pruned(images)
        assert_close(features, expected[index])
        features.square().mean().backward()
        assert [n for n, each in pruned.named_parameters() if each.grad is None] == []
        pruned.reset_classifier(3, "avg")
        assert pruned(images).shape == (2, 3)


def gradients_of(network, images):
    torch.manual_seed(0)
    network.zero_grad()
    network(images).square().mean().backward()
    return {name: parameter.grad for name, parameter in network.named_parameters()}


def test_checkpointing_changes_no_gradient(network, images):
    network.train()
    expected = gradients_of(network, images)
    assert all(each.isfinite().all() for each in expected.values())
    network.set_grad_checkpointing()
    found = gradients_of(network, images)
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_torchscript_gives_the_same_logits(built, images):
    with torch.inference_mode():
        assert_close(torch.jit.script(built)(images), built(images))


def test_fx_gives_the_same_logits(built, images):
    leaves = {"leaf_modules": timm.models.get_notrace_modules()}
    traced = create_feature_extractor(built, ["head.linear"], tracer_kwargs=leaves)
    with torch.inference_mode():
        assert_close(traced(images)["head.linear"], built(images))


def test_classifier_can_be_reset(network, images):
    network.double()
    images = images.double()
    features = network.forward_features(images)
    assert features.shape == (2, network.num_features, 1, 2)
    for pool, place in (("avg", ()), ("max", ()), ("avgmax", ()), ("", (1, 2))):
        network.reset_classifier(5, pool)
        width = network.head_hidden_size
        assert network(images).shape == (2, 5, *place)
        assert network.forward_head(features, pre_logits=True).shape == (2, width, *place)
        network.reset_classifier(0)
        assert network(images).shape == (2, width, *place)
        assert isinstance(network.get_classifier(), nn.Identity)
    network.reset_classifier(4, "avg")
    assert (network.num_classes, network(images).shape) == (4, (2, 4))
    assert not any(module.training for module in network.modules())


def test_networks_can_be_created_without_a_classifier(create, images):
    assert create(num_classes=0, global_pool="")(images).shape[2:] == (1, 2)
    assert create(num_classes=0)(images).dim() == 2


def test_concatenated_pooling_doubles_the_features_if_there_is_no_norm(network, images):
    width = network.head_hidden_size
    if isinstance(network.head.norm, nn.Identity):
        network.reset_classifier(5, "catavgmax")
        assert network.head_hidden_size == 2 * width
        assert network(images).shape == (2, 5)
    else:
        with pytest.raises(AssertionError, match="global_pool=catavgmax: the norm"):
            network.reset_classifier(5, "catavgmax")


def test_weights_are_created_on_the_given_device_with_the_given_dtype(create):
    network = create(device="meta", dtype=torch.float16)
    assert all(each.is_meta for each in [*network.parameters(), *network.buffers()])
    assert {each.dtype for each in network.parameters()} == {torch.float16}


def test_six_channels_of_a_repeated_image_give_the_logits_of_the_image(built, create, images):
    arguments = {"pretrained_cfg_overlay": {"state_dict": built.state_dict(), "num_classes": 7}}
    wide = create(pretrained=True, num_classes=7, in_chans=6, **arguments)
    assert wide.in_chans == 6
    with torch.inference_mode():
        assert_close(wide(images.repeat(1, 2, 1, 1)), built(images))


def test_new_weights_for_gray_images_have_the_usual_deviation(built, create, images):
    gray = create(in_chans=1)
    first = built.default_cfg["first_conv"]
    weights = [each.get_submodule(first).weight.detach() for each in (gray, built)]
    assert weights[0].shape[1] == 1
    assert weights[0].std().item() == pytest.approx(weights[1].std().item(), rel=0.3)
    assert gray(images[:, :1]).shape == (2, 1000)


def test_every_parameter_is_in_a_group_of_its_depth(network):
    depths = {}
    for coarse in (True, False):
        groups = group_parameters(network, network.group_matcher(coarse), reverse=True)
        assert groups.keys() == dict(network.named_parameters()).keys()
        depths[coarse] = max(groups.values())
        assert groups["head.linear.weight"] == depths[coarse]
        assert groups[network.default_cfg["first_conv"] + ".weight"] == 0
    assert len(network.feature_info) == depths[True] < depths[False]
    optimizer = create_optimizer_v2(network, "adamw", layer_decay=0.5, weight_decay=0.1)
    scales = {group["lr_scale"] for group in optimizer.param_groups}
    assert len(scales) == depths[False] + 1


def test_invalid_arguments_are_refused(create):
    with pytest.raises(TypeError, match="not_an_argument"):
        create(not_an_argument=1)


def test_drop_path_rate_is_for_networks_with_stochastic_depth():
    network = timm.create_model("parc_convnext_xt", drop_path_rate=0.3, **SMALL["parc_convnext_xt"])
    assert network.backbone.network.features[7][-1].stochastic_depth.p == 0.3
    with pytest.raises(TypeError, match=r"drop_path_rate=0\.3: ResNet has no stochastic depth"):
        timm.create_model("parc_resnet50", drop_path_rate=0.3)
