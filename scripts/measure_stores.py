"""Train from a folder, S3 and shards, and time their loaders: the table in docs/benchmarks.md.

The set is in ImageNet's layout; some images of each class are taken. The S3 server is one of this
machine, behind a proxy that waits 50 ms before each answer, and lets 1 % of the readings fail in
the ways of tests/object_store.py. Nothing is kept on this machine. In the environment of the tests:

    make stores
    .venv-stores/bin/python scripts/measure_stores.py CIFAR10 WORK --write docs/benchmarks.md
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import parcnet_train.build
from parcnet_train.config.compose import choices, compose_config, to_plain
from parcnet_train.report.measured import replace_part
from parcnet_train.sweeps.grid import register_resolvers

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from object_store import (  # type: ignore[import-not-found]
    KEYS,
    proxy,
    s3_server,
    upload,
)

PART = "stores"
LATENCY = 0.05  # seconds
FAULTS = 0.01  # share of the readings
WORKERS = 2
TRAINING = (
    *("data=imagefolder", "backbone=parcnet_xs", "recipe.image_size=32", "recipe.epochs=1"),
    *("backbone.meta_lengths=[8,4,2]", "recipe.batch_size=64", "data.cache_gb=0"),
    *(f"data.num_workers={WORKERS}", "trainer=cpu", "logger=csv"),
)


def main() -> None:
    """Train, time the loaders, print the table, and write it into a page if requested."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("root", type=Path, metavar="CIFAR10", help="folder with train/ and val/")
    parser.add_argument("work", type=Path, metavar="WORK", help="folder for everything else")
    parser.add_argument("--write", type=Path, help="Markdown file whose measured part is replaced")
    parser.add_argument("--per-class", type=int, default=500, help="training images per class")
    parser.add_argument("--repeats", type=int, default=3, help="timed epochs")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    folder, packed = work / "folder", work / "packed"
    images = take_some(arguments.root, folder, arguments.per_class)
    shutil.rmtree(packed, ignore_errors=True)
    os.environ.update(KEYS)
    run(
        "action=prepare", "prepare.pack=true", f"prepare.input={folder}", f"prepare.output={packed}"
    )
    with s3_server() as server, proxy(server, latency=LATENCY, rate=FAULTS) as slow:
        upload(folder, server, "folder")
        upload(packed, server, "packed")
        os.environ["AWS_ENDPOINT_URL"] = slow.url
        roots = {
            "folder": str(folder),
            "shards on this machine": str(packed),
            "objects in S3": "s3://folder",
            "shards in S3": "s3://packed",
        }
        weights = {}
        for name, root in roots.items():
            directory = work / "runs" / name.replace(" ", "_")
            shutil.rmtree(directory, ignore_errors=True)
            run(*TRAINING, f"data.root={root}", f"hydra.run.dir={directory}")
            weights[name] = hash_of(directory / "checkpoints" / "last.ckpt")
        speeds = time_all(roots, arguments.repeats)
        faults = sum(slow.counts.values()) - slow.counts["requests"]
        text = table(images, arguments.repeats, speeds, weights, slow.counts["requests"], faults)
    print(text)
    if arguments.write is not None:
        replace_part(arguments.write, PART, text)


def take_some(root: Path, folder: Path, count: int) -> int:
    """Copy some images of each class; a fourth as many for the validation. Return their number."""
    shutil.rmtree(folder, ignore_errors=True)
    total = 0
    for split, number in (("train", count), ("val", max(1, count // 4))):
        for place in sorted((root / split).iterdir()):
            target = folder / split / place.name
            target.mkdir(parents=True)
            for file in sorted(place.iterdir())[:number]:
                shutil.copyfile(file, target / file.name)
                total += 1
    return total


def run(*overrides: str) -> None:
    """Run a command of this package; end with its messages if it fails."""
    command = [sys.executable, "-m", "parcnet_train", *overrides]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def hash_of(checkpoint: Path) -> str:
    """Return a hash of the weights in a checkpoint."""
    import torch

    total = hashlib.sha256()
    for name, value in torch.load(checkpoint, weights_only=True)["state_dict"].items():
        total.update(name.encode() + value.numpy().tobytes())
    return total.hexdigest()[:12]


def time_all(roots: dict[str, str], repeats: int) -> dict[str, list[float]]:
    """Return the images per second of each source in each timed epoch, interleaved."""
    register_resolvers()
    datas = {}
    for name, root in roots.items():
        config, _ = compose_config([*TRAINING, f"data.root={root}"])
        plain = to_plain(config, choices(config.hydra)).values
        datas[name] = parcnet_train.build.build_data(plain)
        datas[name].setup("fit")
    speeds: dict[str, list[float]] = {name: [] for name in roots}
    for _ in range(repeats):
        for name, data in datas.items():
            loader = data.train_dataloader()
            start = time.perf_counter()
            images = sum(len(batch.images) for batch in loader)
            speeds[name].append(images / (time.perf_counter() - start))
            data.end_workers()
    return speeds


def table(
    images: int,
    repeats: int,
    speeds: dict[str, list[float]],
    weights: dict[str, str],
    requests: int,
    faults: int,
) -> str:
    """Return the results as Markdown.

    Args:
        images: Number of images of the set.
        repeats: Number of timed epochs.
        speeds: Images per second of each source in each epoch.
        weights: Hash of the final weights of the training from each source.
        requests: Number of readings of objects, with those of the trainings.
        faults: Number of readings that failed on purpose.
    """
    first = statistics.median(speeds["folder"])
    lines = [
        f"{images:,} images of CIFAR-10, medians of {repeats} epochs, {WORKERS} loader processes.",
        f"S3 is a server on this machine, {1000 * LATENCY:.0f} ms away; {faults:,} of {requests:,} "
        "readings failed on purpose. No copies were kept on this machine.",
        "",
        "| images from | images per second | of the folder's | final weights after one epoch |",
        "|---|---:|---:|---|",
    ]
    for name, each in speeds.items():
        speed = statistics.median(each)
        lines.append(f"| {name} | {speed:,.0f} | {speed / first:.2f} | `{weights[name]}` |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
