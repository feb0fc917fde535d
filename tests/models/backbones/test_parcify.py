"""parcify: replaced layers match the definition, all others are unchanged; errors."""

import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn

import parcnet_train
from parcnet_train.errors import ConfigError, UserError
from parcnet_train.models.backbones.parcify import Report, parcify
from parcnet_train.models.layers.parc import ParallelParC

SHUFFLENET = "shufflenet_v2_x0_5"  # torchvision, 1.4 M parameters


class Small(nn.Module):
    """A network with one convolution of every kind."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.dense = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.depthwise = nn.Conv2d(8, 8, 5, padding=2, groups=8)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.pointwise = nn.Conv2d(8, 8, 1)
        self.valid = nn.Conv2d(8, 8, 3)
        self.wide = nn.Conv2d(8, 9, 3, padding=1)
        self.odd = nn.Conv2d(9, 9, 3, padding=1)
        self.thirds = nn.Conv2d(9, 12, 1)
        self.triple = nn.Conv2d(12, 12, 3, padding=1, groups=3)
        self.spare = nn.Conv2d(8, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(12)

    def forward(self, x):
        x = self.depthwise(self.dense(self.stem(x)))
        x = self.wide(self.valid(self.pointwise(self.grouped(x))))
        return self.norm(self.triple(self.thirds(self.odd(x))))


def linear_resize(values, axis, length):
    """Interpolate linearly with aligned corners, along one axis of an array."""
    places = np.linspace(0, values.shape[axis] - 1, length)
    return np.apply_along_axis(
        lambda row: np.interp(places, np.arange(len(row)), row), axis, values
    )


def definition(parc, x, groups):
    """Compute ParC in loops over channels: a sum of circular correlations of input channels."""
    y = np.zeros_like(x)
    half = x.shape[1] // 2
    for first, axis, branch in ((0, 2, parc.height), (half, 3, parc.width)):
        embedding, conv = branch
        length = x.shape[axis]
        part = x[:, first : first + half]
        if not isinstance(embedding, nn.Identity):
            part = part + linear_resize(embedding.weight.detach().numpy(), axis, length)
        kernel = linear_resize(conv.weight.detach().numpy(), axis, length)
        spectrum = np.fft.fft(part, axis=axis)
        response = np.conj(np.fft.fft(kernel, axis=axis))  # cross-correlation theorem
        per_group = half // groups
        for out in range(half):
            start = out // per_group * per_group
            total = sum(spectrum[:, start + i] * response[out, i][None] for i in range(per_group))
            y[:, first + out] = np.fft.ifft(total, axis=axis - 1).real + conv.bias[out].item()
    return y


@pytest.mark.parametrize(
    ("layer", "groups_of_a_half"), [("dense", 1), ("grouped", 2), ("depthwise", 4)]
)
@pytest.mark.parametrize("embeds", [True, False])
@pytest.mark.parametrize("size", [(6, 10), (6, 6), (9, 7)])
def test_replaced_layers_match_the_definition_of_parc(layer, groups_of_a_half, embeds, size):
    torch.manual_seed(0)
    model = Small().double()
    parcify(model, [layer], image_size=(12, 20), position_embeddings=embeds)
    parc = model.get_submodule(layer)
    assert isinstance(parc, ParallelParC)
    # After the stem, there is half of the pixels of the image along either axis.
    assert parc.height[1].weight.shape == (4, 4 // groups_of_a_half, 6, 1)
    assert parc.width[1].weight.shape == (4, 4 // groups_of_a_half, 1, 10)
    x = torch.randn(2, 8, *size, dtype=torch.float64)
    expected = definition(parc, x.numpy(), groups_of_a_half)
    np.testing.assert_allclose(parc(x).detach().numpy(), expected, atol=1e-12)


MODELS = {
    "torchvision": (
        lambda: torchvision.models.get_model(SHUFFLENET),
        ["stage4.[123].branch2.3"],
        {f"stage4.{block}.branch2.3": (3, 5) for block in (1, 2, 3)},
    ),
    "timm": (
        lambda: timm.create_model("regnetx_002"),
        ["s4.b[2-7].conv2.conv"],
        {f"s4.b{block}.conv2.conv": (3, 5) for block in range(2, 8)},
    ),
}


@pytest.mark.parametrize("library", MODELS)
def test_any_model_keeps_all_other_weights(library):
    make, layers, expected = MODELS[library]
    torch.manual_seed(0)
    model = make()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    kinds = {name: type(module) for name, module in model.named_modules()}
    report = parcify(model, layers, image_size=(96, 160))
    assert {layer.name: layer.size for layer in report.layers} == expected
    after = model.state_dict()
    inside = tuple(f"{name}." for name in expected)
    assert {key for key in before if not key.startswith(inside)} == {
        key for key in after if not key.startswith(inside)
    }
    for key, value in before.items():
        if not key.startswith(inside):
            assert torch.equal(after[key], value), key
    for name, module in model.named_modules():
        if name in expected:
            assert isinstance(module, ParallelParC)
        elif not name.startswith(inside):
            assert type(module) is kinds[name]


@pytest.mark.parametrize("library", MODELS)
def test_gradients_reach_all_of_parc_at_another_size(library):
    make, layers, expected = MODELS[library]
    torch.manual_seed(0)
    model = make()
    for name, parameter in model.named_parameters():
        if name.endswith("weight") and parameter.ndim == 1:
            nn.init.ones_(parameter)  # timm starts the last norm of a branch at 0
    parcify(model, layers, image_size=(96, 160))
    model(torch.rand(2, 3, 192, 224)).square().mean().backward()
    for name in expected:
        for key, parameter in model.get_submodule(name).named_parameters():
            assert parameter.grad.abs().max() > 0, f"{name}.{key}"


def test_state_dict_can_be_saved_and_loaded():
    make, layers, _ = MODELS["torchvision"]
    first, second = make().eval(), make().eval()
    for model in (first, second):
        parcify(model, layers, image_size=64)
    second.load_state_dict(first.state_dict())
    images = torch.rand(2, 3, 96, 64)
    assert torch.equal(first(images), second(images))


def test_report_matches_formulas():
    model = Small()
    report = parcify(model, ["dense", "depthwise"], (12, 20), position_embeddings=["dep*"])
    assert isinstance(report, Report)
    pixels = 6 * 10
    # Of 8 channels, half have kernels of 6, half kernels of 10; each has a bias.
    dense = 4 * 4 * (6 + 10)
    depthwise = 4 * (6 + 10)
    parameters = dense + 8 + depthwise + 8 + depthwise  # the last one is the embedding
    assert report.after.parameters - report.before.parameters == parameters - 8 * 8 * 9 - 8 * 26
    multiply_adds = report.after.multiply_adds - report.before.multiply_adds
    assert multiply_adds == pixels * (dense + depthwise - 8 * 8 * 9 - 8 * 25)
    assert report.after.parameters == sum(p.numel() for p in model.parameters())
    assert str(report).splitlines() == [
        "ParC in 2 layers, for images of 12x20 pixels",
        "  dense: 8 channels, dense, meta size 6x10, no position embedding",
        "  depthwise: 8 channels, depthwise, meta size 6x10, position embedding",
        f"parameters     {report.before.parameters:,} -> {report.after.parameters:,}",
        f"multiply-adds  {report.before.multiply_adds:,} -> {report.after.multiply_adds:,}",
    ]


@pytest.mark.parametrize("name", ["first", "again", "[af]*"])
def test_a_shared_layer_is_replaced_under_all_its_names(name):
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 1)
            self.first = nn.Conv2d(4, 4, 3, padding=1)
            self.again = self.first

        def forward(self, x):
            return self.again(self.first(self.stem(x)))

    model = Recurrent()
    report = parcify(model, name, 12)
    assert [layer.name for layer in report.layers] == ["first"]
    assert isinstance(model.first, ParallelParC)
    assert model.again is model.first
    assert report.after.parameters == sum(p.numel() for p in model.parameters())


def test_a_model_with_several_inputs_is_an_error():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)
            self.mix = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, images, masks):
            return self.mix(self.conv(images)) * masks

    message = "^ParC: Pair does not run on images of 12x12: .* missing 1 required positional .*"
    with pytest.raises(ConfigError, match=message):
        parcify(Pair(), "mix", 12)


def test_a_single_name_and_a_single_size_are_accepted():
    model = Small()
    report = parcify(model, "grouped", 12, position_embeddings="grouped")
    assert [str(layer) for layer in report.layers] == [
        "grouped: 8 channels, 4 groups, meta size 6x6, position embedding"
    ]


def test_parc_keeps_device_dtype_and_mode_of_the_convolution():
    model = Small().to(torch.bfloat16)
    model.dense.eval()
    parcify(model, ["dense", "depthwise"], 12)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert not model.dense.training
    assert not model.dense.height[1].training
    assert model.depthwise.training
    with torch.device("meta"):
        model = Small()
    parcify(model, ["dense"], 12)
    assert {p.device.type for p in model.parameters()} == {"meta"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["depthwize"],), "ParC layer depthwize: Small has no such convol.*; nearest: depthw"),
        ((["layer*"],), r"ParC layer layer\*: Small has no such convolution"),
        (([],), "ParC layers: .*empty; expected names of convolutions"),
        ((["norm"],), "ParC layer norm: .*BatchNorm2d; expected a Conv2d"),
        ((["stem"],), "ParC layer stem: .*stride 2; expected 1"),
        ((["wide"],), "ParC layer wide: .*8 channels to 9; expected equal numbers"),
        ((["odd"],), "ParC layer odd: .*9 channels; expected an even number"),
        ((["pointwise"],), "ParC layer pointwise: .*1x1 kernels; expected larger ones"),
        ((["triple"],), "ParC layer triple: .*3 groups; expected 1 or an even number"),
        ((["valid"],), "ParC layer valid: .*2 sizes.*; expected a single size"),
        ((["spare"],), "ParC layer spare: .*0 sizes.*; expected a single size"),
        ((["dense"], 12, ["depth*"]), r"position embedding of depth\*: .*; expected one of dense"),
        ((["dense"], 2), "ParC: Small does not run on images of 2x2: Calculated padded input"),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, tuple) else "",
)
def test_invalid_arguments_give_one_line_and_change_nothing(arguments, message):
    model = Small()
    kinds = [type(module) for module in model.modules()]
    with pytest.raises(ConfigError, match=f"^{message}") as caught:
        parcify(model, *arguments)
    assert isinstance(caught.value, UserError)
    assert len(str(caught.value).splitlines()) == 1
    assert [type(module) for module in model.modules()] == kinds


def test_parcify_is_public_and_imported_lazily():
    assert parcnet_train.parcify is parcify
    code = (
        "import sys, parcnet_train; assert 'torch' not in sys.modules;"
        "import parcnet_train.models.backbones.parcify; assert callable(parcnet_train.parcify)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
