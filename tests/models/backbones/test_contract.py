"""Properties that every config of `conf/backbone/` has."""

import math

import pytest
import torch

from expected import expected_of, written_like
from parcnet_train.build import build_backbone, build_model, meta_device
from parcnet_train.errors import ConfigError
from parcnet_train.models.backbones.library import LibraryNetwork
from parcnet_train.models.base import Backbone, Level
from parcnet_train.models.profiling.counts import counts
from parcnet_train.targets import locate
from running import (
    BACKBONE_FILES,
    BACKBONES,
    LARGER_SLOWLY,
    OF_LIBRARIES,
    OF_LIBRARIES_SLOWLY,
    composed,
    configure,
    faults_of,
)

# Only the network, at a size that networks of a fixed one take.
UNCHECKED = ("action=profile", "profile.image_size=224")
EVERY = [*LARGER_SLOWLY, *OF_LIBRARIES_SLOWLY]


def values_with_maps(name):
    """The configuration of a backbone; a network of a library may have no maps, and says so."""
    values, faults = configure([*UNCHECKED, f"backbone={name}"])
    if name in OF_LIBRARIES and any("Fix: head=native" in fault for fault in faults):
        pytest.skip(f"{name} has no feature maps")
    assert faults == []
    return values


@pytest.fixture(scope="module", params=EVERY)
def backbone(request):
    torch.manual_seed(0)
    return build_backbone(values_with_maps(request.param))


def assert_close(first, second):
    """Assert equality up to rounding, which grows with the values of an untrained network."""
    assert (first - second).abs().max() < 1e-4 * second.std()


def size_for(backbone, size):
    """The size of a test's images; that of the network if it takes no other."""
    return backbone.fixed_size or size


def test_levels_are_declared_finest_first(backbone):
    assert isinstance(backbone, Backbone)
    assert all(isinstance(level, Level) for level in backbone.levels)
    strides = [level.stride for level in backbone.levels]
    assert strides == sorted(strides)
    # Networks of libraries have the levels that they have there.
    assert strides[-1] == max(backbone.output_strides) or isinstance(backbone, LibraryNetwork)


@pytest.mark.parametrize("size", [(64, 64), (96, 160), (160, 32)], ids=str)
def test_declared_strides_and_channels_match_the_maps(backbone, size):
    size = size_for(backbone, size)
    with torch.inference_mode():
        maps = backbone.eval()(torch.rand(2, 3, *size))
    # LeViT's only size is no multiple of its last stride.
    told = [
        (2, lv.channels, *(math.ceil(each / lv.stride) for each in size)) for lv in backbone.levels
    ]
    assert [tuple(each.shape) for each in maps] == told
    assert all(each.isfinite().all() for each in maps)


def test_every_parameter_gets_a_finite_gradient(backbone):
    backbone.train().zero_grad()
    # Noise, since a constant image would be all zero after the first norm.
    loss = sum(
        each.square().mean() for each in backbone(torch.rand(3, 3, *size_for(backbone, (96, 64))))
    )
    loss.backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # Libraries may scale a branch by 0 at first.
        has_gradient = parameter.grad.abs().sum() > 0
        assert has_gradient or isinstance(backbone, LibraryNetwork), name


def test_evaluation_is_deterministic_and_per_image(backbone):
    images = torch.rand(3, 3, *size_for(backbone, (64, 64)))
    with torch.inference_mode():
        whole = backbone.eval()(images)
        again = backbone(images)
        alone = backbone(images[1:2])
    for first, second, single in zip(whole, again, alone, strict=True):
        assert torch.equal(first, second)
        assert_close(first[1:2], single)


def test_memory_layout_does_not_change_outputs(backbone):
    images = torch.rand(2, 3, *size_for(backbone, (64, 96)))
    with torch.inference_mode():
        plain = backbone.eval()(images)
        other = backbone(images.to(memory_format=torch.channels_last))
    for first, second in zip(plain, other, strict=True):
        assert_close(first, second)


def test_no_entry_of_the_state_dict_is_an_alias(backbone):
    tensors = [value for value in backbone.state_dict().values() if value.numel() > 1]
    if isinstance(backbone, LibraryNetwork):  # CoaT shares layers; EMA updates parameters once
        every = (*backbone.parameters(), *backbone.buffers())
        tensors = [each for each in every if each.numel() > 1]
    assert len({value.data_ptr() for value in tensors}) == len(tensors)


def can_be_built(values):
    """Whether a network of a library accepts its output stride."""
    try:
        with meta_device():
            build_backbone(values)
    except ConfigError as error:
        refusal = str(error)
    else:
        return True
    assert f"backbone.output_stride={values['backbone']['output_stride']}: " in refusal
    return False


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("name", EVERY)
def test_every_output_stride_is_the_configured_one_or_refused(name, output_stride):
    values = values_with_maps(name)
    if output_stride not in locate(values["backbone"]).output_strides:
        (fault,) = faults_of(f"backbone={name}", f"backbone.output_stride={output_stride}")
        assert fault.startswith(f"backbone.output_stride={output_stride}: expected ")
        return
    torch.manual_seed(0)
    changed = {"backbone": {**values["backbone"], "output_stride": output_stride}}
    if issubclass(locate(values["backbone"]), LibraryNetwork) and not can_be_built(changed):
        return
    backbone = build_backbone(changed)
    size = (64, 96)
    maps = backbone(torch.rand(2, 3, *size))
    told = [(2, lv.channels, size[0] // lv.stride, size[1] // lv.stride) for lv in backbone.levels]
    assert [tuple(each.shape) for each in maps] == told
    assert backbone.levels[-1].stride == output_stride
    assert min(level.stride for level in backbone.levels) <= 4 or len(backbone.levels) == 1
    maps[-1].square().mean().backward()
    # The last map depends on all weights, whatever the output stride.
    for name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name
    with meta_device():
        state = build_backbone(values).state_dict()
    # Weights trained at stride 32 can be loaded.
    theirs = {key: value.shape for key, value in state.items()}
    assert {key: value.shape for key, value in backbone.state_dict().items()} == theirs


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_config_has_pretrained(name):
    assert composed(f"backbone={name}")["backbone"]["pretrained"] is None


@pytest.mark.parametrize("name", [*BACKBONES, *OF_LIBRARIES_SLOWLY])
def test_parameters_and_multiply_adds_match_its_file(name):
    expected = expected_of(BACKBONE_FILES[name])
    with meta_device():
        values = composed(*UNCHECKED, f"backbone={name}", f"head={expected.head}")
        model = build_model(values, num_classes=1000)
    counted = counts(model, expected.size)
    assert counted.parameters == expected.parameters
    assert written_like(counted.multiply_adds, expected.multiply_adds) == expected.multiply_adds


@pytest.mark.parametrize("name", EVERY)
def test_every_batchnorm_can_become_a_syncbatchnorm(name):
    backbone = build_backbone(values_with_maps(name)).eval()
    norms = [each for each in backbone.modules() if isinstance(each, torch.nn.BatchNorm2d)]
    ran = []
    for norm in norms:
        norm.register_forward_hook(lambda *_: ran.append(None))
    with torch.inference_mode():
        images = torch.rand(1, 3, *size_for(backbone, (32, 32)))
        backbone(images)
        expected, ran[:] = len(ran), []
        torch.nn.SyncBatchNorm.convert_sync_batchnorm(backbone)(images)
    assert ran == []
    assert expected == len(norms)
