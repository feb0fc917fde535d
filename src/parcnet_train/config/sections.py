"""The sections of a configuration that no constructor of ours has: their keys, types and bounds.

Every field is a key of `conf/`, where its default stands. A section that is built from a `_target_`
has the keys of that constructor; `Part` marks it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Lt, MinLen
from typing_extensions import TypedDict  # pydantic reads this one on Python 3.11 as well

from parcnet_train.bounds import (
    BatchSize,
    Count,
    Keywords,
    NotNegative,
    Pixels,
    Positive,
    PositiveShare,
    Share,
    Text,
    Whole,
)
from parcnet_train.runs.actions import ACTIONS

Words = list[str]
Each = Keywords(uniqueItems=True)  # of a list: each once
Limit = Count | PositiveShare  # batches, or a share of them
Devices = Annotated[
    Literal["auto"] | Count,
    Keywords(
        expected="auto, or a whole number of at least 1: how many devices; "
        "CUDA_VISIBLE_DEVICES=0,1 before the command says which"
    ),
]


class Part(Keywords):
    """Marks a mapping with a `_target_`, of which `build.py` makes an object.

    Args:
        *supplied: Arguments that `build.py` adds to those of the configuration.
        **kept: Keys that `build.py` keeps for itself, with their JSON Schemas.
    """

    def __init__(self, *supplied: str, **kept: Mapping[str, Any]) -> None:
        super().__init__(part={"supplied": list(supplied), "kept": kept})


PRETRAINED = {
    "anyOf": [{"type": "string", "minLength": 1}, {"type": "null"}],
    "expected": "null or the path of a checkpoint",
    "description": "Checkpoint whose backbone the training starts from.",
}

# What a mapping without a `_target_` is.
IMPLIED = {"callbacks.early_stopping": "parcnet_train.callbacks.stopping.EarlyStopping"}


@dataclass(frozen=True)
class Epochs:
    """Epochs of a training that follow the size of its set.

    Attributes:
        at_least: Smallest number of epochs.
        images: Number of images to train on, which small sets are repeated for.
    """

    at_least: Count
    images: Count


@dataclass(frozen=True)
class Finetuning:
    """Which weights learn how fast, with `backbone.pretrained`.

    Attributes:
        freeze_stages: Stages of the backbone that learn nothing, from the images on.
        layer_decay: Learning rate of a stage as a share of that of the stage after it.
        head_lr: Learning rate of the head in units of the recipe's.
        freeze_batchnorm: Whether statistics, scale and shift of every BatchNorm of the backbone
            stay.
    """

    freeze_stages: Literal["all"] | Whole
    layer_decay: PositiveShare
    head_lr: Annotated[float, Ge(1)]
    freeze_batchnorm: bool


class MixingOptions(TypedDict):
    """Alphas of Mixup and CutMix; 0 turns one off.

    Attributes:
        mixup: Alpha of the Beta distribution of the weights.
        cutmix: Alpha of the Beta distribution of the areas.
    """

    mixup: NotNegative
    cutmix: NotNegative


@dataclass(frozen=True)
class Recipe:
    """Training recipe.

    Attributes:
        epochs: Number of epochs, or how it follows the size of the set.
        batch_size: Images per process and batch, at `image_size`.
        reference_batch: Images per optimizer step for which optimizer, schedule and EMA are given.
        image_size: Pixels of the images, one number or height and width.
        multi_scale: Sizes that steps draw from; null for `image_size` alone.
        label_smoothing: Share of the labels that is spread over all classes.
        accumulate: Batches per optimizer step; auto for as many as make the reference batch.
        gradient_clip: Largest norm of the gradient; null for no clipping.
        optimizer: The optimizer.
        schedule: The learning rate as a function of the position in the training.
        ema: Exponential moving average of the weights; null for none.
        finetuning: Learning rates of the parts of the network.
        augmentation: Random changes of every training image.
        mixing: Mixup and CutMix (task=classification); null for none.
    """

    epochs: Count | Epochs
    batch_size: BatchSize
    reference_batch: Count
    image_size: Pixels
    multi_scale: Annotated[dict[str, Any], Part()] | None
    label_smoothing: Share
    accumulate: Literal["auto"] | Count
    gradient_clip: Positive | None
    optimizer: Annotated[dict[str, Any], Part("params")]
    schedule: Annotated[dict[str, Any], Part("position", "max_lr", "reference_batch")]
    ema: Annotated[dict[str, Any], Part()] | None
    finetuning: Finetuning
    augmentation: Annotated[dict[str, Any], Part()]
    mixing: MixingOptions | None = None


@dataclass(frozen=True)
class Checkpoint:
    """When checkpoints are written, beside the ends of epochs.

    Attributes:
        every_n_steps: Optimizer steps between checkpoints; null for none within an epoch.
        every_minutes: Minutes between checkpoints; null for none within an epoch.
        keep_best: Number of best epochs that are kept.
    """

    every_n_steps: Count | None
    every_minutes: Positive | None
    keep_best: Count


@dataclass(frozen=True)
class Check:
    """`action=check`.

    Attributes:
        data: Files that are read: some of them, or every one.
    """

    data: Literal["sample", "full"]


@dataclass(frozen=True)
class Predict:
    """`action=predict`.

    Attributes:
        top: Likeliest classes that are listed for each image (classification).
        score_threshold: Probability that an object has to exceed (detection).
        batch_size: Images per batch.
    """

    top: Count
    score_threshold: Share
    batch_size: Count


@dataclass(frozen=True)
class Profile:
    """`action=profile`.

    Attributes:
        compare: Table of the paper whose rows are profiled; null for the composed network.
        image_size: Pixels of the images, one number or height and width.
        batch_size: Images per batch.
        num_classes: Number of classes of the head.
    """

    compare: Literal["table1", "table2", "table3"] | None
    image_size: Pixels
    batch_size: Count
    num_classes: Count


@dataclass(frozen=True)
class Benchmark:
    """`action=benchmark`.

    Attributes:
        target: Part that is timed.
        repeats: Rounds, in each of which every variant runs once.
        batch_size: Images per batch (train_step, detection).
        image_size: Pixels of the images; null for 256, or the size of the checkpoint's training.
        keep_memory: Whether freed memory is kept on CPUs, as in training.
        backbones: Networks of latency; null for those of Table 3, or the checkpoint's own.
        runtimes: Runtimes of latency.
        forms: Forms of the networks of latency.
        threads: Threads of one inference, each pinned to a core (latency).
        iterations: Inferences of each network (latency).
        compile: Whether train_step is also timed under torch.compile.
    """

    target: Literal["operator", "train_step", "loader", "overhead", "detection", "latency"]
    repeats: Count
    batch_size: BatchSize
    image_size: Pixels | None
    keep_memory: bool
    backbones: Annotated[Words, MinLen(1), Each] | None
    runtimes: Annotated[list[Literal["pytorch", "onnxruntime", "openvino", "mnn"]], MinLen(1), Each]
    forms: Annotated[list[Literal["baked", "plain", "int8"]], MinLen(1), Each]
    threads: Count
    iterations: Count
    compile: bool


@dataclass(frozen=True)
class Report:
    """`action=report`.

    Attributes:
        runs: Folder of runs, or a list of folders.
    """

    runs: Text | Annotated[list[Text], MinLen(1)]


@dataclass(frozen=True)
class Export:
    """`action=export`.

    Attributes:
        format: Runtime of the file.
        size: Pixels of the images; null for the size of the training.
        dynamic_batch: Whether the file takes any number of images.
        precision: Precision of weights and activations.
        calibration_images: Training images that int8 takes its ranges from.
        float_layers: Names or patterns of layers that keep float32 (int8, onnx).
        sensitivity: Whether each layer's effect on the outputs is measured (int8, onnx).
        verify: How the file is compared with PyTorch; null for metric (int8 logits) or outputs.
        decode: Whether the file gives objects instead of logits and offsets (detection).
        argmax: Whether the file gives classes of pixels instead of logits (segmentation).
    """

    format: Literal["onnx", "mnn", "openvino", "torch_export", "coreml"]
    size: Pixels | None
    dynamic_batch: bool
    precision: Literal["float32", "int8"]
    calibration_images: Count
    float_layers: Words
    sensitivity: bool
    verify: Literal["outputs", "metric", "none"] | None
    decode: bool
    argmax: bool


@dataclass(frozen=True)
class Paths:
    """Folders of a run.

    Attributes:
        runs: Folder of all runs.
        cache: Folder of demonstration data.
        output: Folder of this run.
    """

    runs: Text
    cache: Text
    output: str


@dataclass(frozen=True)
class Config:
    """A whole configuration.

    Attributes:
        action: Name of the action.
        task: The Lightning module.
        backbone: The image encoder.
        head: The task's head.
        data: The data module.
        recipe: How the network is trained.
        trainer: Lightning's Trainer.
        logger: Loggers by name.
        callbacks: Callbacks of a training by name.
        ckpt: `last`, a checkpoint file or a run directory.
        input: Image, folder, pattern or `-` of action=predict.
        seed: Seed of weights, order and augmentation.
        compile: Whether backbone and head are compiled by torch.compile.
        channels_last: Whether weights and images have the memory layout NHWC.
        checkpoint: When checkpoints are written.
        check: Section of action=check.
        predict: Section of action=predict.
        profile: Section of action=profile.
        benchmark: Section of action=benchmark.
        report: Section of action=report.
        export: Section of action=export.
        paths: Folders that a run writes into.
    """

    action: Annotated[str, Keywords(enum=list(ACTIONS))]
    task: Annotated[dict[str, Any], Part("model", "num_classes", "optimizer", "schedule")]
    backbone: Annotated[dict[str, Any], Part(pretrained=PRETRAINED)]
    head: Annotated[dict[str, Any], Part("levels", "num_classes")]
    data: Annotated[dict[str, Any], Part()]
    recipe: Recipe
    trainer: Annotated[dict[str, Any], Part()]
    logger: dict[str, Annotated[dict[str, Any], Part()]]
    callbacks: dict[str, Annotated[dict[str, Any], Part()] | None]
    ckpt: Annotated[str | None, Keywords(expected="null, last or a path")]
    input: Annotated[
        Text | None, Keywords(expected="null, or an image, a folder, a pattern or - in quotes")
    ]
    seed: Annotated[int, Ge(0), Lt(2**32), Keywords(expected="a whole number from 0 to below 2^32")]
    compile: bool
    channels_last: bool
    checkpoint: Checkpoint
    check: Check
    predict: Predict
    profile: Profile
    benchmark: Benchmark
    report: Report
    export: Export
    paths: Paths
