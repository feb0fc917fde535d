"""What a value of a configuration may be: ranges in `RULES`, types from constructors."""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parcnet_train.config.keys import value_of
from parcnet_train.targets import locate


@dataclass(frozen=True)
class Rule:
    """What a value may be: a test of it, and the same in words."""

    accepts: Callable[[Any], bool]
    words: str
    allowed: tuple[str, ...] = ()


def one_of(*allowed: str) -> Rule:
    """One of some words."""
    return Rule(lambda value: value in allowed, "one of " + ", ".join(allowed), allowed)


def some_of(*allowed: str) -> Rule:
    """A list of one or more of some words, each once; of any words where none are named."""
    return Rule(
        lambda value: (
            isinstance(value, list)
            and value != []
            and all(isinstance(each, str) and (each in allowed or not allowed) for each in value)
            and len(set(value)) == len(value)
        ),
        "a list of " + (", ".join(allowed) if allowed else "names") + ", one at least, each once",
    )


def number(words: str, accepts: Callable[[float], bool], kind: type = float) -> Rule:
    """A finite number, whole where `kind` is int, that passes a test."""
    return Rule(
        lambda value: conforms(value, kind) and math.isfinite(value) and accepts(value), words
    )


def optional(rule: Rule) -> Rule:
    """The same or null."""
    return Rule(
        lambda value: value is None or rule.accepts(value), f"null or {rule.words}", rule.allowed
    )


def list_of(length: int, in_words: str, rule: Rule) -> Rule:
    """A list of so many such values."""
    return Rule(
        lambda value: (
            isinstance(value, list) and len(value) == length and all(map(rule.accepts, value))
        ),
        f"a list of {in_words}: {rule.words}",
    )


def pair_of(rule: Rule) -> Rule:
    """A list of two such values."""
    return list_of(2, "two", rule)


def range_of(rule: Rule) -> Rule:
    """A list of two such values, the smaller one first."""
    pair = pair_of(rule)
    return Rule(
        lambda value: pair.accepts(value) and value[0] <= value[1],
        f"{pair.words}, the smaller one first",
    )


def options(example: str) -> Rule:
    """Null or a mapping, whose keys `check.KEYS` has and whose values have rules of their own."""
    return Rule(lambda value: value is None or isinstance(value, dict), f"null or {example}")


POSITIVE = number("a number above 0", lambda value: value > 0)
NOT_NEGATIVE = number("a number of at least 0", lambda value: value >= 0)
RATE = number("a number above 0 and up to 100", lambda value: 0 < value <= 100)
COUNT = number("a whole number of at least 1", lambda value: value >= 1, int)
WHOLE = number("a whole number of at least 0", lambda value: value >= 0, int)
PROBABILITY = number("a number from 0 to 1", lambda value: 0 <= value <= 1)
POSITIVE_SHARE = number("a number above 0 and up to 1", lambda value: 0 < value <= 1)
SHARE = number("a number from 0 to below 1", lambda value: 0 <= value < 1)

LIMIT = Rule(
    lambda value: COUNT.accepts(value) or (isinstance(value, float) and 0 < value <= 1),
    "a whole number of at least 1, or a share above 0 and up to 1.0",
)
FOLDER = Rule(lambda value: isinstance(value, str) and value != "", "the path of a folder")
NAMES = Rule(
    lambda value: isinstance(value, list) and all(isinstance(each, str) for each in value),
    "a list of names",
)
FLAG = Rule(lambda value: isinstance(value, bool), "true or false")
PIXELS = Rule(
    lambda value: COUNT.accepts(value) or pair_of(COUNT).accepts(value),
    "a number of pixels, or [height, width]",
)
COUNTS = Rule(  # how many, the constructor says
    lambda value: isinstance(value, list) and all(map(COUNT.accepts, value)),
    "a list of whole numbers of at least 1",
)
ODD = number("an odd number of at least 1", lambda value: value >= 1 and value % 2 == 1, int)
BATCH = Rule(
    lambda value: COUNT.accepts(value) and value >= 2,
    "a whole number of at least 2, since BatchNorm has no statistics of one image",
)

RULES = {
    "action": one_of(
        *("fit", "test", "predict", "average", "export", "profile", "benchmark", "report", "check")
    ),
    "seed": number("a whole number from 0 to below 2^32", lambda value: 0 <= value < 2**32, int),
    "compile": FLAG,
    "channels_last": FLAG,
    "check.data": one_of("sample", "full"),
    "ckpt": Rule(lambda value: value is None or isinstance(value, str), "null, last or a path"),
    "paths.runs": FOLDER,
    "paths.cache": FOLDER,
    "input": Rule(
        lambda value: value is None or (isinstance(value, str) and value != ""),
        "null, or an image, a folder, a pattern or - in quotes",
    ),
    "predict.top": COUNT,
    "predict.batch_size": COUNT,
    "predict.score_threshold": SHARE,
    "backbone.pretrained": Rule(
        lambda value: value is None or (isinstance(value, str) and value != ""),
        "null or the path of a checkpoint",
    ),
    "backbone.stem_channels": COUNTS,
    "backbone.channels": COUNTS,
    "backbone.widths": COUNTS,
    "backbone.depths": COUNTS,
    "backbone.meta_lengths": COUNTS,
    "backbone.stem_kernel": ODD,
    "backbone.kernel_share": POSITIVE_SHARE,
    "backbone.expansion": COUNT,
    "backbone.heads": COUNT,
    "backbone.dropout": SHARE,
    "backbone.meta_size": PIXELS,
    "backbone.std": list_of(3, "three", POSITIVE),
    "backbone.stochastic_depth": SHARE,
    "head.dropout": SHARE,
    "head.projections": COUNTS,
    "head.extra_channels": COUNTS,
    "head.smallest_anchor": POSITIVE_SHARE,
    "head.channels": COUNT,
    "head.rates": COUNTS,
    "head.auxiliary": FLAG,
    "task.score_threshold": SHARE,
    "task.nms_iou": PROBABILITY,
    "task.candidates": COUNT,
    "task.detections_per_image": COUNT,
    # All of them are one picture in memory.
    "task.pictures": number("a whole number from 0 to 1000", lambda value: 0 <= value <= 1000, int),
    "task.scales": Rule(
        lambda value: isinstance(value, list) and value != [] and all(map(RATE.accepts, value)),
        f"a list of one or more of {RATE.words}",
    ),
    "task.mirror": FLAG,
    "data.num_workers": WHOLE,
    "data.max_pixels": number(
        "a whole number of pixels from 1 to 2^30, as many as OpenCV decodes",
        lambda value: 1 <= value <= 2**30,
        int,
    ),
    "recipe.epochs": Rule(
        lambda value: COUNT.accepts(value) or isinstance(value, dict),
        f"{COUNT.words}, or {{at_least: 30, images: 24000}}",
    ),
    "recipe.epochs.at_least": COUNT,
    "recipe.epochs.images": COUNT,
    "profile.compare": optional(one_of("table1", "table2", "table3")),
    "profile.image_size": PIXELS,
    "profile.batch_size": COUNT,
    "profile.num_classes": COUNT,
    "report.runs": Rule(
        lambda value: (
            all(
                isinstance(each, str) and each
                for each in (value if isinstance(value, list) else [value])
            )
            and value != []
        ),
        "the path of a folder of runs, or a list of them",
    ),
    "benchmark.target": one_of(
        "operator", "train_step", "loader", "overhead", "detection", "latency"
    ),
    "benchmark.backbones": optional(some_of()),
    "benchmark.runtimes": some_of("pytorch", "onnxruntime", "openvino", "mnn"),
    "benchmark.forms": some_of("baked", "plain", "int8"),
    "benchmark.threads": COUNT,
    "benchmark.iterations": COUNT,
    "benchmark.repeats": COUNT,
    "benchmark.batch_size": BATCH,
    "benchmark.image_size": optional(PIXELS),
    "benchmark.compile": FLAG,
    "benchmark.keep_memory": FLAG,
    "export.format": one_of("onnx", "mnn", "openvino", "torch_export", "coreml"),
    "export.size": optional(PIXELS),
    "export.dynamic_batch": FLAG,
    "export.precision": one_of("float32", "int8"),
    "export.calibration_images": COUNT,
    "export.sensitivity": FLAG,
    "export.float_layers": NAMES,
    "export.verify": optional(one_of("outputs", "metric", "none")),
    "export.decode": FLAG,
    "export.argmax": FLAG,
    "recipe.batch_size": BATCH,
    "recipe.image_size": PIXELS,
    "recipe.label_smoothing": SHARE,
    "recipe.accumulate": Rule(
        lambda value: value == "auto" or COUNT.accepts(value),
        "auto, or a whole number of at least 1",
        ("auto",),
    ),
    "recipe.reference_batch": COUNT,
    "recipe.multi_scale.smallest": POSITIVE_SHARE,
    "recipe.multi_scale.largest": number("a number from 1 to 10", lambda value: 1 <= value <= 10),
    "recipe.multi_scale.count": COUNT,
    "recipe.multi_scale.divisor": COUNT,
    "checkpoint.every_n_steps": optional(COUNT),
    "checkpoint.every_minutes": optional(POSITIVE),
    "checkpoint.keep_best": COUNT,
    "recipe.gradient_clip": optional(POSITIVE),
    "recipe.optimizer.lr": RATE,
    "recipe.optimizer.betas": pair_of(SHARE),
    "recipe.optimizer.weight_decay": NOT_NEGATIVE,
    "recipe.schedule.warmup_steps": WHOLE,
    "recipe.schedule.warmup_share": SHARE,
    "recipe.schedule.warmup_lr": NOT_NEGATIVE,
    "recipe.schedule.min_lr": NOT_NEGATIVE,
    "recipe.ema.decay": SHARE,
    "recipe.ema.warmup": FLAG,
    "recipe.ema.compare": FLAG,
    "recipe.finetuning": Rule(
        lambda value: isinstance(value, dict),
        "a mapping of freeze_batchnorm, freeze_stages, head_lr, layer_decay",
    ),
    "recipe.finetuning.freeze_stages": Rule(
        lambda value: value == "all" or WHOLE.accepts(value),
        f"{WHOLE.words}, or all",
        ("all",),
    ),
    "recipe.finetuning.layer_decay": POSITIVE_SHARE,
    "recipe.finetuning.head_lr": number("a number of at least 1", lambda value: value >= 1),
    "recipe.finetuning.freeze_batchnorm": FLAG,
    "recipe.augmentation.crop_scale": range_of(POSITIVE_SHARE),
    "recipe.augmentation.crop_ratio": range_of(POSITIVE),
    "recipe.augmentation.short_side": range_of(
        number("a number above 0 and up to 10", lambda value: 0 < value <= 10)
    ),
    "recipe.augmentation.pad": FLAG,
    "recipe.augmentation.flip": PROBABILITY,
    "recipe.augmentation.crop": FLAG,
    "recipe.augmentation.photometric": FLAG,
    "recipe.augmentation.expand": PROBABILITY,
    "recipe.augmentation.randaugment": options("{operations: 2, magnitude: 9}"),
    "recipe.augmentation.randaugment.operations": COUNT,
    "recipe.augmentation.randaugment.magnitude": number(
        "a whole number from 0 to 30", lambda value: 0 <= value <= 30, int
    ),
    "recipe.augmentation.color_jitter": options(
        "{brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.0}"
    ),
    "recipe.augmentation.color_jitter.brightness": NOT_NEGATIVE,
    "recipe.augmentation.color_jitter.contrast": NOT_NEGATIVE,
    "recipe.augmentation.color_jitter.saturation": NOT_NEGATIVE,
    "recipe.augmentation.color_jitter.hue": number(
        "a number from 0 to 0.5", lambda value: 0 <= value <= 0.5
    ),
    "recipe.augmentation.random_erasing": PROBABILITY,
    "recipe.augmentation.repeats": COUNT,
    "recipe.mixing": options("{mixup: 0.2, cutmix: 1.0}"),
    "recipe.mixing.mixup": NOT_NEGATIVE,
    "recipe.mixing.cutmix": NOT_NEGATIVE,
    "callbacks.early_stopping.patience": COUNT,
    "callbacks.early_stopping.min_delta": NOT_NEGATIVE,
    "trainer.max_epochs": COUNT,
    "trainer.max_steps": optional(COUNT),
    "trainer.val_check_interval": LIMIT,
    "trainer.check_val_every_n_epoch": COUNT,
    "trainer.accumulate_grad_batches": COUNT,
    "trainer.limit_train_batches": LIMIT,
    "trainer.limit_val_batches": LIMIT,
    "trainer.log_every_n_steps": COUNT,
    "trainer.precision": one_of("auto", "32-true", "16-mixed", "bf16-mixed"),
    "trainer.accelerator": one_of("auto", "cpu", "gpu", "cuda", "mps"),
    "trainer.strategy": one_of("auto", "ddp"),
    "trainer.devices": Rule(
        lambda value: value == "auto" or COUNT.accepts(value),
        "auto, or a whole number of at least 1: how many devices; CUDA_VISIBLE_DEVICES=0,1 before "
        "the command says which",
        ("auto",),
    ),
    "trainer.num_nodes": COUNT,
    "trainer.sync_batchnorm": FLAG,
}


# Arguments of the Trainer that this package sets itself, or that its trainings cannot follow.
REFUSED = {
    "trainer.barebones": "it turns checkpoints and logs off; leave it out",
    "trainer.callbacks": "expected in the group callbacks. Fix: +callbacks.mine={_target_: ...}",
    "trainer.default_root_dir": "a run writes into its own directory. Fix: paths.runs=PATH",
    "trainer.enable_checkpointing": "a run always writes best.ckpt and last.ckpt; leave it out",
    "trainer.enable_model_summary": "a run logs its parameters. Fix: action=profile shows more",
    "trainer.enable_progress_bar": "the bar is shown in terminals only. Fix: command | cat",
    "trainer.fast_dev_run": "it writes no checkpoint to evaluate. Fix: debug=tiny",
    "trainer.limit_predict_batches": "nothing reads it; leave it out",
    "trainer.limit_test_batches": "every evaluation reads trainer.limit_val_batches. Fix: set that",
    "trainer.logger": "expected in the group logger. Fix: logger=[csv,tensorboard]",
    "trainer.max_time": "a run cannot resume from it. Fix: timeout 3h COMMAND, then ckpt=last",
    "trainer.min_epochs": "only callbacks end a run early. Fix: callbacks.early_stopping.patience",
    "trainer.min_steps": "only callbacks end a run early. Fix: callbacks.early_stopping.patience",
    "trainer.model_registry": "nothing is uploaded; leave it out",
    "trainer.num_sanity_val_steps": "data are checked before training. Fix: action=check",
    "trainer.overfit_batches": "it replaces the samplers. Fix: trainer.limit_train_batches=N",
    "trainer.plugins": "this package sets them; leave it out",
    "trainer.reload_dataloaders_every_n_epochs": "a resume could not follow it; leave it out",
    "trainer.use_distributed_sampler": "the samplers share out the data themselves; leave it out",
}


def hints_of(target: Any) -> dict[str, Any]:
    """Types of a callable's arguments, none where its annotations cannot be read."""
    function = target.__init__ if inspect.isclass(target) else target
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError):
        return {}


def conforms(value: Any, hint: Any) -> bool:
    """Whether a plain value can stand for a type; types without plain values accept all."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(conforms(value, argument) for argument in arguments)
    if origin is typing.Literal:
        return any(value == word and type(value) is type(word) for word in arguments)
    if hint is types.NoneType:
        return value is None
    if isinstance(value, dict) and "_target_" not in value:
        return hint in (Any, dict) or origin in (dict, Mapping)
    if hint in (int, float):
        kinds = (int, float) if hint is float else (int,)
        return isinstance(value, kinds) and not isinstance(value, bool)
    if hint in (bool, str, Path):
        return isinstance(value, str if hint is Path else hint)
    if origin in (list, tuple):
        if not isinstance(value, list):
            return False
        each = [a for a in arguments if a is not Ellipsis]
        if origin is tuple and Ellipsis not in arguments:
            return len(value) == len(each) and all(map(conforms, value, each))
        return all(conforms(item, each[0]) for item in value)
    return True


def is_text(config: Mapping[str, Any], key: str, value: Any, text: Any) -> bool:
    """Whether a value is not allowed under a key while the text that was typed for it is."""
    if rule := RULES.get(key):
        return rule.accepts(text) and not rule.accepts(value)
    part, _, name = key.rpartition(".")
    node = value_of(config, part)
    target = locate(node) if isinstance(node, dict) and "_target_" in node else None
    hint = Any if target is None else hints_of(target).get(name, Any)
    return conforms(text, hint) and not conforms(value, hint)


def words_of(hint: Any) -> list[str]:
    """The words that a type allows, of `Literal` and of its unions."""
    if typing.get_origin(hint) is typing.Literal:
        return [str(argument) for argument in typing.get_args(hint)]
    return [word for argument in typing.get_args(hint) for word in words_of(argument)]


def in_words(hint: Any) -> str:
    """A type as one would say it."""
    if words := words_of(hint):
        return "one of " + ", ".join(words)
    name = hint.__name__ if inspect.isclass(hint) and not typing.get_args(hint) else str(hint)
    return name.replace("typing.", "")
