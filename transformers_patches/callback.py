# SPDX-License-Identifier: Apache-2.0
"""The callback that gives a Trainer's model the draws of each micro-batch."""

import dataclasses
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from e2_common.errors import UserError
from e2_llm.batch_draws import iteration_draws, shown
from e2_llm.config import E2Config
from e2_llm.methods import method_for
from e2_llm.sampler import sample_indices
from transformers_patches.install import E2Positions, install


class E2Callback(TrainerCallback):
    """E2-LLM in ``transformers.Trainer`` and what derives from it, as TRL's ``SFTTrainer``.

    Puts the rotary module into the model when the trainer is made. The number of a sample follows
    from the step, the micro-batch and the process, in the order in which accelerate hands batches
    out; nothing is counted over a run. So a resumed run, or one with other processes and the same
    batch, draws the same.

    A validation batch of W tokens, for W in ``config.validation_windows``, is evaluated at the
    scale that W is served with: ``eval_dataset={"8192": windows of 8,192, ...}`` gives a loss for
    each.

    Args:
        config: of the positions. Without ``planned_samples`` a curriculum is one over the whole
            run.
        seed: of the draws; default: the trainer's.
    """

    def __init__(self, config: E2Config, seed: int | None = None) -> None:
        self.config, self.seed = config, seed
        self.positions: E2Positions | None = None
        self._micro_batch = self._size = 0  # its number in a step, its samples on a process

    def on_init_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Replace the rotary module.

        Raises:
            UserError: the model has none that can be replaced, or the processes share its samples
                in a way that is not known here.
        """
        if args.n_gpu > 1:
            raise UserError(
                f"{args.n_gpu} GPUs in one process: start one process a GPU, by torchrun or "
                "accelerate launch"
            )
        loading = getattr(args, "accelerator_config", None)
        if args.world_size > 1 and getattr(loading, "split_batches", False):
            raise UserError(
                "accelerator_config: split_batches divides a batch among the processes in a way "
                "that E2-LLM does not know; drop it"
            )
        shared = getattr(args, "parallelism_config", None)
        if shared is not None and getattr(shared, "non_data_parallel_size", 1) > 1:
            raise UserError("parallelism_config: E2-LLM knows data parallelism only; drop the rest")
        seed = args.seed if self.seed is None else self.seed
        self.positions = install(kwargs["model"], self.config, seed)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Note the size of a micro-batch, and tell a curriculum how long the run is.

        Called again where ``auto_find_batch_size`` begins anew with smaller micro-batches.

        Raises:
            UserError: the model is another one than the trainer was made with.
        """
        if self.positions is None:  # added after the trainer was made
            self.on_init_end(args, state, control, **kwargs)
        if not any(module is self.positions.rotary for module in kwargs["model"].modules()):
            raise UserError(
                "the model was built anew when the training began (model_init), and takes no "
                "draws; give the trainer a model"
            )
        self._size = state.train_batch_size or args.train_batch_size
        config = self.config
        if not config.planned_samples and (config.curriculum or method_for(config).stages):
            planned = state.max_steps * self._batch(args)
            self.positions.set_config(dataclasses.replace(config, planned_samples=planned))

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Draw for the first micro-batch of a step."""
        self._micro_batch = 0
        self._set_samples(args, state)

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Draw for the next micro-batch of a step."""
        self._micro_batch += 1
        self._set_samples(args, state)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Note the step in the config, which a checkpoint is saved with."""
        self.positions.note_iteration(state.global_step)

    def drawn(self, args: TrainingArguments, step: int) -> dict[str, float]:
        """What a log shows of the draws of a step, over all processes, as a run of Megatron does.

        Args:
            args: of the trainer.
            step: from 1.

        Returns:
            See :func:`~e2_llm.batch_draws.shown`; nothing of a method that draws no scale.
        """
        if step < 1 or not self.positions.rotary.method.draws_scale():
            return {}
        batch, own = self._batch(args), self.positions
        draws = iteration_draws(own.config, own.seed, (step - 1) * batch, batch, self._size)
        return shown(own.config, draws)

    def _set_samples(self, args: TrainingArguments, state: TrainerState) -> None:
        consumed = state.global_step * self._batch(args)
        indices = sample_indices(
            consumed, self._micro_batch, self._size, args.process_index, args.world_size
        )
        self.positions.set_samples(indices, consumed)

    def _batch(self, args: TrainingArguments) -> int:
        """Samples of a step, over all processes."""
        return self._size * args.gradient_accumulation_steps * args.world_size
