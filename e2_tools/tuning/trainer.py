# SPDX-License-Identifier: Apache-2.0
"""The Trainer of a run: Megatron's learning rates and order of samples, our log and validation."""

import argparse
import dataclasses
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import PrinterCallback, Trainer, TrainingArguments

from e2_common.errors import UserError, on_one_line
from e2_tools.tuning import checkpoints
from e2_tools.tuning.data import Windows
from transformers_patches import E2Callback, WindowCollator
from transformers_patches.evaluation import window_loss

# Of TensorBoard and of the log of a trainer, as E2Trainer.evaluate has them.
WINDOW = "eval_loss_window_{}"
GAIN = "eval_context_gain_window_{}"  # in nats a token, see WindowLoss


def training_arguments(args: argparse.Namespace) -> TrainingArguments:
    """The arguments of a Trainer; joins the processes of torchrun.

    Args:
        args: of :func:`e2_tools.tuning.arguments.build_parser`.

    Raises:
        UserError: transformers refuses them.
    """
    world, checkpointing = int(os.environ.get("WORLD_SIZE", "1")), {}
    if args.gradient_checkpointing:
        names = {field.name for field in dataclasses.fields(TrainingArguments)}
        name = "activation_checkpointing"  # as transformers 5.2x calls it
        name = name if name in names else "gradient_checkpointing"
        checkpointing = {name: True, f"{name}_kwargs": {"use_reentrant": False}}
    arguments = dict(
        output_dir=str(args.checkpoint_dir),
        max_steps=args.train_iters,
        per_device_train_batch_size=args.micro_batch_size,
        per_device_eval_batch_size=args.micro_batch_size,
        gradient_accumulation_steps=args.global_batch_size // (args.micro_batch_size * world),
        learning_rate=args.lr,
        weight_decay=args.weight_decay,
        max_grad_norm=args.clip_grad,
        adam_beta1=args.adam_beta1,
        adam_beta2=args.adam_beta2,
        adam_epsilon=args.adam_eps,
        optim="adamw_torch",
        bf16=args.bf16,
        logging_steps=args.log_interval,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if args.eval_iters else "no",
        eval_steps=args.eval_interval,
        prediction_loss_only=True,
        save_strategy="steps",
        save_steps=args.save_interval,
        seed=args.seed,
        train_sampling_strategy="sequential",  # the windows are shuffled already
        remove_unused_columns=False,  # a batch holds joints
        ddp_find_unused_parameters=False,
        report_to=["tensorboard"] if args.tensorboard_dir else [],
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        ddp_backend="gloo" if world > 1 and not torch.cuda.is_available() else None,
        dataloader_pin_memory=torch.cuda.is_available(),
        **checkpointing,
    )
    try:
        return TrainingArguments(**arguments)
    except (ImportError, RuntimeError, ValueError) as error:  # as of bf16 on an old GPU
        raise UserError(f"transformers refuses these flags ({on_one_line(error)})") from error


class E2Trainer(Trainer):
    """A Trainer of a model that takes draws.

    Args:
        run: the command line.
        callback: gives the draws.
        windows: window in tokens -> its validation windows.
        more: for the parent.
    """

    def __init__(
        self,
        run: argparse.Namespace,
        callback: E2Callback,
        windows: dict[int, Windows],
        **more: Any,
    ) -> None:
        self.run, self.draws, self.windows = run, callback, windows
        super().__init__(data_collator=WindowCollator(), callbacks=[callback], **more)
        self.remove_callback(PrinterCallback)

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """The learning rates of Megatron's own scheduler."""
        if self.lr_scheduler is None:
            self.lr_scheduler = Rates(optimizer or self.optimizer, learning_rates(self.run))
        return self.lr_scheduler

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add what was drawn, and print a line."""
        if "loss" in logs:
            if not math.isfinite(logs["loss"]):  # the same on every process
                raise self._diverged("the loss is")
            logs |= self.draws.drawn(self.args, self.state.global_step)
        super().log(logs, *args, **kwargs)
        if self.is_world_process_zero():
            shown = [f"{name} {value:.6g}" for name, value in logs.items() if name != "epoch"]
            step, last = self.state.global_step, self.run.train_iters
            print(f" iteration {step}/{last} | {' | '.join(shown)}", flush=True)

    def _get_output_dir(self, trial: Any) -> str:
        """Where the parent writes a checkpoint; :meth:`_save_checkpoint` moves it."""
        return str(checkpoints.unfinished(self.run.checkpoint_dir))

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Save as the parent does, so that the checkpoint appears whole.

        Raises:
            UserError: the disk is full or broken, or a weight is no number any more.
        """
        trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        if not torch.stack([weight.detach().isfinite().all() for weight in trained]).all():
            raise self._diverged("a weight is")
        folder, first = self.run.checkpoint_dir, self.is_world_process_zero()
        with checkpoints.saving(folder):
            if first:
                checkpoints.begin(folder)
            self.accelerator.wait_for_everyone()
            super()._save_checkpoint(*args, **kwargs)
            self.accelerator.wait_for_everyone()
            if first:
                checkpoints.finish(folder, self.state.global_step, self.run.keep_checkpoints)
            self.accelerator.wait_for_everyone()

    def _diverged(self, what: str) -> UserError:
        return UserError(
            f"iteration {self.state.global_step}: {what} not a finite number; lower --lr, or look "
            "at the data"
        )

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Validate on windows of R tokens, then on those of each served window."""
        metrics = super().evaluate(*args, **kwargs)
        found = {}
        for window, samples in self.windows.items():
            with self.accelerator.autocast():
                loss = window_loss(
                    self.model,
                    self.draws.positions,
                    samples,
                    window,
                    self.args.process_index,
                    self.args.world_size,
                )
            found[WINDOW.format(window)] = loss.mean
            if loss.gain is not None:
                found[GAIN.format(window)] = loss.gain
        if found:
            self.log(found)
        return metrics | found


class Rates(torch.optim.lr_scheduler.LRScheduler):
    """The learning rate of every step; a checkpoint holds the step and no rate.

    Args:
        optimizer: all of whose groups have the same rate.
        rate: step, from 0, -> its learning rate.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, rate: Callable[[int], float]) -> None:
        self.rate = rate
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        """The rate of the step that comes, for each group."""
        return [self.rate(self.last_epoch)] * len(self.optimizer.param_groups)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"last_epoch": self.last_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on at the step of a checkpoint, with the rates of this run."""
        self.last_epoch = state_dict["last_epoch"]
        self._last_lr = self.get_lr()
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate


def learning_rates(args: argparse.Namespace) -> Callable[[int], float]:
    """Step, from 0, -> its learning rate: what Megatron computes for these flags."""
    from megatron.core.optimizer_param_scheduler import OptimizerParamScheduler

    class NoOptimizer:
        param_groups: Sequence[dict] = ()

    scheduler = OptimizerParamScheduler(
        NoOptimizer(),
        init_lr=0.0,
        max_lr=args.lr,
        min_lr=args.min_lr,
        lr_warmup_steps=args.lr_warmup_iters,
        lr_decay_steps=args.train_iters,
        lr_decay_style=args.lr_decay_style,
        start_wd=0.0,
        end_wd=0.0,
        wd_incr_steps=args.train_iters,
        wd_incr_style="constant",
    )

    def rate(step: int) -> float:
        scheduler.num_steps = step
        return scheduler.get_lr({})

    return rate
