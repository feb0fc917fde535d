"""Outputs of converted weights, compared with those of the published networks."""

import zlib

import pytest
import timm
import torch
from torchvision import models

import golden
import parcnet_train
from authors_networks import ParCConvNeXt, parc_mobilenetv2
from parcnet_train.conversion.convert import convert

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)  # ImageNet


STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def converted(state, folder, publisher, backbone, *overrides, task="classification"):
    """Convert a published state dict by way of files, and load the model."""
    torch.save(state, folder / "published.pt")
    source, target = folder / "published.pt", folder / "converted.ckpt"
    convert(source, target, publisher, backbone, task, overrides)
    return parcnet_train.load(target)


def golden_outputs(model, backbone, shape):
    """Run a network on a golden file's image in float64, which is the same on every processor."""
    with torch.inference_mode():
        return model.double()(images_of(backbone, shape).double())


def images_of(backbone, shape):
    """Return the images of a golden file as our networks take them: RGB in [0, 1]."""
    images = golden.image(shape)
    # Some networks take normalized RGB; the others take BGR.
    normalized = backbone in ("parc_resnet50", "pvt_tiny", "t2t_vit_7")
    return images * STD + MEAN if normalized else images.flip(1)


# Outputs of transformers 5.23.0 and (PVT) 5.24.0, for weights from the same formula.
@pytest.mark.parametrize(
    ("stored", "publisher", "backbone"),
    [
        ("parcnet_s_classification", "parcnet-official", "parcnet_s"),
        ("mobilevit_s_classification", "parcnet-official", "mobilevit_s"),
        ("mobilevit_s_classification", "cvnets", "mobilevit_s"),
        pytest.param(
            "parc_resnet50_classification",
            "parcnet-official",
            "parc_resnet50",
            marks=pytest.mark.slow,
        ),
        ("mobilevit_xxs_huggingface", "huggingface", "mobilevit_xxs"),
        ("pvt_tiny_huggingface", "huggingface", "pvt_tiny"),
        ("t2t_vit_7_classification", "t2t-vit-official", "t2t_vit_7"),
    ],
)
def test_converted_classifiers_match_golden_outputs(stored, publisher, backbone, tmp_path):
    stored = golden.read(stored)
    model = converted(golden.state_dict(stored), tmp_path, publisher, backbone)
    assert sum(p.numel() for p in model.parameters()) == stored["params"]
    for case in stored["cases"]:
        logits = golden_outputs(model, backbone, case["image"]).flatten()
        want = case["outputs"]["logits"]
        # Far below the promised 1e-4: the formula's weights make activations fade, so that even
        # swapped channels would change these logits by no more than 1e-5 of their spread.
        tolerance = 2e-6 * want["std"]
        got = logits[want["index"]]
        assert torch.allclose(got, torch.tensor(want["value"]).double(), rtol=0, atol=tolerance)
        assert logits.mean().item() == pytest.approx(want["mean"], abs=tolerance)
        assert logits.std().item() == pytest.approx(want["std"], abs=tolerance)


@pytest.mark.parametrize("size", ["mobilevit_xxs", "mobilevit_xs", "mobilevit_s"])
def test_converted_mobilevit_matches_timm(size, tmp_path):
    reference = timm.create_model(size).eval()
    reference.load_state_dict(golden.weights_of(reference))
    model = converted(reference.state_dict(), tmp_path, "timm", size)
    assert model.predictor.key.size == reference.pretrained_cfg["input_size"][1:]
    images = torch.rand(1, 3, 192, 320, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        got, expected = model(images), reference(images)
        turned = model(images.flip(1))
    assert (got - expected).abs().max() < 1e-4 * expected.std()
    assert (turned - expected).abs().max() > 0.1 * expected.std()  # the image matters


@pytest.mark.parametrize(
    ("backbone", "make", "overrides"),
    [
        pytest.param("resnet50", models.resnet50, [], marks=pytest.mark.slow),
        ("mobilenetv2", models.mobilenet_v2, []),
        pytest.param(
            "convnext_xt",
            models.convnext_tiny,
            ["backbone.channels=[96,192,384,768]", "backbone.depths=[3,3,9,3]"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_converted_networks_match_torchvision(backbone, make, overrides, tmp_path):
    torch.manual_seed(0)
    reference = make().eval()
    state = golden.weights_of(reference)
    if backbone == "convnext_xt":  # the formula would make its small layer scale far too large
        state = reference.state_dict()
        for value in state.values():
            value.mul_(10 if value.dim() == 3 else 1)
    reference.load_state_dict(state)
    model = converted(state, tmp_path, "torchvision", backbone, *overrides)
    (crop,) = models.get_model_weights(make).DEFAULT.transforms().crop_size
    assert model.predictor.key.size == (crop, crop)
    images = torch.rand(1, 3, 96, 160)
    with torch.inference_mode():
        got, expected = model(images), reference((images - MEAN) / STD)
        turned = model(images.flip(1))
    assert (got - expected).abs().max() < 1e-4 * expected.std()
    assert (turned - expected).abs().max() > 0.01 * expected.std()  # the image matters


def listing(state):
    """Return the checksum of the names, shapes and dtypes of a state dict, in any order."""
    lines = (
        f"{name} {'x'.join(map(str, value.shape)) or 'scalar'} "
        f"{str(value.dtype).removeprefix('torch.')}"
        for name, value in state.items()
    )
    return zlib.crc32("\n".join(sorted(lines)).encode())


# The checksums are those of listings of the authors' state dicts. Their code is not at hand: the
# reference computes what the paper says, under their names.
@pytest.mark.parametrize(
    ("backbone", "make", "checksum"),
    [
        pytest.param("parc_mobilenetv2", parc_mobilenetv2, 3635253116, marks=pytest.mark.slow),
        ("parc_convnext_xt", ParCConvNeXt, 460364224),
    ],
)
def test_converted_parc_convnets_match_a_reference_with_the_authors_names(
    backbone, make, checksum, tmp_path
):
    reference = make().eval()
    state = golden.weights_of(reference)
    assert listing(state) == checksum
    reference.load_state_dict(state)
    model = converted(state, tmp_path, "parcnet-official", backbone)
    assert len(model.state_dict()) == len(state)
    assert model.predictor.key.size == (224, 224)
    images = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        got, expected = model(images), reference((images - MEAN) / STD)
        changes = [model(images.flip(axis)) for axis in (1, 2, 3)]
    assert (got - expected).abs().max() < 1e-4 * expected.std()
    for changed in changes:  # the image matters
        assert (changed - expected).abs().max() > 0.1 * expected.std()


def check_outputs(found, wanted, tolerance):
    """Compare a network's outputs by name with golden ones, within a share of their spread."""
    for name, want in wanted.items():
        assert list(found[name].shape) == want["shape"]
        within = tolerance * want["std"]
        values = found[name].double().flatten()
        expected = torch.tensor(want["value"]).double()
        assert torch.allclose(values[want["index"]], expected, rtol=0, atol=within)
        assert values.mean().item() == pytest.approx(want["mean"], abs=within)
        assert values.std().item() == pytest.approx(want["std"], abs=within)
        assert values.abs().max().item() == pytest.approx(want["abs_max"], abs=within)


def test_converted_detector_matches_golden_outputs(tmp_path):
    stored = golden.read("parcnet_s_detection")
    state = golden.state_dict(stored)
    model = converted(state, tmp_path, "parcnet-official", "parcnet_s", task="detection")
    assert sum(p.numel() for p in model.parameters()) == stored["params"]
    (case,) = stored["cases"]
    outputs = golden_outputs(model, "parcnet_s", case["image"])
    # Below the promised 1e-4; swapped channels would change these outputs by 4e-4.
    check_outputs(outputs._asdict(), case["outputs"], tolerance=1e-5)


def test_converted_segmentation_network_matches_golden_outputs(tmp_path):
    stored = golden.read("parcnet_s_segmentation")
    state = golden.state_dict(stored)
    model = converted(state, tmp_path, "parcnet-official", "parcnet_s", task="segmentation")
    assert sum(p.numel() for p in model.parameters()) == stored["params"]
    (case,) = stored["cases"]
    logits = golden_outputs(model, "parcnet_s", case["image"])
    # Below the promised 1e-4; swapped channels would change these outputs by 4e-5.
    check_outputs({"logits": logits}, case["outputs"], tolerance=2e-6)


def test_parcnet_s_with_addition_can_be_converted(tmp_path):
    stored = golden.read("parcnet_s_classification")
    for entry in stored["state_dict"]:
        if entry[0].endswith("local_global_fusion.block.conv.weight"):
            entry[1][1] //= 2  # addition has half of concatenation's channels
    state = golden.state_dict(stored)
    model = converted(state, tmp_path, "parcnet-official", "parcnet_s", "backbone.fusion=add")
    assert sum(p.numel() for p in model.parameters()) == 4_576_288  # authors' implementation
    fuse = model.backbone.stages[4][1].fuse.conv.weight
    assert torch.equal(fuse, state["layer_5.1.local_global_fusion.block.conv.weight"])
    stem = model.backbone.stages[0][0].conv.weight
    assert torch.equal(stem.flip(1), state["conv_1.block.conv.weight"])
    kernel = model.backbone.stages[3][1].blocks[1].mixer.width_first.second.weight
    assert torch.equal(kernel, state["layer_4.1.spatial_global_rep.1.meta_kernel_2_H"])
