"""Checks of parts that must fit together: network, image sizes, task and data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from parcnet_train.build import (
    benchmarked_size,
    build_backbone,
    build_data,
    build_model,
    height_and_width,
    image_channels,
    make,
    meta_device,
)
from parcnet_train.config.keys import show, value_of
from parcnet_train.config.typed import reads_data
from parcnet_train.data.channels import RGB
from parcnet_train.deploy.formats.formats import data_is_optional
from parcnet_train.detection.evaluators import MOST
from parcnet_train.errors import CheckpointError, ConfigError, DataError, Fault, first_line
from parcnet_train.runs.actions import ACTIONS, times_images
from parcnet_train.targets import locate

Config = dict[str, Any]

WITHOUT_DATA = "; or export without data: leave out export.verify, or set export.verify=none"
WITHOUT_TRAINING_SET = "; or calibrate on other images: export.calibration=FOLDER"
OF_COLORS = ("randaugment", "color_jitter")  # augmentation that exists only for RGB
OF_RGB = ("train_step", "detection", "distillation", "latency")  # benchmarks of random RGB images


def wrong_network(config: Config) -> Iterator[Fault]:
    """Report a backbone or head that does not accept its arguments or the image size."""
    if not ACTIONS[config["action"]].network:
        return
    try:
        with meta_device():
            model = build_model(config, num_classes=2).eval()
    except Exception as error:  # whatever a constructor raises is about its arguments
        own = [fault for fault in getattr(error, "faults", ()) if fault.key]
        yield from own or [Fault("backbone", f"backbone, head: {first_line(error)}")]
        return
    key, size = size_of(config)
    lengths = size if isinstance(size, list) else [size, size]
    stride = max(level.stride for level in model.backbone.levels)
    only = model.backbone.fixed_size
    if only is not None and tuple(lengths) != only:
        fixed = str(only[0]) if only[0] == only[1] else f"[{only[0]},{only[1]}]"
        yield Fault(
            key,
            f"{show(key, size)}: expected {fixed}, the only size that "
            f"backbone={config['choices']['backbone']} takes. Fix: {key}={fixed}",
        )
        return
    if only is None and any(length % stride for length in lengths):
        yield Fault(
            key,
            f"{show(key, size)}: expected a multiple of {stride}, the output "
            f"stride of backbone={config['choices']['backbone']}; nearest: "
            + ", ".join(str(max(1, round(n / stride)) * stride) for n in dict.fromkeys(lengths)),
        )
        return
    try:
        with torch.no_grad(), meta_device():
            model(torch.empty(1, model.in_channels, *lengths))
    except Exception as error:  # whatever a network raises here is about shapes
        yield Fault("backbone", f"backbone, head at {show(key, size)}: {first_line(error)}")
    yield from wrong_scales(config, stride, only)


def size_of(config: Config) -> tuple[str, Any]:
    """Return the key and the value of the size of the images that an action takes."""
    action = value_of(config, "action")
    if action == "benchmark":
        return benchmarked_size(config)
    key = f"{action if ACTIONS[action].folder else 'recipe'}.image_size"
    if action == "export" and value_of(config, "export.size") is not None:
        key = "export.size"
    return key, value_of(config, key)


def wrong_scales(
    config: Config, stride: int, only: tuple[int, int] | None = None
) -> Iterator[Fault]:
    """Report multi-scale sizes that the network does not accept, and steps of a single image."""
    node, recipe = value_of(config, "recipe.multi_scale"), config["recipe"]
    if not isinstance(node, dict) or ACTIONS[config["action"]].folder:
        return
    if only is not None:
        yield Fault(
            "recipe.multi_scale",
            f"recipe.multi_scale: backbone={config['choices']['backbone']} takes only images of "
            f"{only[0]}x{only[1]} pixels. Fix: recipe.multi_scale=null",
        )
        return
    scales = make(node).scales(height_and_width(recipe["image_size"]), recipe["batch_size"])
    if any(length % stride for scale in scales for length in scale.size):
        yield (
            Fault(
                "recipe.multi_scale.divisor",
                f"{show('recipe.multi_scale.divisor', node.get('divisor'))}: expected a multiple "
                f"of {stride}, the output stride of backbone={config['choices']['backbone']}",
            )
        )
    least = min(scales, key=lambda scale: scale.images)
    if least.images < 2 and recipe["global_batch"] is None:  # else see `wrong_global_batch`
        height, width = least.size
        yield (
            Fault(
                "recipe.batch_size",
                f"recipe.batch_size={recipe['batch_size']}: with "
                f"recipe.multi_scale.rule={node.get('rule')}, a step at {height}x{width} pixels "
                f"has only {least.images} image; expected at least 2, since BatchNorm needs "
                "more than one. Fix: increase recipe.batch_size, or set "
                "recipe.multi_scale.rule=released",
            )
        )


def wrong_finetuning(config: Config) -> Iterator[Fault]:
    """Report more stages to freeze than the backbone has."""
    stages = config["recipe"]["finetuning"]["freeze_stages"]
    if stages in (0, "all") or ACTIONS[config["action"]].folder:
        return
    try:
        with meta_device():
            count = len(build_backbone(config).levels)
    except ConfigError:  # `wrong_network` reports it
        return
    if stages > count:
        yield (
            Fault(
                "recipe.finetuning.freeze_stages",
                f"{show('recipe.finetuning.freeze_stages', stages)}: "
                f"backbone={config['choices']['backbone']} has {count} stages; expected 0 to "
                f"{count}, or all",
            )
        )


def wrong_mixing(config: Config) -> Iterator[Fault]:
    """Report Mixup and CutMix in tasks other than classification."""
    task = config["choices"]["task"]
    if "mixing" in config["recipe"] and task != "classification":
        yield Fault(
            "recipe.mixing",
            f"recipe.mixing: task={task} does not support this key; expected task=classification",
        )


def wrong_weighting(config: Config) -> Iterator[Fault]:
    """Report class weights and balanced sampling in tasks that do not have them."""
    recipe, task = config["recipe"], config["choices"]["task"]
    if recipe.get("class_weights") is not None and task == "detection":
        yield Fault(
            "recipe.class_weights",
            "recipe.class_weights: task=detection does not support this key, since SSD's loss "
            "chooses its negative anchors by their unweighted loss; expected task=classification "
            "or task=segmentation",
        )
    if recipe.get("sampler") is not None and task != "classification":
        yield Fault(
            "recipe.sampler",
            f"recipe.sampler: task={task} does not support this key, since its images have several "
            "classes; expected task=classification",
        )


def wrong_passing(config: Config) -> Iterator[Fault]:
    """Report keys of the recipe that do not reach the data module, which would ignore them."""
    if not ACTIONS[config["action"]].trains:
        return
    recipe, choices = config["recipe"], config["choices"]
    keys = ["multi_scale"]
    if choices["task"] == "classification":  # `wrong_weighting` reports a sampler of another task
        keys.append("sampler")
    for key in keys:
        if recipe.get(key) is not None and config["data"].get(key) is None:
            own = f"{key}: ${{recipe.{key}}}"
            yield Fault(
                f"recipe.{key}",
                f"{show(f'recipe.{key}', recipe[key])}: data={choices['data']} does not get this "
                f"value; expected {own} in its config. Fix: add this line to your config, leave "
                f"data.{key} out, or set recipe.{key}=null",
            )


def wrong_channels(config: Config) -> Iterator[Fault]:
    """Report what needs RGB images although the data module reads others."""
    channels = image_channels(config)
    if channels == RGB:
        return
    action, given = ACTIONS[config["action"]], f"data.channels={channels}"
    target = value_of(config, "benchmark.target")
    for name in OF_COLORS:
        if action.trains and config["recipe"]["augmentation"].get(name) is not None:
            key = f"recipe.augmentation.{name}"
            yield Fault(key, f"{key}: it changes colors, but {given}. Fix: {key}=null")
    is_benchmark, times_own = config["action"] == "benchmark", times_images(config["benchmark"])
    if is_benchmark and target in OF_RGB and not times_own:
        yield Fault(
            "benchmark.target",
            f"benchmark.target={target}: its images are RGB, but {given}; expected data.channels=3",
        )
    export, benchmark = config["export"], config["benchmark"]
    if (config["action"], export["format"], export["precision"]) == ("export", "mnn", "int8"):
        yield Fault(
            "export.precision",
            f"export.precision=int8: MNN's tool reads RGB images, but {given}; expected float32",
        )
    if (
        is_benchmark
        and times_own
        and "mnn" in benchmark["runtimes"]
        and "int8" in benchmark["forms"]
    ):
        yield Fault(
            "benchmark.forms",
            f"benchmark.forms: MNN's tool for int8 reads RGB images, but {given}. Fix: leave int8 "
            "out, or mnn out of benchmark.runtimes",
        )


def wrong_evaluated_classes(config: Config) -> Iterator[Fault]:
    """Report evaluated classes in an action that evaluates all classes, or none."""
    given, action = config["task"].get("evaluated_classes"), config["action"]
    if given is not None and action != "test":
        yield Fault(
            "task.evaluated_classes",
            f"{show('task.evaluated_classes', given)}: action={action} does not use this key; "
            "expected null. Fix: evaluate a finished training with action=test ckpt=RUN",
        )


def wrong_task(config: Config) -> Iterator[Fault]:
    """Report a head or data module that belongs to a different task."""
    task = config["choices"]["task"]
    for part in ("head", "data") if reads_data(config) else ("head",):
        if (other := task_of(part, config)) != task:
            choice = config["choices"][part]
            yield Fault(part, f"{part}={choice}: it is for task={other}, not for task={task}")


def wrong_detections(config: Config) -> Iterator[Fault]:
    """Report metrics that would count more boxes than the task keeps."""
    kept, counted = (
        config["task"].get(key) for key in ("detections_per_image", "evaluated_detections")
    )
    if kept is not None and counted is not None and counted > max(kept, MOST):
        yield Fault(
            "task.evaluated_detections",
            f"task.evaluated_detections={counted}: only task.detections_per_image={kept} boxes of "
            "an image are kept; expected at most as many. Fix: "
            f"task.detections_per_image={counted}",
        )


def task_of(part: str, config: Config) -> str:
    """Return the task of a head or data module; one that does not declare a task fits any."""
    return getattr(locate(config[part]), "task", config["choices"]["task"])


def wrong_split(config: Config) -> Iterator[Fault]:
    """Report a test set in a training, in a prediction, or of demonstration data."""
    if config["data"].get("split") != "test":
        return
    action, data = config["action"], config["choices"]["data"]
    if action == "fit":
        yield Fault(
            "data.split",
            "data.split=test: a training chooses its best epoch by the validation set, and would "
            "choose it by the test set; expected data.split=val. Fix: evaluate the finished "
            "training with action=test ckpt=RUN data.split=test",
        )
    elif action == "predict":
        yield Fault(
            "data.split",
            "data.split=test: action=predict reads the images of input; expected data.split=val. "
            "Fix: input=FOLDER, with the folder of the test images",
        )
    elif reads_data(config) and getattr(locate(config["data"]), "writes_root", False):
        yield Fault(
            "data.split",
            f"data.split=test: data={data} is demonstration data without a test set; expected "
            "data.split=val",
        )


def wrong_data(config: Config) -> Iterator[Fault]:
    """Report missing data and unexpected classes, and with check.data=full every faulty file."""
    is_full = config["action"] == "check" and config["check"]["data"] == "full"
    writes_root = getattr(locate(config["data"]), "writes_root", False)
    if not reads_data(config) or (writes_root and not is_full):
        return
    if task_of("data", config) != config["choices"]["task"]:  # `wrong_task` reports it
        return
    if config["task"].get("evaluated_classes") is not None and config["ckpt"] is None:
        return  # the classes are those of the checkpoint, whose absence `wrong_checkpoint` reports
    # action=check checks the data of a training; int8 needs images of both sets.
    is_export = config["action"] == "export"
    if is_export and data_is_optional(config["export"]):
        return
    is_stream = config["action"] == "benchmark" and times_images(config["benchmark"])
    is_int8 = value_of(config, "export.calibration") is None and (
        (is_export and value_of(config, "export.precision") == "int8")
        or (is_stream and "int8" in config["benchmark"]["forms"])
    )
    is_training = config["action"] == "check" or is_int8
    action = "fit" if is_training else "test" if is_stream else config["action"]
    try:
        data = build_data(config)
        data.check_files(action)
        if is_full:
            data.check_every_file()
    except CheckpointError:  # `wrong_checkpoint` reports it
        return
    except (DataError, ConfigError) as error:
        way_out = WITHOUT_DATA if is_export else ""
        way_out = WITHOUT_TRAINING_SET if is_int8 else way_out
        yield from (Fault("data", f"{line}{way_out}") for line in str(error).splitlines())
