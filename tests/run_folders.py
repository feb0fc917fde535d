"""Made-up run directories, like those of trainings."""

import csv
import json
import os

from parcnet_train.report.paper.tables import TABLE_2, TASKS

DATA = {
    "classification": "demo",
    "detection": "demo_detection",
    "segmentation": "demo_segmentation",
}
HASH = "0" * 64


def results_of(number, seed, metric, /, **changes):
    """Return a results.json for a row of Table 2; the metric is a fraction."""
    row = TABLE_2[number - 1]
    task = next(task for task, (name, *_) in TASKS.items() if name == row.metric_name)
    return {
        "status": "done",
        "action": "fit",
        "task": task,
        "head": "head",
        "data": DATA[task],
        "backbone": "mobilevit_s" if row.model == "MobileViT-S" else "parcnet_s",
        "recipe": "imagenet_300e",
        "experiment": None,
        "debug": None,
        "epochs": 2,
        "ablation": f"table2_row{number}",
        "monitor": row.metric_name,
        "seed": seed,
        "parameters": round(row.parameters * 1e6) + 3,
        row.metric_name: metric,
        "parcnet_train_version": "0.1.0",
        "torch_version": "2.13.0",
        "config_hash": f"{number}-{seed}",
        **changes,
    }


def provenance_of(seed, lr=0.002, overrides=(), **changes):
    """Return the content of a provenance.json."""
    config = {
        "action": "fit",
        "seed": seed,
        "paths": {"runs": f"runs{seed}"},
        "data": {"root": "/data", "num_workers": seed, "seed": seed},
        "recipe": {"epochs": 2, "optimizer": {"lr": lr}},
        "trainer": {"max_epochs": 2},
        "backbone": {"depths": [2, 4, 3], "pretrained": None},
    }
    return {
        "config": config,
        "overrides": [*overrides],
        "git": None,
        "packages": {"torch": "2.13.0"},
        "python": "3.12.3",
        "hardware": {"host": "a", "gpus": []},
        "data": {"train_images": 10, "val_images": 5, "files_sha256": HASH},
        "sessions": [{"started": "2026-01-01T10:00:00", "ended": None, "world_size": 1}],
        **changes,
    }


def write_run(folder, results, provenance=None, ended=None, curve=()):
    """Write a run directory; `ended` is its end in seconds, `curve` the metric of each epoch."""
    folder.mkdir(parents=True)
    path = folder / "results.json"
    path.write_text(results if isinstance(results, str) else json.dumps(results))
    if provenance is not None:
        (folder / "provenance.json").write_text(json.dumps(provenance))
    if ended is not None:
        os.utime(path, (ended, ended))
    if curve:
        csv_folder = folder / "csv" / "version_0"
        csv_folder.mkdir(parents=True)
        with (csv_folder / "metrics.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, ("epoch", "step", results["monitor"]))
            writer.writeheader()
            for epoch, value in enumerate(curve):
                writer.writerow({"epoch": epoch, "step": 7 * epoch, results["monitor"]: value})
    return folder


def write_row(folder, number, metrics, provenance=None, **changes):
    """Write the runs of a row, one per metric, with seeds from 0."""
    for seed, metric in enumerate(metrics):
        told = None if provenance is None else provenance_of(seed, **provenance)
        results = results_of(number, seed, metric, **changes)
        write_run(folder / f"row{number}-{seed}", results, told, curve=(metric / 2, metric))
