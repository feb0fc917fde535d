"""Arguments of constructors of other libraries: PyTorch's AdamW and Lightning's Trainer.

`BOUNDED` lists them. Arguments that are not listed here keep the types of their own signatures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from parcnet_train.bounds import Count, NotNegative, Positive, Share, Text, UpTo100
from parcnet_train.config.sections import Devices, Epochs, Limit


@dataclass(frozen=True)
class Trainer:
    """Arguments of `pytorch_lightning.Trainer` that a configuration may have.

    Arguments without a default are required. `max_steps`, `val_check_interval`,
    `check_val_every_n_epoch` and `timeout_minutes` are implemented by callbacks of this package,
    not by the Trainer.

    Attributes:
        accelerator: Kind of device.
        devices: Devices of each machine, one process each.
        precision: Precision of the computation; auto: 16-mixed on CUDA, 32-true elsewhere.
        max_epochs: Number of epochs, or the values from which it is computed.
        max_steps: Optimizer steps after which the run ends; null for no limit.
        val_check_interval: Share of an epoch, or optimizer steps, between validations.
        check_val_every_n_epoch: Epochs between validations.
        log_every_n_steps: Optimizer steps between log lines.
        limit_train_batches: Batches of a training epoch, or a share of them.
        limit_val_batches: Batches of an evaluation, or a share of them.
        accumulate_grad_batches: Batches per optimizer step.
        num_nodes: Number of machines; auto: as many as torchrun or srun has started.
        strategy: Strategy for several processes.
        timeout_minutes: Longest time without progress, after which the run ends.
        sync_batchnorm: Whether BatchNorm statistics cover all processes (GPUs).
        gradient_clip_val: Largest norm of the gradient; null for no clipping.
        gradient_clip_algorithm: Whether `gradient_clip_val` bounds the norm of the whole gradient
            or each of its values; null for norm.
        deterministic: Whether PyTorch uses deterministic algorithms only; warn for a warning if
            there is none, null for false.
        benchmark: Whether cuDNN times its algorithms for every new image size and takes the
            fastest; null for the setting of the process.
        inference_mode: Whether evaluations run under `torch.inference_mode` rather than
            `torch.no_grad`.
        profiler: Lightning's profiler: simple, advanced or pytorch; null for none.
        detect_anomaly: Whether autograd looks for the operation behind a NaN, which is slow.
        enable_autolog_hparams: Whether Lightning passes hyperparameters to the loggers.
    """

    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"]
    devices: Devices
    precision: Literal["auto", "32-true", "16-mixed", "bf16-mixed"]
    max_epochs: Count | Epochs
    max_steps: Count | None
    val_check_interval: Limit
    check_val_every_n_epoch: Count
    log_every_n_steps: Count
    limit_train_batches: Limit = 1.0
    limit_val_batches: Limit = 1.0
    accumulate_grad_batches: Literal["auto"] | Count = 1
    num_nodes: Literal["auto"] | Count = 1
    strategy: Literal["auto", "ddp"] = "auto"
    timeout_minutes: Positive = 30.0
    sync_batchnorm: bool = False
    gradient_clip_val: Positive | None = None
    gradient_clip_algorithm: Literal["norm", "value"] | None = None
    deterministic: bool | Literal["warn"] | None = None
    benchmark: bool | None = None
    inference_mode: bool = True
    profiler: Text | None = None
    detect_anomaly: bool = False
    enable_autolog_hparams: bool = True


@dataclass(frozen=True)
class AdamW:
    """Arguments of `torch.optim.AdamW` that a configuration may have.

    Attributes:
        lr: Learning rate.
        betas: Decay of the averages of the gradient and of its square.
        weight_decay: Share of each weight that a step subtracts, times the learning rate.
        eps: Number that is added to the denominator of a step.
        amsgrad: Whether a step uses the largest average of the squared gradient so far.
        maximize: Whether the loss is maximized.
        foreach: Whether all weights are updated by joint operations; null for PyTorch's choice.
        capturable: Whether a CUDA graph can capture the step.
        differentiable: Whether gradients flow through the step.
        fused: Whether one kernel makes the whole step; null for PyTorch's choice.
    """

    lr: UpTo100 = 0.001
    betas: tuple[Share, Share] = (0.9, 0.999)
    weight_decay: NotNegative = 0.01
    eps: NotNegative = 1e-8
    amsgrad: bool = False
    maximize: bool = False
    foreach: bool | None = None
    capturable: bool = False
    differentiable: bool = False
    fused: bool | None = None


# Constructors of other libraries, and their arguments.
BOUNDED: dict[str, type] = {"pytorch_lightning.Trainer": Trainer, "torch.optim.AdamW": AdamW}

# Arguments of the Trainer that this package sets itself, or that its trainings do not support.
REFUSED = {
    "trainer.barebones": "it turns off checkpoints and logs. Fix: leave it out",
    "trainer.callbacks": "callbacks have their own group. Fix: +callbacks.mine={_target_: ...}",
    "trainer.default_root_dir": "a run writes into its own directory. Fix: set paths.runs=PATH",
    "trainer.enable_checkpointing": (
        "a run always writes best.ckpt and last.ckpt. Fix: leave it out"
    ),
    "trainer.enable_model_summary": "a run logs its parameters. Fix: use action=profile for more",
    "trainer.enable_progress_bar": "only terminals show the bar. Fix: run COMMAND | cat",
    "trainer.fast_dev_run": "it writes no checkpoint to evaluate. Fix: use debug=tiny",
    "trainer.limit_predict_batches": "nothing reads it. Fix: leave it out",
    "trainer.limit_test_batches": "every evaluation reads trainer.limit_val_batches. Fix: set that",
    "trainer.logger": "loggers have their own group. Fix: logger=[csv,tensorboard]",
    "trainer.max_time": "a run cannot resume from it. Fix: timeout 3h COMMAND, then ckpt=last",
    "trainer.min_epochs": (
        "only early stopping ends a run early. Fix: set callbacks.early_stopping.patience"
    ),
    "trainer.min_steps": (
        "only early stopping ends a run early. Fix: set callbacks.early_stopping.patience"
    ),
    "trainer.model_registry": "nothing is uploaded. Fix: leave it out",
    "trainer.num_sanity_val_steps": "data are checked before training. Fix: use action=check",
    "trainer.overfit_batches": "it replaces the samplers. Fix: set trainer.limit_train_batches=N",
    "trainer.plugins": "this package sets them. Fix: leave it out",
    "trainer.reload_dataloaders_every_n_epochs": (
        "a resumed run could not reproduce it. Fix: leave it out"
    ),
    "trainer.use_distributed_sampler": (
        "the samplers already divide the data among processes. Fix: leave it out"
    ),
}

# Keys that a configuration may lack, with the reason.
LACKING = {
    **REFUSED,
    "task.evaluated_classes": (
        "only task=classification has this key, since results.json has the metric of every class "
        "in the other tasks (val/ap/CLASS, val/iou/CLASS). Fix: average those of your classes"
    ),
}
