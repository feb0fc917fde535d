"""Training, evaluation and resuming, in the test process: two steps on the digits."""

import csv
import json
import logging
import math
import multiprocessing
import re
import shutil
import signal

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

import parcnet_train
from documentation import RESULTS
from parcnet_train.actions import fit as training
from parcnet_train.actions import starting
from parcnet_train.callbacks.saving import Stopped
from parcnet_train.checkpoints.checkpoints import check_same_classes, model_state
from parcnet_train.checkpoints.reading import read_checkpoint
from parcnet_train.errors import CheckpointError, ConfigError, DataError, TrainingError
from parcnet_train.runs.directories import read_values
from parcnet_train.tasks.base import Task
from running import TINY, TRAINED, configure, run

# The first step ruins the weights.
DIVERGING = [*TRAINED, "recipe.optimizer.lr=100", "recipe.optimizer.weight_decay=1e36"]


KEYS = {
    *("status", "action", "task", "backbone", "head", "data", "recipe", "trainer", "logger"),
    *(
        "experiment",
        "ablation",
        "sweep",
        "debug",
        "config_hash",
        "monitor",
        "split",
        "images",
        "parameters",
        "seed",
        "run_dir",
    ),
    *(
        "parcnet_train_version",
        "torch_version",
        "checkpoint",
        "checkpoint_epoch",
        "seconds",
        "checkpoint_sha256",
    ),
    *("val/top1", "val/top5", "val/loss", "val/skipped"),
}


FIT_KEYS = {
    *(
        "epochs",
        "steps",
        "stopped",
        "pruned",
        "skipped_steps",
        "train/loss",
        "train/skipped",
        "train/images_per_second",
    ),
}


def rows(output, column):
    found = []
    for file in sorted(output.glob("csv/version_*/metrics.csv")):
        with file.open() as stream:
            found += [float(row[column]) for row in csv.DictReader(stream) if row.get(column)]
    return found


def test_fit_leaves_results_checkpoints_curves_and_metrics(trained):
    output, results = trained
    assert results == json.loads((output / "results.json").read_text())
    assert results.keys() == KEYS | FIT_KEYS
    assert (results["status"], results["action"], results["epochs"]) == ("done", "fit", 1)
    assert (results["steps"], results["backbone"], results["debug"]) == (2, "parcnet_xs", "tiny")
    assert results["checkpoint"] == str(output / "checkpoints" / "best.ckpt")
    assert (output / "checkpoints" / "last.ckpt").is_file()
    assert (output / "pictures" / "curve_loss.png").read_bytes().startswith(b"\x89PNG")
    assert len(rows(output, "train/loss_step")) == 2
    assert rows(output, "val/top1") == [results["val/top1"]]


def test_classes_are_counted_without_the_background():
    names = ["background", "cat", "dog"]
    assert training.counted_classes(names, "detection") == "2 classes and the background"
    assert training.counted_classes(names, "classification") == "3 classes"
    assert training.counted_classes(["cat"], "classification") == "1 class"


def test_every_results_key_is_documented():
    assert [key for key in KEYS | FIT_KEYS if f"`{key}`" not in RESULTS] == []


def test_a_checkpoint_holds_the_whole_state_as_plain_values(trained):
    output, _ = trained
    checkpoint = torch.load(output / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["config"]["backbone"]["widths"] == [96, 128, 160]
    assert checkpoint["choices"]["backbone"] == "parcnet_xs"
    assert checkpoint["class_names"] == list("0123456789")
    assert checkpoint["global_step"] == 2
    assert checkpoint["optimizer_states"][0]["state"]
    assert checkpoint["position"] == {"epoch": 1, "step": 0, "samples": 0}
    assert "current_model_state" in checkpoint  # beside the EMA weights in state_dict


@pytest.mark.parametrize(("reference_batch", "decay"), [(4, 0.75), (8, math.sqrt(0.75))])
def test_ema_follows_its_formula(reference_batch, decay, tmp_path):
    # A step of half the reference batch: two of them decay as one would.
    settings = [*TINY, f"recipe.reference_batch={reference_batch}", "recipe.ema.decay=0.75"]
    settings += ["recipe.schedule.warmup_steps=100", "recipe.ema.warmup=false"]

    def weights(steps):
        run([*settings, f"trainer.limit_train_batches={steps}"], tmp_path / f"{steps}")
        checkpoint = read_checkpoint(tmp_path / f"{steps}" / "checkpoints" / "last.ckpt")
        states = (model_state(checkpoint, ema) for ema in (True, False))
        return [state["head.linear.weight"].double() for state in states]

    values, faults = configure(settings, tmp_path)
    assert faults == []
    _, untrained = training.prepare(values)
    start = untrained.model.head.linear.weight.detach().double()
    first_ema, first = weights(1)
    second_ema, second = weights(2)
    assert not torch.equal(first, second)
    expected = decay * start + (1 - decay) * first
    torch.testing.assert_close(first_ema, expected, rtol=1e-5, atol=1e-8)
    expected = decay * first_ema + (1 - decay) * second
    torch.testing.assert_close(second_ema, expected, rtol=1e-5, atol=1e-8)


def test_test_action_gives_the_metrics_of_fit(trained, tmp_path):
    output, fitted = trained
    results = run([*TINY, "action=test", f"ckpt={output}"], tmp_path)
    assert results.keys() == KEYS
    for name in ("val/top1", "val/top5", "val/loss"):
        assert results[name] == fitted[name]
    assert results["checkpoint"] == str(output / "checkpoints" / "best.ckpt")


def test_metrics_equal_those_of_the_loaded_model(trained, tmp_path):
    output, _ = trained
    whole = [*TINY, "recipe.batch_size=64", "trainer.limit_val_batches=1.0"]
    values, _ = configure(whole)
    results = run([*whole, "action=test", f"ckpt={output}"], tmp_path)
    data = parcnet_train.build.build_data(values)
    data.setup("validate")
    model = parcnet_train.load(output / "checkpoints" / "best.ckpt")
    with torch.inference_mode():
        batches = [(model(b.images).double(), b.labels) for b in data.val_dataloader()]
    logits, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    logits, labels = logits[labels >= 0], labels[labels >= 0]  # without the places that are empty
    ranks = logits.argsort(1, descending=True)
    assert results["val/top1"] == pytest.approx((ranks[:, 0] == labels).double().mean().item())
    in_five = (ranks[:, :5] == labels[:, None]).any(1)
    assert results["val/top5"] == pytest.approx(in_five.double().mean().item())
    loss = torch.nn.functional.cross_entropy(logits, labels).item()
    assert results["val/loss"] == pytest.approx(loss, rel=1e-5)


def test_same_seed_same_losses_other_seed_others(trained, tmp_path):
    losses = {}
    for seed in (0, 1):
        run([*TRAINED, f"seed={seed}"], tmp_path / f"{seed}")
        losses[seed] = rows(tmp_path / f"{seed}", "train/loss_step")
    assert losses[0] == rows(trained[0], "train/loss_step")
    assert losses[0] != losses[1]


def stop_before_epoch(number):
    def hook(task):
        if task.current_epoch == number:
            raise KeyboardInterrupt

    return hook


def test_resuming_draws_and_loses_what_was_never_stopped(tmp_path, monkeypatch):
    overrides = [*TINY, "trainer.max_epochs=2", "recipe.epochs=2"]
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    run(overrides, straight)
    # As a run that is killed leaves it: the schedule is that of two epochs.
    monkeypatch.setattr(Task, "on_train_epoch_start", stop_before_epoch(1), raising=False)
    with pytest.raises(SystemExit):
        run(overrides, resumed)
    monkeypatch.undo()
    results = run([*overrides, f"ckpt={resumed}"], resumed)
    assert (results["epochs"], results["steps"]) == (2, 4)
    for column in ("train/loss_step", "train/lr", "val/loss"):
        assert rows(resumed, column) == rows(straight, column), column
    assert len(rows(resumed, "train/loss_step")) == 4


def test_resuming_a_finished_run_writes_its_results(resumable, trained):
    (resumable / "results.json").unlink()
    results = run([*TRAINED, f"ckpt={resumable}"], resumable)
    for key in ("val/top1", "val/loss", "epochs", "steps", "checkpoint"):
        assert results[key] == trained[1][key]
    assert results["train/loss"] is None
    with pytest.raises(CheckpointError, match=r"trained for 1 epochs, trainer.max_epochs=0"):
        starting.refuse_finished({"epoch": 0, "position": {"epoch": 1}}, resumable, 0, resumable)


def test_a_finished_run_is_not_continued_elsewhere(trained, tmp_path):
    file = tmp_path / "elsewhere.ckpt"
    shutil.copy(trained[0] / "checkpoints" / "last.ckpt", file)
    with pytest.raises(CheckpointError, match=r"max_epochs=1; expected more. Fix: raise recipe.ep"):
        run([*TINY, f"ckpt={file}"], tmp_path / "run")


@pytest.mark.parametrize("overrides", [[], ["ckpt=elsewhere.ckpt"]], ids=str)
def test_a_run_does_not_overwrite_another(overrides, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained[0] / "checkpoints", "run/checkpoints")
    shutil.copy("run/checkpoints/last.ckpt", "elsewhere.ckpt")
    with pytest.raises(CheckpointError, match=r"last\.ckpt of another .* ckpt=run"):
        run([*TINY, *overrides], "run")


@pytest.mark.parametrize("set_", ["train", "val"])
def test_a_share_of_less_than_one_batch_is_one_line(set_, tmp_path):
    with pytest.raises(ConfigError, match=rf"trainer: .*limit_{set_}_batches") as caught:
        run([*TINY, f"trainer.limit_{set_}_batches=0.001"], tmp_path)
    assert "\n" not in str(caught.value)


def test_an_evaluation_ends_at_sigterm(trained, tmp_path, monkeypatch):
    before, seen = signal.getsignal(signal.SIGTERM), []
    look = lambda task: seen.append(signal.getsignal(signal.SIGTERM))  # noqa: E731
    monkeypatch.setattr(Task, "on_validation_start", look)
    run([*TINY, "action=test", f"ckpt={trained[0]}"], tmp_path)
    assert seen == [before]


def test_an_interrupted_run_without_a_checkpoint_names_none(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(Task, "on_train_epoch_start", stop_before_epoch(0), raising=False)
    with caplog.at_level(logging.WARNING), pytest.raises(SystemExit) as caught:
        run([*TINY], tmp_path)
    assert caught.value.code == 130
    assert "stopped in epoch 1; nothing is saved yet" in caplog.text


def test_an_epoch_without_validation_and_rows_trains(tmp_path):
    settings = ["trainer.check_val_every_n_epoch=2", "trainer.log_every_n_steps=10"]
    assert run([*TINY, *settings, "trainer.max_epochs=2"], tmp_path)["epochs"] == 2


# Lightning tells of callbacks that came or went; so does our comparison of the configurations.
@pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint")
@pytest.mark.filterwarnings("ignore:The checkpoint was not created with WeightAveraging")
@pytest.mark.parametrize(
    ("before", "after"),
    [("recipe.ema.decay=0.5", "null"), pytest.param("null", "on", marks=pytest.mark.slow)],
)
def test_ema_can_be_switched_when_resuming(before, after, tmp_path):
    on = ["recipe.ema.decay=0.5"]
    run([*TINY, *(on if before != "null" else ["recipe.ema=null"])], tmp_path)
    trained = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    overrides = [*TINY, *(on if after == "on" else ["recipe.ema=null"]), "trainer.max_epochs=2"]
    # A learning rate that moves nothing: what is saved again is what was gone on from.
    still = ["recipe.optimizer.lr=1e-30", "recipe.schedule.warmup_steps=0"]
    run([*overrides, *still, "recipe.schedule.min_lr=0", f"ckpt={tmp_path}"], tmp_path)
    resumed = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    name = "head.linear.weight"
    expected = model_state(trained, ema=False)[name]
    torch.testing.assert_close(model_state(resumed, ema=False)[name], expected)


@pytest.mark.parametrize(
    ("error", "code"),
    [(KeyboardInterrupt(), 130), (Stopped(signal.SIGTERM), 143), (Stopped(signal.SIGUSR1), 138)],
    ids=str,
)
def test_a_stopped_run_says_how_to_go_on(error, code, tmp_path, monkeypatch, caplog):
    def stop(*arguments, **settings):
        (tmp_path / "checkpoints").mkdir()
        (tmp_path / "checkpoints" / "last.ckpt").touch()
        raise error

    monkeypatch.setattr(pl.Trainer, "fit", stop)
    with caplog.at_level(logging.WARNING), pytest.raises(SystemExit) as caught:
        run([*TINY], tmp_path)
    assert caught.value.code == code
    assert f"stopped in epoch 1; to resume, repeat the command with ckpt={tmp_path}" in caplog.text


def test_a_resumed_run_obeys_its_new_configuration(resumable, caplog):
    overrides = ["trainer.max_epochs=2", "recipe.optimizer.lr=0.004", "recipe.schedule.min_lr=0"]
    overrides += ["recipe.optimizer.weight_decay=0.5"]
    with caplog.at_level(logging.WARNING):
        run([*TRAINED, *overrides, f"ckpt={resumable}"], resumable)
    assert "trainer.max_epochs is 2 now, the checkpoint was trained with 1" in caplog.text
    checkpoint = read_checkpoint(resumable / "checkpoints" / "last.ckpt")
    (group,) = checkpoint["optimizer_states"][0]["param_groups"]
    assert group["weight_decay"] == 0.5
    # Cosine over the four steps of both epochs.
    expected = [0.002 * (1 + math.cos(math.pi * step / 4)) for step in (2, 3)]
    assert rows(resumable, "train/lr")[2:] == pytest.approx(expected)


def test_classes_of_another_data_set_are_named(trained, image_folder, tmp_path):
    output, _ = trained
    overrides = [*TINY, "action=test", "data=imagefolder", f"ckpt={output}"]
    # The command line tells before anything is written; from Python, the action itself does.
    values, (fault,) = configure([*overrides, f"data.root={image_folder}"], tmp_path)
    assert "has 10 classes, but the data set has 3" in fault
    with pytest.raises(CheckpointError, match="has 10 classes, but the data set has 3"):
        training.test(values)
    assert f"backbone.pretrained={output}" in fault
    with pytest.raises(CheckpointError, match="'1' that is 'ten' in the data set"):
        check_same_classes({"class_names": ["0", "1"]}, ["0", "ten"], tmp_path)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(resumable):
    before = (resumable / "checkpoints" / "last.ckpt").read_bytes()
    with pytest.raises(TrainingError, match=r"not finite at step 3 \(epoch 1, batch 1") as caught:
        run([*DIVERGING, "trainer.max_epochs=2", f"ckpt={resumable}"], resumable)
    assert "recipe.optimizer.lr" in str(caught.value)
    assert (resumable / "checkpoints" / "last.ckpt").read_bytes() == before
    for name in ("results.json", "report.html"):  # of the run before
        assert not (resumable / name).exists()
    assert read_values(resumable / "report.json")["sections"].keys() == {"batches"}


def test_weights_that_lose_their_mind_in_the_last_step_are_not_saved(tmp_path):
    with pytest.raises(TrainingError, match=r"val/loss is not finite after epoch 0"):
        run([*DIVERGING, "trainer.limit_train_batches=1"], tmp_path)
    assert not list(tmp_path.glob("checkpoints/*"))


def test_a_refused_resume_keeps_the_results(resumable, image_folder):
    before = (resumable / "results.json").read_bytes()
    overrides = ["data=imagefolder", f"data.root={image_folder}", f"ckpt={resumable}"]
    values, _ = configure([*TRAINED, *overrides], resumable)
    with pytest.raises(CheckpointError, match="has 10 classes, but the data set has 3"):
        training.fit(values)
    assert (resumable / "results.json").read_bytes() == before


@pytest.fixture
def broken_folder(tmp_path):
    values, _ = configure([])
    digits = parcnet_train.build.build_data(values)
    root = tmp_path / "data"
    for split, folder in (("train", digits.train_folder), ("val", digits.val_folder)):
        for name in digits.class_names:
            (root / split / name).mkdir(parents=True)
            for file in sorted((folder / name).iterdir())[:4]:
                shutil.copy(file, root / split / name)
        for file in sorted((root / split / "3").iterdir())[:2]:
            file.write_bytes(b"not an image")
    return root


def test_an_unreadable_image_stops_the_run_or_is_counted(broken_folder, tmp_path):
    overrides = [
        *TINY,
        "data=imagefolder",
        f"data.root={broken_folder}",
        "data.num_workers=0",
        "trainer.limit_train_batches=1.0",
        "trainer.limit_val_batches=1.0",
    ]
    with pytest.raises(DataError, match=r"train.3.\d+\.png cannot be read as an image"):
        run(overrides, tmp_path / "stop")
    results = run([*overrides, "data.on_error=skip"], tmp_path / "skip")
    # 40 images in batches of 4: none is seen twice.
    assert results["train/skipped"] == 2
    assert results["val/skipped"] == 2


def test_an_error_in_a_worker_is_one_line(broken_folder, tmp_path):
    overrides = [*TINY, "data=imagefolder", f"data.root={broken_folder}", "data.num_workers=1"]
    with pytest.raises(DataError) as caught:
        run([*overrides, "recipe.batch_size=40"], tmp_path)
    message = parcnet_train.errors.message_of(caught.value)
    assert message.startswith(str(broken_folder))
    assert "\n" not in message


def test_no_process_is_left_behind_an_error_in_the_validation(broken_folder, tmp_path):
    for file in sorted((broken_folder / "train" / "3").iterdir())[:2]:
        file.unlink()
    overrides = [*TINY, "data=imagefolder", f"data.root={broken_folder}", "data.num_workers=1"]
    before = set(multiprocessing.active_children())
    with pytest.raises(DataError, match=r"val.3.\d+\.png cannot be read"):
        run([*overrides, "trainer.limit_val_batches=1.0"], tmp_path)
    # They heed no signal, so the end of the program would wait for them forever.
    assert set(multiprocessing.active_children()) <= before


def test_loggers_write_beside_the_csv(tmp_path):
    run([*TINY, "logger=tensorboard"], tmp_path)
    assert list(tmp_path.glob("tensorboard/**/events.out.*"))
    assert rows(tmp_path, "val/top1")


@pytest.mark.slow
def test_wandb_without_a_key_is_offline(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    run([*TINY, "logger=wandb"], tmp_path)
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert rows(tmp_path, "val/top1")


@pytest.mark.parametrize(
    "overrides",
    [
        ["trainer.precision=bf16-mixed", "channels_last=true"],
        ["recipe.gradient_clip=1.0", "recipe.accumulate=2"],
        ["trainer.accumulate_grad_batches=2"],
        ["recipe.ema=null", "recipe.image_size=[64,96]", "backbone=mobilevit_xxs"],
        pytest.param(["compile=true"], marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_options_train(overrides, tmp_path):
    results = run([*TINY, *overrides], tmp_path)
    assert np.isfinite(results["train/loss"])
    assert results["steps"] == (1 if "accumulate" in str(overrides) else 2)


def test_warm_up_longer_than_the_run_is_told(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        run([*TINY], tmp_path / "short")
    assert "lower recipe.schedule.warmup_steps" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        settings = ["recipe.schedule.warmup_steps=1", "trainer.limit_train_batches=6"]
        run([*TINY, *settings], tmp_path / "long")
    assert "warm" not in caplog.text


def test_recipe_finetune_counts_its_epochs_and_resumes_the_same(image_folder, tmp_path, caplog):
    recipe = [
        *("data=imagefolder", f"data.root={image_folder}", "data.num_workers=0", "recipe=finetune"),
        *("backbone=parcnet_xs", "backbone.depths=[1,1,1]", "recipe.image_size=32"),
        *("recipe.batch_size=4", "recipe.epochs.at_least=2", "recipe.epochs.images=36"),
    ]
    with caplog.at_level(logging.INFO):
        results = run(recipe, tmp_path / "run")
    assert (results["epochs"], results["steps"]) == (3, 9)  # of 12 images in batches of 4
    assert re.search(r"recipe\.epochs: 3 epochs of 12 ", caplog.text)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        again = run([*recipe, f"ckpt={tmp_path / 'run'}"], tmp_path / "run")
    assert (again["epochs"], again["steps"]) == (3, 9)
    assert again["val/top1"] == results["val/top1"]
    assert " is " not in "".join(r.message for r in caplog.records if r.levelname == "WARNING")


@pytest.mark.slow
def test_test_split_is_evaluated_with_the_configuration_of_the_checkpoint(image_folder, tmp_path):
    shutil.copytree(image_folder / "train", image_folder / "test")
    (image_folder / "test" / "ant" / "0.png").unlink()
    output = tmp_path / "fit"
    results = run([*TRAINED, "data=imagefolder", f"data.root={image_folder}"], output)
    assert results["split"] == "val"
    evaluation = ["action=test", f"ckpt={output}", "data.split=test", "data.num_workers=0"]
    tested = run(evaluation, tmp_path / "test")
    assert (tested["split"], tested["monitor"]) == ("test", "val/top1")
    data = json.loads((tmp_path / "test" / "provenance.json").read_text())["data"]
    assert (data["train_images"], data["test_images"]) == (None, 11)
    same = run([*evaluation, "data.split=val", "data.val_dir=test"], tmp_path / "same")
    for name in ("val/top1", "val/top5", "val/loss"):
        assert tested[name] == same[name]
    validated = run(evaluation[:2], tmp_path / "val")
    assert validated["val/loss"] == results["val/loss"] != tested["val/loss"]


@pytest.mark.slow
def test_class_weights_and_balanced_sampling_are_used_and_stored(image_folder, tmp_path):
    for name in ("0.png", "1.jpg", "2.png"):
        (image_folder / "train" / "ant" / name).unlink()
    settings = [*TRAINED, "data=imagefolder", f"data.root={image_folder}"]
    results = run([*settings, "recipe.class_weights=balanced"], tmp_path / "weighted")
    plain = run(settings, tmp_path / "plain")
    assert results["train/loss"] != plain["train/loss"]
    sampled = run([*settings, "recipe.sampler=balanced"], tmp_path / "sampled")
    assert sampled["train/loss"] != plain["train/loss"]
    tested = run(["action=test", f"ckpt={tmp_path / 'weighted'}"], tmp_path / "tested")
    assert tested["val/loss"] == pytest.approx(results["val/loss"], abs=1e-6)
