"""Keys, types and bounds of the sections of a configuration that no constructor defines.

The sections of single actions are in `config/action_sections.py`. Every field is a key of `conf/`,
which contains its default. A section that is built from a `_target_` has the keys of that
constructor; `Part` marks it. `config/typed.py` makes these objects from plain values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Lt, MinLen
from typing_extensions import TypedDict  # pydantic reads this one on Python 3.11 as well

from parcnet_train.bounds import (
    BatchSize,
    Count,
    Each,
    Keywords,
    NotNegative,
    Pixels,
    Positive,
    PositiveShare,
    Probability,
    Share,
    Text,
    Whole,
)
from parcnet_train.config.action_sections import (
    Benchmark,
    Check,
    Export,
    Predict,
    Prepare,
    Profile,
    Release,
    Report,
    Watch,
)
from parcnet_train.runs.actions import ACTIONS

Limit = Count | PositiveShare  # batches, or a share of them
Devices = Annotated[
    Literal["auto"] | Count,
    Keywords(
        expected="auto, or a whole number of at least 1, the number of devices; "
        "CUDA_VISIBLE_DEVICES=0,1 before the command selects them"
    ),
]


class Part(Keywords):
    """Marker of a mapping with a `_target_`, from which `build.py` makes an object.

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

# The `_target_` of mappings that need not name it.
IMPLIED = {"callbacks.early_stopping": "parcnet_train.callbacks.stopping.EarlyStopping"}


@dataclass(frozen=True)
class Epochs:
    """Values from which the number of epochs is computed, given the size of the training set.

    Attributes:
        at_least: Smallest number of epochs.
        images: Smallest number of images shown in all epochs together.
    """

    at_least: Count
    images: Count


@dataclass(frozen=True)
class Finetuning:
    """Frozen layers and learning rates per layer, for fine-tuning from `backbone.pretrained`.

    Attributes:
        freeze_stages: Number of stages of the backbone to freeze, counted from the input; or all.
        layer_decay: Learning rate of a stage relative to that of the stage after it.
        head_lr: Learning rate of the head relative to that of the recipe.
        freeze_batchnorm: Whether statistics, scale and shift of every BatchNorm of the backbone are
            frozen.
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
class Distillation:
    """A teacher, whose outputs or feature maps the training learns from beside the labels.

    Attributes:
        teacher: Checkpoint or run directory; with `weights`, the name of a network of timm.
        weights: File with the weights of that network.
        kind: Outputs to learn: probabilities at a temperature (soft, arXiv 1503.02531), the most
            probable class (hard, arXiv 2012.12877), feature maps (feature).
        alpha: Share of the teacher's loss in the whole loss.
        temperature: Temperature of the probabilities (soft).
        levels: Strides of the compared feature maps (feature); null for the last map.
        loss: Difference between feature maps (feature).
    """

    teacher: Text
    weights: Text | None = None
    kind: Literal["soft", "hard", "feature"] = "soft"
    alpha: Probability = 0.5
    temperature: Positive = 4.0
    levels: Annotated[list[Count], MinLen(1), Each] | None = None
    loss: Literal["cosine", "mse"] = "cosine"


ClassWeights = Literal["balanced"] | Annotated[list[Positive], MinLen(1)] | None
EvaluatedClasses = Annotated[
    Text | list[Text] | None,
    Keywords(expected="null, folders, a list of class names, or the path of a text file"),
]


@dataclass(frozen=True)
class Recipe:
    """Training recipe.

    Attributes:
        epochs: Number of epochs, or the values from which it is computed.
        batch_size: Images per process and batch, at `image_size`.
        global_batch: Images per optimizer step of all processes, at `image_size`; they are divided
            among batches and processes, at most `batch_size` each. null: `batch_size` for each.
        reference_batch: Images per optimizer step for which optimizer, schedule and EMA are given.
        image_size: Image size in pixels: one number, or height and width.
        multi_scale: Image sizes from which every step draws one; null: always `image_size`.
        label_smoothing: Share of the labels that is spread over all classes.
        accumulate: Batches per optimizer step; auto: as many as `global_batch` needs, or without
            it as many as reach the reference batch.
        gradient_clip: Largest norm of the gradient; null: no clipping.
        on_nan: Handling of a step whose loss or gradient is not finite: stop the training, or skip
            the step and count it.
        optimizer: The optimizer.
        schedule: The learning rate as a function of the position in the training.
        ema: Exponential moving average of the weights; null: none.
        finetuning: Learning rates of the parts of the network.
        augmentation: Random changes of every training image.
        mixing: Mixup and CutMix (task=classification); null: none.
        distillation: Teacher of the training; null: none.
        class_weights: Weight of every class in the training loss (classification, segmentation);
            balanced: in inverse proportion to its share of the training labels; null: all equal.
        sampler: Order of the training images (classification): balanced: every class equally
            often; null: every image once per epoch.
        no_weight_decay: Kinds of parameters that the optimizer's weight decay leaves alone.
    """

    epochs: Count | Epochs
    batch_size: BatchSize
    global_batch: BatchSize | None
    reference_batch: Count
    image_size: Pixels
    multi_scale: Annotated[dict[str, Any], Part()] | None
    label_smoothing: Share
    accumulate: Literal["auto"] | Count
    gradient_clip: Positive | None
    on_nan: Literal["stop", "skip"]
    optimizer: Annotated[dict[str, Any], Part("params")]
    schedule: Annotated[dict[str, Any], Part("position", "max_lr", "reference_batch")]
    ema: Annotated[dict[str, Any], Part()] | None
    finetuning: Finetuning
    augmentation: Annotated[dict[str, Any], Part()]
    mixing: MixingOptions | None = None
    distillation: Distillation | None = None
    class_weights: ClassWeights = None
    sampler: Literal["balanced"] | None = None
    no_weight_decay: Annotated[list[Literal["norms", "biases", "embeddings"]], Each] = field(
        default_factory=list
    )


@dataclass(frozen=True)
class Checkpoint:
    """Intervals at which checkpoints are written, in addition to the end of every epoch.

    Attributes:
        every_n_steps: Optimizer steps between checkpoints; null: none within an epoch.
        every_minutes: Minutes between checkpoints; null: none within an epoch.
        keep_best: Number of best epochs to keep.
    """

    every_n_steps: Count | None
    every_minutes: Positive | None
    keep_best: Count


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
        recipe: Training recipe.
        trainer: Lightning's Trainer.
        logger: Loggers by name.
        callbacks: Callbacks of a training by name.
        ckpt: `last`, a checkpoint file or a run directory.
        input: Image, folder, pattern or `-` of action=predict.
        seed: Seed of weights, order and augmentation.
        compile: Whether backbone and head are compiled by torch.compile.
        channels_last: Whether weights and images have the memory layout NHWC.
        checkpoint: Intervals at which checkpoints are written.
        check: Section of action=check.
        predict: Section of action=predict.
        profile: Section of action=profile.
        benchmark: Section of action=benchmark.
        report: Section of action=report, action=compare and action=watch.
        watch: Section of action=watch.
        export: Section of action=export.
        release: Section of action=release.
        prepare: Section of action=prepare.
        paths: Folders that a run writes into.
    """

    action: Annotated[str, Keywords(enum=list(ACTIONS))]
    task: Annotated[dict[str, Any], Part("model", "num_classes", "optimizer", "schedule")]
    backbone: Annotated[dict[str, Any], Part("native", "in_channels", pretrained=PRETRAINED)]
    head: Annotated[dict[str, Any], Part("levels", "num_classes", "classifier")]
    data: Annotated[dict[str, Any], Part()]
    recipe: Recipe
    trainer: Annotated[dict[str, Any], Part()]
    logger: dict[str, Annotated[dict[str, Any], Part()]]
    callbacks: dict[str, Annotated[dict[str, Any], Part()] | None]
    ckpt: Annotated[str | None, Keywords(expected="null, last or a path")]
    input: Annotated[
        Text | None, Keywords(expected="null, an image, a folder, a quoted pattern or -")
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
    watch: Watch
    export: Export
    release: Release
    prepare: Prepare
    paths: Paths
