"""The page of a run, `report.html`: what it says, and how it is made from the run directory."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger

from parcnet_train.build import Config, build_model, meta_device
from parcnet_train.callbacks.pictures import LOGGERS, log_picture
from parcnet_train.config.overrides import quoted
from parcnet_train.config.sections import Paths
from parcnet_train.config.typed import section
from parcnet_train.data.decoding import read_image
from parcnet_train.data.headers import MAX_PIXELS
from parcnet_train.files import write_whole
from parcnet_train.models.profiling.counts import counts
from parcnet_train.pages.batches import FIRST_BATCHES
from parcnet_train.pages.curves import curve_blocks
from parcnet_train.pages.figures import inline
from parcnet_train.pages.parts import (
    PICTURES,
    VALUES,
    harmless,
    raster_files,
    save,
    save_values,
    sections_of,
)
from parcnet_train.pages.quality import Quality
from parcnet_train.report.ablation import PAPER_DATA
from parcnet_train.report.paper.rows import ROWS
from parcnet_train.runs.directories import PAGE, PROVENANCE, RECORD, RESULTS, read_values
from parcnet_train.tasks.base import Task
from parcnet_train.visualize.pages import data_url, render

LOG = "parcnet_train.log"
PLAIN = re.compile(r"[\w./~-]+")  # a path that neither Hydra nor a shell needs quoted
WARNING = re.compile(r"^\d{4}-\d\d-\d\d [\d:,]+ WARNING (.*)$", re.MULTILINE)
MOST_WARNINGS = 30
ORDER = ("curves", "quality", "examples", FIRST_BATCHES, "data")  # of the sections
PER_CLASS = ("val/ap/", "val/iou/")  # metrics that a section about the quality has
SHARES = re.compile(r"(raw/)?(top[15]|m(ap|ar)(50|75)?(_\w+)?|miou|pixel_accuracy)")
SIZES = {"small": "below 32²", "medium": "32² to 96²", "large": "above 96²"}  # COCO's, in pixels


def publish(
    config: Config,
    task: Task,
    data: Any,
    quality: Quality | None,
    loggers: Sequence[Logger] = (),
    step: int = 0,
) -> None:
    """Write the page of a run that has just ended, and log its pictures.

    A part that fails is left out with a warning, and the page has the others.

    Args:
        config: The whole configuration; its run directory has `results.json`.
        task: Task of the run.
        data: Data module, whose sets are created.
        quality: Findings of the last evaluation; None without pictures.
        loggers: Loggers of the training.
        step: Step at which the pictures are logged.
    """
    folder = Path(section(Paths, config).output)
    with harmless(folder, "the multiply-adds are left out"):
        with meta_device():
            model = build_model(config, len(data.class_names))
        cost = counts(model, data.image_size).multiply_adds
        save_values(folder, {"multiply_adds": cost, "image_size": list(data.image_size)})
    if quality is not None:
        for key, title, blocks in quality.sections(task, data):
            with harmless(folder, f"the section {title} is left out"):
                save(folder, key, title, blocks())
    with harmless(folder, "it is not written"):
        write_page(folder)
    shown = [each for each in loggers if isinstance(each, LOGGERS)]
    if shown:
        with harmless(folder, "its pictures are not logged"):
            for file in raster_files(folder):
                log_picture(shown, f"report/{file.stem}", read_image(file, MAX_PIXELS), step)


def write_page(folder: Path) -> None:
    """Write the page of a finished run from what its directory contains.

    Args:
        folder: Run directory with `results.json`; `report.json`, `provenance.json`, the CSV logs
            and the log of the run add to the page.
    """
    results = read_values(folder / RESULTS)
    provenance = read_values(folder / PROVENANCE)
    with harmless(folder, "the section Curves is left out"):
        if blocks := curve_blocks(folder, results["monitor"]):
            save(folder, "curves", "Curves", blocks)
    values = read_values(folder / VALUES)
    sections = sections_of(folder)
    page = render(
        "parcnet_train.pages",
        "run.html.jinja",
        title=f"{results.get('backbone')} on {results.get('data')}",
        verdict=verdict(results),
        facts=list(facts(results, provenance, values)),
        command=command_of(provenance, read_values(folder / RECORD)),
        warnings=warnings_of(folder / LOG),
        most_warnings=MOST_WARNINGS,
        metrics=list(metrics_of(results)),
        sections=[(key, sections[key]) for key in ORDER if key in sections],
        picture=lambda file: picture_of(folder / PICTURES / file),
    )
    write_whole(folder / PAGE, page)


def picture_of(file: Path) -> dict[str, str]:
    """Return a picture for the page: the text of an SVG file, or the address of a JPEG."""
    content = file.read_bytes()
    return {"svg": inline(content)} if file.suffix == ".svg" else {"url": data_url(content)}


def verdict(results: Mapping[str, Any]) -> str:
    """Return the metric of a run as a sentence."""
    name = str(results["monitor"]).removeprefix("val/")
    value = results.get(results["monitor"])
    measured = "is unknown" if value is None else shown_value(name, value)
    split = {"test": "test set"}.get(str(results.get("split")), "validation set")
    epoch = results.get("checkpoint_epoch")
    if results.get("action") != "fit":
        return f"{name} {measured} on the {split} (checkpoint of epoch {epoch})"
    return f"{name} {measured} on the {split} (best epoch: {epoch} of {results.get('epochs')})"


def facts(
    results: Mapping[str, Any], provenance: Mapping[str, Any], values: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """Yield the facts at the top of the page by their names, as far as they are known."""
    row = ROWS.get(str(results.get("ablation")))
    if row is not None:
        paper = f"{row.metric} % on {PAPER_DATA[str(results['task'])][0]}"
        yield "Paper", f"{paper} (Table 2, row {row.number})"
    yield "Network", f"backbone={results.get('backbone')} head={results.get('head')}"
    yield "Parameters", f"{results.get('parameters', 0):,}"
    if "multiply_adds" in values:
        height, width = values["image_size"]
        yield "Multiply-adds", f"{values['multiply_adds']:,} for one image of {width}x{height}"
    known = provenance.get("data") or {}
    images = [
        f"{known[key]:,} {key[:-7]}" for key in known if key.endswith("_images") and known[key]
    ]
    yield "Data", ", ".join([f"data={results.get('data')}", *images])
    yield "Recipe", ", ".join(recipe_of(results))
    pace = results.get("train/images_per_second")
    sessions = provenance.get("sessions") or []
    yield (
        "Time of the last session" if len(sessions) > 1 else "Time",
        str(timedelta(seconds=round(results.get("seconds", 0))))
        + (f", {pace:.3g} images/s in the last epoch" if pace else ""),
    )
    yield from devices_of(provenance)
    versions = {name: results.get(f"{name}_version") for name in ("parcnet_train", "torch")}
    yield "Versions", ", ".join(f"{name} {version}" for name, version in versions.items())
    if stopped := results.get("stopped"):
        yield "Stopped early", str(stopped)


def recipe_of(results: Mapping[str, Any]) -> Iterator[str]:
    """Yield how a run was trained, in words."""
    yield f"recipe={results.get('recipe')}"
    for name in ("epochs", "steps"):
        if name in results:
            yield f"{results[name]:,} {name}"
    yield f"seed {results.get('seed')}"


def devices_of(provenance: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield on what a run was computed."""
    hardware = provenance.get("hardware")
    if hardware:
        processes = (provenance.get("sessions") or [{}])[-1].get("world_size", 1)
        gpus = hardware.get("gpus") or []
        device = gpus[0] if gpus else f"{hardware.get('cpu')}, {hardware.get('cores')} cores"
        yield "Device", f"{device}; {processes} process{'es' if processes != 1 else ''}"


def command_of(provenance: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """Return the command that repeats a run; empty if it is not known.

    Args:
        provenance: Its overrides include the choices that the checkpoint of an evaluation makes.
        record: `run.json`: the overrides that were typed.
    """
    if "overrides" not in provenance:
        return ""
    last = {
        key_of(each): str(each) for each in provenance["overrides"]
    }  # of each key, which counts
    if provenance["config"]["action"] == "fit":
        last.pop("ckpt", None)  # with it, a training ends at once: it is finished
    else:
        if typed := {key_of(each) for each in record.get("overrides", ())}:
            last = {key: each for key, each in last.items() if key in typed}
        if isinstance(path := provenance["config"].get("ckpt"), str):
            last["ckpt"] = f"ckpt={path if PLAIN.fullmatch(path) else quoted(path)}"
    return shlex.join(["python", "-m", "parcnet_train", *last.values()])


def key_of(override: str) -> str:
    """Return the key of an override, without quotes and the plus signs of a new key."""
    return str(override).partition("=")[0].strip("'+")


def warnings_of(file: Path) -> list[str]:
    """Return the different warnings in the log of a run."""
    try:
        text = file.read_text("utf-8", "replace")
    except OSError:
        return []
    return list(dict.fromkeys(WARNING.findall(text)))


def metrics_of(results: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the metrics of the whole set by their names."""
    for name, value in results.items():
        if not name.startswith("val/") or name.startswith(PER_CLASS) or value is None:
            continue
        key = name.removeprefix("val/")
        size = SIZES.get(key.rpartition("_")[2])
        label = f"{key} (area {size} pixels)" if size else key
        yield label, shown_value(key, value)


def shown_value(key: str, value: float) -> str:
    """Return a metric as text: in percent if it is known to be a share.

    Args:
        key: Name of the metric without `val/`.
        value: Its value.
    """
    return f"{100 * value:.2f} %" if SHARES.fullmatch(key) else f"{value:.4g}"
