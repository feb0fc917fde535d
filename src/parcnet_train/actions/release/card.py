"""Model card of a release, `README.md`: YAML for the Hugging Face hub, then text for people."""

from __future__ import annotations

import json
import shlex
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from parcnet_train.actions.fit import counted_classes
from parcnet_train.actions.release.contents import other_arguments
from parcnet_train.actions.release.licenses import LICENSES
from parcnet_train.checkpoints.checkpoints import WEIGHTS
from parcnet_train.config.overrides import quoted
from parcnet_train.config.stored import PACKAGE
from parcnet_train.data.channels import RGB
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
UNKNOWN = "a data set that is not recorded"
SHOWN_CLASSES = 100
UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # Unicode's categories: control, surrogate, line ends
MOVING = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")  # write the rest elsewhere


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
    choices, metrics, dataset = ours["choices"], ours["metrics"], ours["dataset"]
    backbone, task = choices["backbone"], ours["task"]
    return (
        environment()
        .get_template("card.md.jinja")
        .render(
            front=front_matter(described, license_name),
            title=title_of(ours, code),
            kind=KINDS[task],
            network=code(f"backbone={backbone} head={choices['head']}"),
            backbone=one_line(backbone),
            task=task,
            license=license_name,
            classes_in_words=counted_classes(described["label_names"], task),
            parameters=f"{ours['parameters']:,}",
            converted={name: code(each) for name, each in ours.get("converted", {}).items()},
            metrics=list(shown_metrics(metrics)) if metrics else [],
            measured=" ".join(measured_on(metrics, described["num_classes"])) if metrics else "",
            dataset=code(dataset) if dataset else UNKNOWN,
            load=load_of(ours["config"]),
            in_timm="pretrained_cfg" in described,
            fine_tuning=fine_tuning_of(ours),
            preprocessing=list(preprocessing_of(ours["preprocessing"])),
            classes=classes_of(described["label_names"], ours),
            training=list(training_of(ours)),
            sha256=ours["sha256"],
        )
    )


def title_of(ours: Mapping[str, Any], shown: Callable[[str], str]) -> str:
    """Return the title of a card; names are written by a function."""
    backbone, dataset = ours["choices"]["backbone"], ours["dataset"]
    return f"{shown(backbone)} {f'on {shown(dataset)}' if dataset else 'for ' + ours['task']}"


def front_matter(described: Mapping[str, Any], license_name: str | None) -> str:
    """Return the YAML that the hub reads."""
    ours = described[OURS]
    task, backbone = ours["task"], one_line(ours["choices"]["backbone"])
    pipeline = PIPELINES[task]
    tags = [
        pipeline,
        *(["timm"] if "pretrained_cfg" in described else []),
        "parcnet-train",
        backbone,
    ]
    values: dict[str, Any] = {
        **license_of(license_name),
        "library_name": "parcnet-train",
        "pipeline_tag": pipeline,
        "tags": tags,
    }
    if metrics := ours["metrics"]:
        set_of = {
            "name": one_line(metrics["dataset"] or "unknown"),
            "type": one_line(metrics["data"]),
            "split": {"val": "validation"}.get(metrics["split"], metrics["split"]),
        }
        measured = [
            {"type": kind, "name": name, "value": metrics["values"][key]}
            for key, (kind, name) in METRICS.items()
            if key in metrics["values"]
        ]
        result = {"task": {"type": pipeline}, "dataset": set_of, "metrics": measured}
        values["model-index"] = [{"name": title_of(ours, one_line), "results": [result]}]
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def license_of(name: str | None) -> dict[str, str]:
    """Return a license as the hub names it: one of its own list, or `other` with a name."""
    if name is None:
        return {}
    known = name.lower() in LICENSES
    return (
        {"license": name.lower()} if known else {"license": "other", "license_name": one_line(name)}
    )


def code(text: Any) -> str:
    """Return text that Markdown shows as code, on one line."""
    return f"`{one_line(text).replace('`', '')}`"


def one_line(text: Any) -> str:
    """Return text with escapes for characters that end a line, or change the direction of it."""
    return "".join(
        char.encode("unicode_escape").decode("ascii")
        if unicodedata.category(char) in UNPRINTABLE or unicodedata.bidirectional(char) in MOVING
        else char
        for char in str(text)
    )


def shown_metrics(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield names and values of the metrics in the card."""
    for key, (_, name) in METRICS.items():
        if key in metrics["values"]:
            yield name, f"{100 * metrics['values'][key]:.2f} %"


def measured_on(metrics: Mapping[str, Any], classes: int) -> Iterator[str]:
    """Yield what metrics were measured on, in sentences.

    Args:
        metrics: Metrics, see `runs.evaluations.measured`.
        classes: Number of classes of the network.
    """
    name, size, evaluator = (metrics[key] for key in ("dataset", "image_size", "evaluator"))
    count = f"{metrics['images']:,} images" if metrics["images"] else None
    pixels = f"{size[0]}x{size[1]} pixels" if size else None
    counted = ", ".join(filter(None, [count, pixels]))
    words = f"Measured on the {SPLITS[metrics['split']]} of {code(name) if name else UNKNOWN}"
    words += f" ({counted})" if counted else ""
    words += f", with the weights of epoch {metrics['epoch']}" if metrics["epoch"] else ""
    yield f"{words}, by {code(evaluator)}." if evaluator else f"{words}."
    if metrics["evaluated_classes"]:
        yield f"Only {metrics['evaluated_classes']:,} of {classes:,} classes were evaluated."
    averaged = [f"scales {metrics['scales']}"] if (metrics["scales"] or [1]) != [1] else []
    averaged += ["the image and its mirror image"] if metrics["mirror"] else []
    if averaged:
        yield f"The probabilities are averages over {' and '.join(averaged)}."
    if metrics["chosen"] and metrics["epoch"]:
        metric = METRICS.get(metrics["metric"], ("", code(metrics["metric"])))[1]
        yield (
            f"This epoch was chosen by its {metric} on the same images, so expect a slightly lower "
            "value on others."
        )


def load_of(config: Mapping[str, Any]) -> str:
    """Return the call that loads a release; packages of your own must be named."""
    used = {str(config[part]["_target_"]).partition(".")[0] for part in ("backbone", "head")}
    names = sorted(used - {PACKAGE})
    packages = f", packages={json.dumps([PACKAGE, *names])}" if names else ""
    return f'parcnet_train.load("PATH"{packages})'


def fine_tuning_of(ours: Mapping[str, Any]) -> str:
    """Return the overrides of a training that starts from a release."""
    choices, channels = ours["choices"], ours["preprocessing"]["channels"]
    own = {name: each for name, each in other_arguments(ours).items() if name != WEIGHTS}
    data = {"classification": "imagefolder", "detection": "coco_format"}
    words = [f"task={choices['task']}", f"backbone={choices['backbone']}"]
    words += [f"backbone.{name}={word_of(value)}" for name, value in own.items()]
    words += ["backbone.pretrained=PATH", f"data={data.get(choices['task'], 'voc_format')}"]
    words += ["data.root=DATA", *([] if channels == RGB else [f"data.channels={channels}"])]
    return one_line(shlex.join([*words, "recipe=finetune"]))


def word_of(value: Any) -> str:
    """Return a value as it is typed."""
    if isinstance(value, str) and value.isidentifier():
        return value
    return quoted(value) if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


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
        return f"There are no names: {counted_classes(names, ours['task'])}."
    shown = ", ".join(map(code, names[:SHOWN_CLASSES]))
    rest = len(names) - SHOWN_CLASSES
    more = f", and {rest:,} more in `config.json`" if rest > 0 else ""
    return f"In the order of the outputs: {shown}{more}."


def training_of(ours: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield how the network was trained, by names; see `config_of`."""
    if ours["epoch"] < 0:  # converted
        yield "by", "the publisher of the converted file"
        return
    recipe, choices = ours["config"]["recipe"], ours["choices"]
    trained = ours["provenance"]["trained"] or {}
    count = (trained.get("data") or {}).get("train_images")
    name = code(ours["dataset"]) if ours["dataset"] else UNKNOWN
    yield "data", name + (f", {count:,} training images" if count else "")
    height, width = ours["preprocessing"]["image_size"]
    yield (
        "recipe",
        f"{code('recipe={}'.format(choices.get('recipe')))}, {ours['epoch'] + 1} of "
        f"{code(recipe.get('epochs'))} epochs, {height}x{width} pixels (height x width), "
        f"batch size {code(recipe.get('batch_size'))}",
    )
    optimizer = recipe.get("optimizer") or {}
    yield (
        "optimizer",
        f"{code(str(optimizer.get('_target_')).rpartition('.')[2])}, learning rate "
        f"{code(optimizer.get('lr'))}, weight decay {code(optimizer.get('weight_decay'))}",
    )
    if ours["ema"]:
        yield "weights", "exponential moving average of the training"
    if averaged := ours.get("averaged"):
        yield "weights", f"average of {len(averaged)} epochs"
    if teacher := ours["distillation"]:
        yield "distillation", f"{code(teacher['kind'])}, teacher {code(teacher['teacher'])}"
    yield "seed", code(ours["config"].get("seed"))
    if trained:
        changes = " with uncommitted changes" if trained["uncommitted_changes"] else ""
        commit = f"commit {code(trained['revision'])}{changes}, " if trained["revision"] else ""
        torch = (trained["packages"] or {}).get("torch")
        version = code(ours["parcnet_train_version"])
        yield "code", f"parcnet-train {version}, {commit}torch {code(torch)}"
