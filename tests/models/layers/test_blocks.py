import math

import pytest
import torch
from scipy.stats import kstest, truncnorm
from torch import nn

from parcnet_train.models.layers.blocks import (
    Conv,
    ConvNormAct,
    InvertedResidual,
    initialize,
    local_stages,
)


@pytest.mark.parametrize(("kernel_size", "stride"), [(1, 1), (3, 1), (3, 2), (5, 1)])
def test_conv_norm_act_matches_its_definition(kernel_size, stride):
    block = ConvNormAct(4, 6, kernel_size, stride, groups=2).double().eval()
    for statistic in (block.norm.running_mean, block.norm.running_var, block.norm.weight):
        nn.init.uniform_(statistic, 0.5, 2)
    x = torch.randn(2, 4, 8, 10, dtype=torch.float64)
    y = nn.functional.conv2d(x, block.conv.weight, None, stride, padding=kernel_size // 2, groups=2)
    mean, variance = (v[:, None, None] for v in (block.norm.running_mean, block.norm.running_var))
    y = (y - mean) / torch.sqrt(variance + 1e-5) * block.norm.weight[:, None, None]
    assert block.conv.bias is None
    assert y.shape[2:] == (8 // stride, 10 // stride)
    torch.testing.assert_close(block(x), y * torch.sigmoid(y))


def test_conv_norm_act_without_activation_can_be_negative():
    block = ConvNormAct(4, 6, activation=None).eval()
    assert block(torch.randn(2, 4, 8, 8)).min() < -0.3  # SiLU's minimum is -0.278


@pytest.mark.parametrize(
    ("out_channels", "stride", "has_skip"),
    [(8, 1, True), (8, 2, False), (12, 1, False), (12, 2, False)],
)
def test_skip_needs_an_unchanged_shape(out_channels, stride, has_skip):
    block = InvertedResidual(8, out_channels, stride).eval()
    nn.init.zeros_(block.project.norm.weight)  # the branch outputs 0
    x = torch.randn(2, 8, 6, 10)
    y = block(x)
    assert y.shape == (2, out_channels, 6 // stride, 10 // stride)
    assert torch.equal(y, x if has_skip else torch.zeros_like(y))


def test_skip_adds_to_the_branch():
    block = InvertedResidual(8, 8).eval()
    x = torch.randn(2, 8, 6, 10)
    branch = block.project(block.depthwise(block.expand(x)))
    assert branch.abs().max() > 0.01
    torch.testing.assert_close(block(x) - x, branch, atol=1e-6, rtol=1e-5)


def test_inverted_residual_is_depthwise_inside():
    block = InvertedResidual(8, 12, stride=2, expansion=6)
    assert (block.expand.conv.out_channels, block.depthwise.conv.groups) == (48, 48)
    assert block.depthwise.conv.stride == (2, 2)
    assert [hasattr(b, "act") for b in (block.expand, block.depthwise, block.project)] == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize("size", [(64, 96), (33, 50)])
def test_local_stages_have_strides_2_and_4(size):
    x = torch.randn(1, 3, *size)
    for stage, stride, channels in zip(local_stages((4, 8, 12), 2), (2, 4), (8, 12), strict=True):
        x = stage(x)
        assert x.shape == (1, channels, *(math.ceil(length / stride) for length in size))


@pytest.mark.parametrize(
    ("channels", "kernel_size", "groups"),
    [((96, 128), 3, 1), ((256, 128), 1, 1), ((1024, 1024), 3, 1024), ((96, 192), 3, 4)],
    ids=["3x3", "1x1", "depthwise", "grouped"],
)
def test_initial_convolutions_are_kaiming_normal_fan_out(channels, kernel_size, groups):
    torch.manual_seed(0)
    conv = nn.Conv2d(*channels, kernel_size, groups=groups)
    nn.init.ones_(conv.bias)
    conv.apply(initialize)
    # torch counts all output channels, whatever the groups.
    std = math.sqrt(2 / (channels[1] * kernel_size**2))
    values = conv.weight.detach().flatten().double()
    error = 5 / math.sqrt(2 * len(values))  # five standard deviations of an estimate of std
    assert values.std().item() == pytest.approx(std, rel=error)
    assert kstest(values / std, "norm").pvalue > 1e-3
    assert torch.count_nonzero(conv.bias) == 0


def test_initial_linear_layers_are_truncated_normal():
    torch.manual_seed(0)
    linear = nn.Linear(200, 300)
    linear.apply(initialize)
    values = linear.weight.detach().flatten().double()
    # torch truncates at -2 and 2, which is far away.
    assert kstest(values, truncnorm(-100, 100, scale=0.02).cdf).pvalue > 1e-3
    assert values.std().item() == pytest.approx(0.02, rel=5 / math.sqrt(2 * len(values)))
    assert torch.count_nonzero(linear.bias) == 0


def test_layers_without_bias_and_norms_are_initialized():
    torch.manual_seed(0)
    block = ConvNormAct(8, 8)
    nn.init.constant_(block.norm.weight, 3.0)
    before = block.conv.weight.clone()
    block.apply(initialize)
    assert not torch.equal(block.conv.weight, before)
    assert block.norm.weight.unique().tolist() == [3.0]  # norms keep torch's initial values


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_strided_depthwise_convolution_is_float32_under_autocast(dtype):
    torch.manual_seed(0)
    conv = Conv(8, 8, 3, stride=2, padding=1, groups=8)
    x = torch.randn(2, 8, 12, 12).to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype):
        y = conv(x)
    assert y.dtype == dtype
    expected = torch.nn.functional.conv2d(
        x.float(), conv.weight, conv.bias, stride=2, padding=1, groups=8
    )
    assert torch.equal(y, expected.to(dtype))
    y.float().square().sum().backward()
    assert x.grad.dtype == dtype
    assert conv.weight.grad.dtype == torch.float32


def test_strided_depthwise_convolution_accepts_half_precision_weights_under_autocast():
    conv = Conv(8, 8, 3, stride=2, groups=8).to(torch.bfloat16)
    x = torch.randn(2, 8, 12, 12)
    expected = conv.float()(x.bfloat16().float()).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        y = conv.to(torch.bfloat16)(x.bfloat16())
    torch.testing.assert_close(y, expected)


def test_other_convolutions_follow_autocast():
    x = torch.randn(2, 8, 12, 12)
    weights = Conv(8, 8, 3, groups=8), Conv(8, 8, 3, stride=2)
    with torch.autocast("cpu", torch.bfloat16):
        assert [conv(x).dtype for conv in weights] == [torch.bfloat16] * 2
    assert Conv(8, 8, 3, stride=2, groups=8)(x).dtype == torch.float32
