"""Sections of a configuration that belong to one action.

`config/sections.py` has the sections that every action may read, and puts all of them together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Gt, Lt, MinLen

from parcnet_train.bounds import (
    BatchSize,
    Count,
    Each,
    Opset,
    Percentile,
    Pixels,
    Port,
    Positive,
    Share,
    Text,
    Words,
)


@dataclass(frozen=True)
class Check:
    """Settings of `action=check`.

    Attributes:
        data: Files to read: some of them (sample), the headers of all images (headers), or every
            file as a whole (full). The last two write a report.
        predictions: Run directory or checkpoint whose network searches for label errors; null: no
            search.
    """

    data: Literal["sample", "headers", "full"]
    predictions: Text | None


@dataclass(frozen=True)
class Predict:
    """Settings of `action=predict`.

    Attributes:
        top: Number of most probable classes to list for each image (classification).
        score_threshold: Probability that an object has to exceed (detection).
        batch_size: Images per batch.
    """

    top: Count
    score_threshold: Share
    batch_size: Count


@dataclass(frozen=True)
class Profile:
    """Settings of `action=profile`.

    Attributes:
        compare: Table or figure of the paper whose rows are profiled, or today for later networks;
            null: the composed network.
        image_size: Image size in pixels: one number, or height and width.
        batch_size: Images per batch.
        num_classes: Number of classes of the head.
    """

    compare: Literal["table1", "table2", "table3", "figure5", "figure6", "figure7", "today"] | None
    image_size: Pixels
    batch_size: Count
    num_classes: Count


@dataclass(frozen=True)
class Benchmark:
    """Settings of `action=benchmark`.

    Attributes:
        target: Part to time.
        repeats: Number of rounds, each of which runs every variant once.
        batch_size: Images per batch (train_step, detection, distillation).
        images: Number of made-up images (evaluation).
        detections: Number of detections in each of them (evaluation).
        image_size: Image size in pixels; null: 256, or the size of the checkpoint's training.
        keep_memory: Whether freed memory is reused on CPUs, as in training.
        backbones: Backbones to time (latency); null: those of Table 3, or the checkpoint's own.
        protocol: Rules of the latency: those of the paper's Table 3, or of MLPerf Mobile's single
            stream, which needs a trained network.
        runtimes: Runtimes to time (latency).
        forms: Forms of the networks to time (latency).
        threads: Threads of one inference, each pinned to a core (latency).
        iterations: Number of inferences of each network (latency by the paper's protocol).
        compile: Whether train_step is also timed under torch.compile.
        teacher: Backbone of the teacher (distillation).
        bandwidth: Gigabytes per second that a device sends and receives, for the time with several
            devices (plan).
    """

    target: Literal[
        "operator",
        "train_step",
        "loader",
        "overhead",
        "detection",
        "evaluation",
        "distillation",
        "latency",
        "plan",
    ]
    repeats: Count
    batch_size: BatchSize
    images: Count
    detections: Count
    image_size: Pixels | None
    keep_memory: bool
    backbones: Annotated[Words, MinLen(1), Each] | None
    protocol: Literal["paper", "mlperf_mobile"]
    runtimes: Annotated[
        list[Literal["pytorch", "onnxruntime", "openvino", "mnn", "ncnn", "litert", "executorch"]],
        MinLen(1),
        Each,
    ]
    forms: Annotated[list[Literal["baked", "plain", "int8"]], MinLen(1), Each]
    threads: Count
    iterations: Count
    compile: bool
    teacher: Text
    bandwidth: Positive


@dataclass(frozen=True)
class Report:
    """Settings of `action=report`, `action=compare` and `action=watch`.

    Attributes:
        runs: Folder of runs, or a list of folders.
        baseline: Ablation, backbone, experiment or recipe of the runs that those outside Table 2
            are compared with.
    """

    runs: Text | Annotated[list[Text], MinLen(1)]
    baseline: Text | None


@dataclass(frozen=True)
class Watch:
    """Settings of `action=watch`.

    Attributes:
        web: Whether a page in the browser shows the runs, instead of a table in the terminal.
        port: Port of the page at 127.0.0.1; 0: any free port.
    """

    web: bool
    port: Port


@dataclass(frozen=True)
class Export:
    """Settings of `action=export`.

    Attributes:
        format: Format of the file.
        size: Image size in pixels; null: the size of the training.
        dynamic_batch: Whether the file accepts any number of images.
        opset: Version of ONNX's operators; also of mnn and openvino, which are converted from it.
        preprocess: Whether the file takes uint8 images, (B, H, W, C) from 0 to 255.
        precision: Precision of weights and activations; float16 of mnn, openvino, ncnn and
            litert: of the weights only.
        calibration: Folder of images on which the ranges of int8 are measured; null: the training
            set.
        calibration_images: Number of images on which the ranges of int8 are measured.
        percentile: Share of an activation's values, in percent, that its range covers (int8; onnx
            and openvino); null: all of them.
        symmetric: Whether the zero point of every activation is 0 (int8; onnx and openvino).
        float_layers: Names or patterns of layers that stay in float32 (int8, onnx).
        sensitivity: Whether the effect of each layer on the outputs is measured (int8, onnx).
        verify: Verification against PyTorch; null: metric for int8 and float16 files with logits,
            else outputs; on generated images if the data are missing.
        decode: Whether the file returns objects instead of logits and offsets (detection).
        argmax: Whether the file returns the class of every pixel instead of logits (segmentation).
    """

    format: Literal[
        "onnx", "mnn", "openvino", "ncnn", "litert", "executorch", "torch_export", "coreml"
    ]
    size: Pixels | None
    dynamic_batch: bool
    opset: Opset
    preprocess: bool
    precision: Literal["float32", "float16", "int8"]
    calibration: Text | None
    calibration_images: Count
    percentile: Percentile | None
    symmetric: bool
    float_layers: Words
    sensitivity: bool
    verify: Literal["outputs", "metric", "none"] | None
    decode: bool
    argmax: bool


@dataclass(frozen=True)
class Release:
    """Settings of `action=release`.

    Attributes:
        license: License of the weights, as the Hugging Face hub names it (`apache-2.0`), or another
            name; null: the model card has none.
        results: Run directory of an evaluation of the same file, whose metrics are published; null:
            the metrics of the checkpoint's own run, if it is in a run directory.
    """

    license: Text | None
    results: Text | None


SOURCES = Literal[
    "imagenet",
    "voc",
    "coco",
    "voc_xml",
    "yolo",
    "labelme",
    "coco_export",
    "label_studio",
    "csv",
    "color_masks",
    "split",
]


@dataclass(frozen=True)
class Columns:
    """Columns of a table of images (`prepare.source=csv`).

    Attributes:
        image: Column of the file names; null: found by its name.
        label: Column of the classes; null: found by its name, or one column of 0 and 1 per class.
        split: Column of the sets; null: found by its name, if there is one.
    """

    image: Text | None
    label: Text | None
    split: Text | None


@dataclass(frozen=True)
class SplitOptions:
    """Assignment of images to training, validation and test set, drawn by `seed`.

    Attributes:
        keep: Whether the source's own sets are kept; the rest is assigned only where it has none.
        val: Share of the images for validation.
        test: Share of the images for the test.
        group_by: Regular expression, whose match in an image's path names the group of images
            that stay together; null: no groups.
        near_duplicates: Whether images that look the same stay together.
    """

    keep: bool
    val: Annotated[float, Gt(0), Lt(1)]
    test: Share
    group_by: Text | None
    near_duplicates: bool


@dataclass(frozen=True)
class Prepare:
    """Settings of `action=prepare`.

    Attributes:
        source: Format of the input.
        input: Folder or file to read; for `source=voc`, a folder with both archives, or
            [VOC, SBD].
        output: Folder to create.
        task: Task to prepare for; null: the one that the source has annotations for.
        link: Method for images: a copy, a hard link or a symbolic link.
        classes: Names of the classes in order, or a file with one name per line; null: those of
            the source.
        crowds: Whether objects that the source marks as difficult or crowd stay so, which excludes
            them from training, or become ordinary objects.
        palette: File with the colors of the classes; null: `labelmap.txt` of the source.
        columns: Columns of a table.
        split: Assignment of images to sets.
        coco: Folder of COCO 2017, whose images are added (`source=voc`); null: none are.
        coco_rule: Rule by which COCO's objects become masks (`source=voc`).
        pack: Whether the images of a data set in one of our layouts are packed into shards;
            `source` is null then.
        short_side: Shorter side in pixels to which larger JPEG images are reduced (`pack`); null:
            all files stay as they are.
    """

    source: SOURCES | None
    input: Text | Annotated[list[Text], MinLen(1)] | None
    output: Text | None
    task: Literal["classification", "detection", "segmentation"] | None
    link: Literal["copy", "hard", "symbolic"]
    classes: Text | Annotated[list[Text], MinLen(1), Each] | None
    crowds: Literal["crowd", "object"]
    palette: Text | None
    columns: Columns
    split: SplitOptions
    coco: Text | None
    coco_rule: Literal["released", "later-on-top"]
    pack: bool
    short_side: Count | None
