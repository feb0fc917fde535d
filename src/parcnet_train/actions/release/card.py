"""Model card of a release, `README.md`: YAML for the Hugging Face hub, then text for people."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from parcnet_train.actions.release.contents import other_arguments
from parcnet_train.errors import printable
from parcnet_train.runs.releases import OURS

PIPELINES = {  # of the hub
    "classification": "image-classification",
    "detection": "object-detection",
    "segmentation": "image-segmentation",
}
KINDS = {
    "classification": "An image classifier",
    "detection": "An object detector",
    "segmentation": "A network for semantic segmentation",
}
# Metrics in the card, with their types on the hub and their names; config.json has the others, too.
METRICS = {
    "top1": ("accuracy", "top-1 accuracy"),
    "top5": ("accuracy", "top-5 accuracy"),
    "map": ("map", "mAP at IoU 0.50:0.95 (COCO)"),
    "map50": ("map", "mAP at IoU 0.50"),
    "map75": ("map", "mAP at IoU 0.75"),
    "miou": ("mean_iou", "mean IoU"),
    "pixel_accuracy": ("accuracy", "pixel accuracy"),
}
SPLITS = {"val": "validation set", "test": "test set"}
SHOWN_CLASSES = 100
MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~&])")


@cache
def environment() -> Environment:
    """Return the templates of this package, for Markdown."""
    return Environment(
        loader=PackageLoader("parcnet_train.actions.release", "."),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def card(described: Mapping[str, Any], license_name: str | None) -> str:
    """Return the text of a model card.

    Args:
        described: Content of `config.json`.
        license_name: License of the weights; None: it is not known.
    """
    ours = described[OURS]
    choices, metrics = ours["choices"], ours["metrics"]
    backbone, task = choices["backbone"], ours["task"]
    dataset = ours["dataset"]
    title = f"{backbone} on {dataset}" if dataset else f"{backbone} for {task}"
    trained = (ours["provenance"]["trained"] or {}).get("data") or {}
    return (
        environment()
        .get_template("card.md.jinja")
        .render(
            front=front_matter(described, title, license_name),
            title=plain(title),
            kind=KINDS[task],
            network=f"backbone={backbone} head={choices['head']}",
            backbone=backbone,
            task=task,
            license=license_name,
            classes_in_words=count_of(described["num_classes"], task),
            parameters=f"{ours['parameters']:,}",
            converted=ours.get("converted"),
            metrics=list(shown_metrics(metrics)) if metrics else [],
            split=SPLITS.get((metrics or {}).get("split", "val")),
            images=f"{metrics['images']:,}" if metrics and metrics["images"] else None,
            epoch=(metrics or {}).get("epoch"),
            evaluator=(metrics or {}).get("evaluator"),
            chosen=chosen_by(metrics),
            dataset=code(dataset) if dataset else "a data set that is not recorded",
            in_timm="pretrained_cfg" in described,
            fine_tuning=fine_tuning_of(ours),
            preprocessing=list(preprocessing_of(ours["preprocessing"])),
            classes=classes_of(described["label_names"], ours),
            training=list(training_of(ours, trained)),
            sha256=ours["sha256"],
        )
    )


def front_matter(described: Mapping[str, Any], title: str, license_name: str | None) -> str:
    """Return the YAML that the hub reads."""
    ours = described[OURS]
    task, backbone = ours["task"], ours["choices"]["backbone"]
    pipeline = PIPELINES[task]
    tags = [
        pipeline,
        *(["timm"] if "pretrained_cfg" in described else []),
        "parcnet-train",
        backbone,
    ]
    values: dict[str, Any] = {
        **({} if license_name is None else {"license": license_name}),
        "library_name": "parcnet-train",
        "pipeline_tag": pipeline,
        "tags": tags,
    }
    if metrics := ours["metrics"]:
        set_of = {
            "name": ours["dataset"] or "unknown",
            "type": str(metrics["data"]),
            "split": {"val": "validation"}.get(metrics["split"], metrics["split"]),
        }
        measured = [
            {"type": kind, "name": name, "value": metrics["values"][key]}
            for key, (kind, name) in METRICS.items()
            if key in metrics["values"]
        ]
        result = {"task": {"type": pipeline}, "dataset": set_of, "metrics": measured}
        values["model-index"] = [{"name": title, "results": [result]}]
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def plain(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    return MARKUP.sub(r"\\\1", printable(text))


def code(text: str) -> str:
    """Return text that Markdown shows as code."""
    return f"`{printable(text).replace('`', '')}`"


def count_of(classes: int, task: str) -> str:
    """Return a number of classes in words."""
    if task == "detection":  # the first one is the background
        return f"{classes - 1:,} classes and the background"
    return f"{classes:,} classes"


def shown_metrics(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield names and values of the metrics in the card."""
    for key, (_, name) in METRICS.items():
        if key in metrics["values"]:
            yield name, f"{100 * metrics['values'][key]:.2f} %"


def chosen_by(metrics: Mapping[str, Any] | None) -> str | None:
    """Return the name of the metric by which the epoch was chosen on the evaluated images."""
    if not metrics or not metrics["chosen"] or not metrics["epoch"]:
        return None
    return METRICS.get(metrics["metric"], ("", metrics["metric"]))[1]


def fine_tuning_of(ours: Mapping[str, Any]) -> str:
    """Return the overrides of a training that starts from a release."""
    choices = ours["choices"]
    more = [f"backbone.{name}={word_of(value)}" for name, value in other_arguments(ours).items()]
    data = {"classification": "imagefolder", "detection": "coco_format"}
    words = [f"task={choices['task']}", f"backbone={choices['backbone']}", *more]
    words += ["backbone.pretrained=PATH", f"data={data.get(choices['task'], 'voc_format')}"]
    return shlex.join([*words, "data.root=DATA", "recipe=finetune"])


def word_of(value: Any) -> str:
    """Return a value as it is typed."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def preprocessing_of(about: Mapping[str, Any]) -> Iterator[str]:
    """Yield how an image becomes the network's input, in sentences; see `Predictor.about`."""
    height, width = about["image_size"]
    yield (
        f"The network takes {about['channels']} channels ({about['input']}), {height} pixels high "
        f"and {width} pixels wide."
    )
    fill = f"; the rest is filled with the value {about['fill']}"
    if about["resize"] is None:
        yield (
            f"The image keeps its size; the network slides over it in windows of {height}x{width} "
            f"pixels (height x width) that overlap{fill}."
        )
    else:
        rows, columns = about["resize"]
        if not about["keep_aspect"]:
            how = f"to {rows}x{columns} pixels (height x width); its aspect ratio is not kept"
        elif about["crop"]:
            how = (
                f"with its aspect ratio kept, until it covers {rows}x{columns} pixels (height x "
                f"width), and the center of {height}x{width} pixels is cut out"
            )
        else:
            how = f"with its aspect ratio kept, to fit into {rows}x{columns} pixels{fill}"
        yield f"The image is resized ({about['interpolation']}) {how}."
    yield (
        "The values of the pixels are divided by 255. No mean and no deviation are applied "
        "outside of the network."
    )


def classes_of(names: list[str], ours: Mapping[str, Any]) -> str:
    """Return the names of the classes as a sentence."""
    if ours.get("names_classes") is False:
        return f"The {len(names)} classes have no names."
    shown = ", ".join(map(plain, names[:SHOWN_CLASSES]))
    rest = len(names) - SHOWN_CLASSES
    more = f", and {rest:,} more in `config.json`" if rest > 0 else ""
    return f"In the order of the outputs: {shown}{more}."


def training_of(ours: Mapping[str, Any], images: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield how the network was trained, by names.

    Args:
        ours: Our section of `config.json`.
        images: Numbers of images that the provenance of the training has.
    """
    if ours["epoch"] < 0:  # converted
        yield "by", "the publisher of the converted file"
        return
    recipe, choices = ours["config"]["recipe"], ours["choices"]
    count = images.get("train_images")
    yield "data", code(str(ours["dataset"])) + (f", {count:,} training images" if count else "")
    height, width = ours["preprocessing"]["image_size"]
    yield (
        "recipe",
        f"`recipe={choices.get('recipe')}`, {ours['epoch'] + 1} of {recipe.get('epochs')} epochs, "
        f"{height}x{width} pixels (height x width), batch size {recipe.get('batch_size')}",
    )
    optimizer = recipe.get("optimizer") or {}
    name = str(optimizer.get("_target_")).rpartition(".")[2]
    rate, decay = (optimizer.get(key) for key in ("lr", "weight_decay"))
    yield "optimizer", f"{name}, learning rate {rate}, weight decay {decay}"
    if ours["ema"]:
        yield "weights", "exponential moving average of the training"
    if averaged := ours.get("averaged"):
        yield "weights", f"average of {len(averaged)} epochs"
    if teacher := ours["distillation"]:
        yield "distillation", f"{teacher['kind']}, teacher {plain(teacher['teacher'])}"
    yield "seed", str(ours["config"].get("seed"))
    trained = ours["provenance"]["trained"]
    if trained:
        revision = trained["revision"]
        changes = " with uncommitted changes" if trained["uncommitted_changes"] else ""
        torch = (trained["packages"] or {}).get("torch")
        commit = f"commit `{revision}`{changes}, " if revision else ""
        yield "code", f"parcnet-train {ours.get('parcnet_train_version')}, {commit}torch {torch}"
