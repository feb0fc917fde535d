"""Backbones for images with other channels than RGB, with and without pretrained weights."""

import pytest
import torch

from parcnet_train.build import build_backbone
from parcnet_train.models.backbones.adapt import adapted_weights
from running import composed, faults_of

NAMES = ["parcnet_xs", "mobilevit_xs", "mobilenetv2", "timm"]


def backbone_of(name, channels, *overrides):
    config = composed(f"backbone={name}", f"data.channels={channels}", *overrides)
    torch.manual_seed(0)
    return build_backbone(config)


@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("name", NAMES)
def test_only_the_first_weights_differ(name, channels):
    rgb, other = (backbone_of(name, number).state_dict() for number in (3, channels))
    assert rgb.keys() == other.keys()
    changed = {key for key in rgb if rgb[key].shape != other[key].shape}
    assert len(changed) == 1
    (key,) = changed
    out, _, *kernel = rgb[key].shape
    assert other[key].shape == (out, channels, *kernel)
    # Each release and library draws by the number of outputs, which does not change.
    assert other[key].std().item() == pytest.approx(rgb[key].std().item(), rel=0.35)


@pytest.mark.parametrize("name", ["parcnet_xs", "mobilevit_xs"])
def test_gray_image_gives_what_it_gave_as_rgb(name):
    rgb, gray = (backbone_of(name, number).eval().double() for number in (3, 1))
    gray.load_state_dict(adapted_weights(rgb.state_dict(), gray))
    image = torch.rand(1, 1, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        expected, found = rgb(image.expand(1, 3, 64, 64)), gray(image)
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 8])
def test_weights_are_adapted_as_timm_does(channels):
    from timm.models._manipulate import adapt_input_conv

    rgb, other = (backbone_of("parcnet_xs", number) for number in (3, channels))
    state = rgb.state_dict()
    found = adapted_weights(state, other)
    key = next(iter(state))
    torch.testing.assert_close(found[key], adapt_input_conv(channels, state[key]))
    assert all(found[name] is state[name] for name in list(state)[1:])


@pytest.mark.parametrize("name", ["mobileone_s0", "fastvit_t8"])
def test_timm_adapts_stems_of_several_convolutions(name):
    backbone = backbone_of("timm", 5, f"backbone.name={name}")
    assert backbone.normalize.mean.shape == (5, 1, 1)
    assert len(backbone.eval()(torch.rand(1, 5, 64, 64))) > 1


def test_backbone_without_a_convolution_that_reads_the_image_is_refused():
    (fault,) = faults_of("backbone=t2t_vit_7", "data.channels=2", "recipe.image_size=224")
    assert fault == (
        "data.channels=2: T2TViT has no convolution that reads the image; expected 3. "
        "Fix: data.channels=3, or another backbone"
    )


def test_timm_option_is_refused():
    (fault,) = faults_of("backbone=timm", "+backbone.options.in_chans=1")
    assert "backbone.options.in_chans=1: this package sets it" in fault
    assert fault.endswith("Fix: data.channels")
