"""Data in an S3 server of this machine that is slow and makes errors, and shards of litData."""

import json
import os
import subprocess
import sys

import pytest
import torch

from object_store import KEYS, proxy, s3_server, upload

pytestmark = pytest.mark.stores


def weights_of(run):
    """Hashes of the final weights of a training."""
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return {name: value.numpy().tobytes() for name, value in state.items()}


TASKS = {
    "classification": ("imagefolder", "image_folder"),
    "detection": ("coco_format", "coco_folder"),
    "segmentation": ("voc_format", "voc_folder"),
}


@pytest.fixture(scope="module")
def server():
    with s3_server() as url:
        yield url


def command(tmp_path, *overrides, url=None, code=0):
    environment = {**os.environ, **KEYS, **({"AWS_ENDPOINT_URL": url} if url else {})}
    done = subprocess.run(
        [sys.executable, "-m", "parcnet_train", *overrides, f"paths.cache={tmp_path / 'cache'}"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def train(tmp_path, task, root, name, url=None, code=0, *overrides):
    said = command(
        tmp_path,
        *("debug=tiny", f"task={task}", f"data={TASKS[task][0]}", f"data.root={root}"),
        *("backbone=parcnet_xs", "recipe.image_size=64", "recipe.batch_size=2"),
        *("data.num_workers=2", f"hydra.run.dir={name}", "recipe.epochs=2"),
        *("trainer.limit_train_batches=1.0", "trainer.limit_val_batches=1.0"),
        *overrides,
        url=url,
        code=code,
    )
    return said, tmp_path / name


@pytest.mark.parametrize("task", TASKS)
def test_weights_are_those_of_a_training_from_a_folder(task, server, request, tmp_path_factory):
    folder = request.getfixturevalue(TASKS[task][1])
    work = tmp_path_factory.mktemp("work")
    command(
        work,
        "action=prepare",
        "prepare.pack=true",
        f"prepare.input={folder}",
        "prepare.output=packed",
    )
    for kind, source in (("objects", folder), ("shards", work / "packed")):
        upload(source, server, f"{task}-{kind}")
    _, expected = train(work, task, folder, "folder")
    _, packed = train(work, task, work / "packed", "packed")
    found = [packed]
    with proxy(server, latency=0.05, rate=0.4) as slow:
        for kind in ("objects", "shards"):
            _, run = train(work, task, f"s3://{task}-{kind}", kind, slow.url)
            found.append(run)
        assert sum(slow.counts.values()) - slow.counts["requests"] > 0, slow.counts
    for run in found:
        assert weights_of(run) == weights_of(expected), run


def test_store_that_fails_ends_the_training_in_one_line(server, image_folder, tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    client = upload(image_folder, server, "vanishing")
    with proxy(server) as slow:
        train(work, "classification", "s3://vanishing", "first", slow.url)
        client.put_object(Bucket="vanishing", Key="train/ant/0.png", Body=b"no image")
        slow.faults, slow.rate = ("error",), 1.0
        said, run = train(
            work, "classification", "s3://vanishing", "second", slow.url, 2, "data.cache_gb=0"
        )
    assert "Traceback" not in said
    assert said.count("error: ") == 1
    assert "s3://vanishing/" in said
    assert not (run / "results.json").exists() or "done" not in (run / "results.json").read_text()


def test_missing_bucket_and_wrong_keys_are_one_line(server, tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    said, _ = train(work, "classification", "s3://no-such-bucket", "run", server, 2)
    assert "Traceback" not in said
    assert "error: data.root=s3://no-such-bucket: s3://no-such-bucket cannot be listed" in said


def test_litdata_reads_the_shards(image_folder, tmp_path_factory):
    import litdata

    work = tmp_path_factory.mktemp("work")
    command(
        work,
        *("action=prepare", "prepare.pack=true", f"prepare.input={image_folder}"),
        "prepare.output=packed",
    )
    dataset = litdata.StreamingDataset(str(work / "packed"))
    found = dict(map(dataset.__getitem__, range(len(dataset))))
    images = [path for path in image_folder.rglob("*") if path.is_file()]
    assert found == {str(path.relative_to(image_folder)): path.read_bytes() for path in images}
    assert json.loads((work / "packed" / "prepare.json").read_text())["images"] == len(images)
