"""The page of a run, `report.html`: what it says, and how it is made from the run directory."""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger

from parcnet_train.build import Config, build_model, meta_device
from parcnet_train.callbacks.pictures import log_picture
from parcnet_train.config.sections import Paths
from parcnet_train.config.typed import section
from parcnet_train.data.decoding import read_image
from parcnet_train.data.headers import MAX_PIXELS
from parcnet_train.errors import first_line
from parcnet_train.files import write_whole
from parcnet_train.models.profiling.counts import counts
from parcnet_train.pages.curves import curve_blocks
from parcnet_train.pages.data import data_blocks
from parcnet_train.pages.figures import inline
from parcnet_train.pages.parts import PICTURES, VALUES, raster_files, save, save_values
from parcnet_train.pages.quality import Quality
from parcnet_train.report.ablation import PAPER_DATA
from parcnet_train.report.paper.rows import ROWS
from parcnet_train.runs.directories import PAGE, PROVENANCE, RESULTS, read_values
from parcnet_train.tasks.base import Task
from parcnet_train.visualize.pages import data_url, render

log = logging.getLogger(__name__)

LOG = "parcnet_train.log"
WARNING = re.compile(r"^\d{4}-\d\d-\d\d [\d:,]+ WARNING (.*)$", re.MULTILINE)
MOST_WARNINGS = 30
ORDER = ("curves", "quality", "examples", "batches", "data")  # of the sections
PER_CLASS = ("val/ap/", "val/iou/")  # metrics that a section about the quality has
SIZES = {"small": "below 32²", "medium": "32² to 96²", "large": "above 96²"}  # COCO's, in pixels


def publish(
    config: Config,
    task: Task,
    data: Any,
    quality: Quality | None,
    loggers: Sequence[Logger] = (),
    step: int = 0,
) -> None:
    """Write the page of a run that has just ended, and log its pictures; a failure is a warning.

    Args:
        config: The whole configuration; its run directory has `results.json`.
        task: Task of the run.
        data: Data module, whose sets are created.
        quality: Findings of the last evaluation; None without pictures.
        loggers: Loggers of the training.
        step: Step at which the pictures are logged.
    """
    folder = Path(section(Paths, config).output)
    try:
        with meta_device():
            model = build_model(config, len(data.class_names))
        cost = counts(model, data.image_size).multiply_adds
        save_values(folder, {"multiply_adds": cost, "image_size": list(data.image_size)})
        if quality is not None:
            for key, (title, blocks) in quality.sections(task, data).items():
                save(folder, key, title, blocks)
            save(folder, "data", "Data", data_blocks(data))
        write_page(folder)
        for file in raster_files(folder):
            log_picture(loggers, f"report/{file.stem}", read_image(file, MAX_PIXELS), step)
    except Exception as error:  # no error of the page may harm a run
        log.warning("%s is incomplete: %s", folder / PAGE, first_line(error))


def write_page(folder: Path) -> None:
    """Write the page of a finished run from what its directory contains.

    Args:
        folder: Run directory with `results.json`; `report.json`, `provenance.json`, the CSV logs
            and the log of the run add to the page.
    """
    results = read_values(folder / RESULTS)
    provenance = read_values(folder / PROVENANCE)
    blocks = curve_blocks(folder, results["monitor"])
    if blocks:
        save(folder, "curves", "Curves", blocks)
    values = read_values(folder / VALUES)
    sections = values.get("sections", {})
    page = render(
        "parcnet_train.pages",
        "run.html.jinja",
        title=f"{results.get('backbone')} on {results.get('data')}",
        verdict=verdict(results),
        facts=list(facts(results, provenance, values)),
        command=command_of(provenance),
        warnings=warnings_of(folder / LOG),
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
    measured = "is unknown" if value is None else f"{100 * value:.2f} %"
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
    yield (
        "Time",
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


def command_of(provenance: Mapping[str, Any]) -> str:
    """Return the command that repeats a run; empty if it is not known."""
    if "overrides" not in provenance:
        return ""
    # Of a test, the overrides include those of its checkpoint; the last one of a key counts.
    last = {str(each).partition("=")[0].strip("'"): str(each) for each in provenance["overrides"]}
    return shlex.join(["python", "-m", "parcnet_train", *last.values()])


def warnings_of(file: Path) -> list[str]:
    """Return the different warnings in the log of a run, the first ones."""
    try:
        text = file.read_text("utf-8", "replace")
    except OSError:
        return []
    return list(dict.fromkeys(WARNING.findall(text)))[:MOST_WARNINGS]


def metrics_of(results: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the metrics of the whole set by their names, shares in percent."""
    for name, value in results.items():
        if not name.startswith("val/") or name.startswith(PER_CLASS) or value is None:
            continue
        key = name.removeprefix("val/")
        size = SIZES.get(key.rpartition("_")[2])
        label = f"{key} (area {size} pixels)" if size else key
        is_share = key not in ("loss", "skipped")
        yield label, f"{100 * value:.2f} %" if is_share else f"{value:.4g}"
