"""Gray and multi-channel images: decoding, transforms, and whole runs of the three tasks."""

import io
import json
from random import Random

import cv2
import numpy as np
import onnxruntime
import PIL.ImageOps
import pytest
import tifffile
import torch
from PIL import Image

from class_folders import make_data
from coco_files import TRAIN as BOXED
from coco_files import write_coco
from faults import is_like
from parcnet_train import load
from parcnet_train.data import channels as module
from parcnet_train.data.channels import to_gray, to_rgb, upright
from parcnet_train.data.decoding import decode, decode_whole
from parcnet_train.data.photometric import PhotometricDistortion
from parcnet_train.data.resizing import border
from parcnet_train.doctor.examine import Order, examine
from parcnet_train.errors import DataError, UnreadableError
from running import TINY, WHOLE_PAGE, faults_of, page_parts, run
from voc_files import image_path, write_voc


def noise(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype)


def encoded(image, kind="PNG", **settings):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **settings)
    return stream.getvalue()


def tiff(image, **settings):
    stream = io.BytesIO()
    tifffile.imwrite(stream, image, photometric="minisblack", **settings)
    return stream.getvalue()


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(("kind", "suffix"), [("JPEG", "L"), ("JPEG", "RGB"), ("PNG", "L")])
def test_gray_images_are_what_opencv_reads(kind, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = noise(20, 30) if suffix == "L" else noise(20, 30, 3)
    content = encoded(image, kind, exif=exif)
    expected = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
    for found in (decode(content, channels=1), decode_whole(content, channels=1)):
        assert found.shape == (*expected.shape, 1)
        assert np.array_equal(found[..., 0], expected)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (encoded(noise(9, 7, 4)), noise(9, 7, 4)),
        (encoded(noise(9, 7, 4), "TIFF"), noise(9, 7, 4)),
        (encoded(noise(9, 7, 2)), noise(9, 7, 2)),
        (tiff(noise(9, 7, 6), planarconfig="contig"), noise(9, 7, 6)),
        (tiff(np.moveaxis(noise(9, 7, 6), 2, 0), planarconfig="separate"), noise(9, 7, 6)),
        (tiff(np.moveaxis(noise(9, 7, 6), 2, 0)), noise(9, 7, 6)),  # six pages
        (tiff(noise(9, 7, 5), planarconfig="contig", compression="zlib"), noise(9, 7, 5)),
        (
            tiff(noise(9, 7, 5, dtype=np.uint16), planarconfig="contig"),
            noise(9, 7, 5, dtype=np.uint16) // 256,
        ),
    ],
    ids=["rgba", "rgba-tiff", "gray-alpha", "pixels", "planes", "pages", "compressed", "16-bits"],
)
def test_channels_are_those_of_the_file(content, expected):
    for found in (decode, decode_whole):
        image = found(content, channels=expected.shape[2])
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous
        assert np.array_equal(image, expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("layout", ["contig", "separate", None], ids=["pixels", "planes", "pages"])
def test_channels_of_a_tiff_are_turned_upright(layout, orientation):
    image = noise(9, 7, 6)
    stored = image if layout == "contig" else np.moveaxis(image, 2, 0)
    tag = (274, "H", 1, orientation, True)
    found = decode(tiff(stored, planarconfig=layout, extratags=[tag]), channels=6)
    for channel in range(6):
        single = Image.fromarray(image[..., channel])
        single.getexif()[0x0112] = orientation
        assert np.array_equal(found[..., channel], PIL.ImageOps.exif_transpose(single))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_gray_pixels_turn_as_pillow_turns_them(orientation):
    image = Image.fromarray(noise(9, 7))
    image.getexif()[0x0112] = orientation
    found = upright(np.asarray(image), orientation)
    assert np.array_equal(found, PIL.ImageOps.exif_transpose(image))
    assert found.flags.c_contiguous


@pytest.mark.parametrize("tag", [(274, "H", 1, 9), (274, "H", 2, (6, 6))])
def test_a_tiff_of_unknown_orientation_is_read_as_stored(tag):
    image = noise(9, 7, 6)
    content = tiff(image, planarconfig="contig", extratags=[(*tag, True)])
    assert np.array_equal(decode(content, channels=6), image)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (encoded(noise(9, 7, 3)), "the number of its channels is 3; expected data.channels=4"),
        (
            tiff(noise(9, 7, 6), planarconfig="contig"),
            "the number of its channels is 6; expected data.channels=4",
        ),
        (
            tiff(noise(9, 7, 4).astype(np.float32), planarconfig="contig"),
            "its values are of type float32; expected 8 or 16 bits without sign",
        ),
        (encoded(noise(90, 70, 4))[:2000], "…"),
        (tiff(noise(90, 70, 4), planarconfig="contig")[:2000], "…"),
    ],
    ids=["png", "tiff", "float", "truncated-png", "truncated-tiff"],
)
def test_other_channels_are_refused(content, message):
    for found in (decode, decode_whole):
        with pytest.raises(UnreadableError) as raised:
            found(content, channels=4)
        assert is_like(str(raised.value), message)
        assert "\n" not in str(raised.value)


def test_missing_tifffile_is_named(monkeypatch):
    monkeypatch.setitem(module.__dict__["__builtins__"], "__import__", refuse_tifffile)
    with pytest.raises(UnreadableError, match=r"need the package tifffile\. Fix: pip install"):
        decode(tiff(noise(6, 9, 7)), channels=6)


def refuse_tifffile(name, *arguments, real=__import__):
    if name == "tifffile":
        raise ImportError(name)
    return real(name, *arguments)


def test_images_for_people():
    image = noise(5, 4, 6)
    assert np.array_equal(to_rgb(image), image[..., :3])
    assert np.array_equal(to_rgb(image[..., :1]), np.repeat(image[..., :1], 3, axis=2))
    assert np.array_equal(to_gray(image[..., :1]), image[..., 0])
    assert np.array_equal(to_gray(image), image.sum(axis=2) // 6)


def test_border_equals_opencv():
    image = noise(5, 4, 3)
    expected = cv2.copyMakeBorder(image, 1, 2, 3, 4, cv2.BORDER_CONSTANT, value=(9, 8, 7))
    assert np.array_equal(border(image, 1, 2, 3, 4, (9, 8, 7)), expected)


@pytest.mark.parametrize("channels", [1, 6])
def test_photometric_distortion_changes_only_tones(channels):
    distort = PhotometricDistortion()
    image = noise(8, 8, channels)
    for seed in range(20):
        found = distort(image, Random(seed))
        assert (found.shape, found.dtype) == (image.shape, image.dtype)
        # Contrast and brightness are monotonic and the same for all pixels and channels.
        order = np.argsort(image, axis=None, kind="stable")
        assert (np.diff(found.reshape(-1)[order].astype(int)) >= 0).all()


def rewrite(path, channels):
    """Replace an image by one of other channels; returns its new name."""
    height, width = cv2.imread(str(path)).shape[:2]
    path.unlink()
    if channels == 1:
        path = path.with_suffix(".png")
        cv2.imwrite(str(path), noise(height, width))
    else:
        path = path.with_suffix(".tif")
        path.write_bytes(tiff(noise(height, width, channels), planarconfig="contig"))
    return path.name


def classes(root, channels):
    for split, count in (("train", 4), ("val", 2)):
        for name in ("a", "b"):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                file = folder / f"{number}.png"
                cv2.imwrite(str(file), np.zeros((40, 48, 3), np.uint8))
                rewrite(file, channels)
    return [f"data.root={root}", "data=imagefolder"]


def boxes(root, channels):
    write_coco(root)
    for file in (root / "annotations").glob("*.json"):
        document = json.loads(file.read_text())
        folder = root / file.stem.removeprefix("instances_")
        for image in document["images"]:
            image["file_name"] = rewrite(folder / image["file_name"], channels)
        file.write_text(json.dumps(document))
    assert BOXED["images"][0]["file_name"] == "a.png"  # the shared document did not change
    return [f"data.root={root}", "data=coco_format", "task=detection"]


def masks(root, channels):
    write_voc(root)
    for name in "abcdefg":
        rewrite(image_path(root, name), channels)
    return [f"data.root={root}", "data=voc_format", "task=segmentation"]


SETS = {"classification": classes, "detection": boxes, "segmentation": masks}


@pytest.mark.parametrize(
    ("task", "channels"),
    [
        pytest.param("classification", 6, marks=pytest.mark.slow),
        pytest.param("detection", 1, marks=pytest.mark.slow),
        ("segmentation", 6),
    ],
)
def test_a_training_reads_evaluates_and_predicts(task, channels, tmp_path, caplog):
    root = tmp_path / "set"
    chosen = SETS[task](root, channels)
    output = tmp_path / "run"
    few = ["task.pictures=1", f"data.channels={channels}"]
    results = run([*chosen, *TINY, *few], output, draws=True)
    assert page_parts(output) >= WHOLE_PAGE
    assert "report.html" not in caplog.text
    model = load(output)
    first = next(each for each in model.backbone.modules() if isinstance(each, torch.nn.Conv2d))
    assert first.weight.shape[1] == channels
    again = run(["action=test", f"ckpt={output}"], tmp_path / "test")
    assert again["val/loss"] == pytest.approx(results["val/loss"], rel=1e-4)
    one = next(root.rglob("*.png" if channels == 1 else "*.tif"))
    model.predict(one)
    with pytest.raises(DataError, match=rf"shape \(height, width, {channels}\)"):
        model.predict(noise(20, 20, 3))
    model.predict(noise(20, 20, channels))
    found = run(["action=predict", f"ckpt={output}", f"input={one.parent}"], tmp_path / "predict")
    assert (found["failed"], found["predicted"] > 0) == (0, True)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 6])
def test_an_exported_file_reads_the_same_channels(channels, tmp_path):
    chosen = classes(tmp_path / "set", channels)
    output = tmp_path / "run"
    run([*chosen, *TINY, f"data.channels={channels}"], output)
    found = run(["action=export", f"ckpt={output}", "export.verify=metric"], tmp_path / "export")
    assert found["export/max_difference/logits"] < 1e-4 * found["export/spread/logits"]
    session = onnxruntime.InferenceSession(found["export/file"])
    assert session.get_inputs()[0].shape[1] == channels
    words = session.get_modelmeta().custom_metadata_map["input"]
    assert words.startswith("gray" if channels == 1 else "6 channels")


@pytest.mark.parametrize("channels", [1, 6])
def test_the_doctor_reads_the_same_channels(channels, tmp_path):
    classes(tmp_path / "set", channels)
    for file in (tmp_path / "set" / "val" / "a").iterdir():
        file.write_bytes(encoded(noise(40, 48, 3)))
    data = make_data(str(tmp_path / "set"), channels=channels)
    found = {each.kind: each.count for each in examine(data, Order()).findings}
    if channels == 1:
        assert found["mode"] == 2  # a training converts them
        assert "unreadable" not in found
    else:
        assert found["unreadable"] == 2
        assert "mode" not in found


@pytest.mark.parametrize("key", ["randaugment", "color_jitter"])
def test_augmentation_of_colors_is_refused(key):
    value = {
        "randaugment": "{operations: 2, magnitude: 9}",
        "color_jitter": "{brightness: 0.1, contrast: 0.1, saturation: 0.1, hue: 0.1}",
    }[key]
    (fault,) = faults_of(*TINY, "data.channels=1", f"recipe.augmentation.{key}={value}")
    assert fault == (
        f"recipe.augmentation.{key}: it changes colors, but data.channels=1. "
        f"Fix: recipe.augmentation.{key}=null"
    )


def test_benchmarks_of_random_images_are_refused():
    (fault,) = faults_of("action=benchmark", "benchmark.target=train_step", "data.channels=4")
    assert is_like(fault, "benchmark.target=train_step: its images are RGB, but data.channels=4…")
