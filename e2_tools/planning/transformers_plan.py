# SPDX-License-Identifier: Apache-2.0
"""A run of ``train_e2_hf.py`` planned: memory of a GPU by part, and whether it fits."""

import argparse
from dataclasses import dataclass
from typing import Any

from e2_common.errors import UserError
from e2_common.training_time.gpus import Gpu
from e2_tools.arguments import flag_of
from e2_tools.planning.memory import PARTS, Stage
from e2_tools.planning.models import MODELS, Model
from e2_tools.planning.table import aligned_memory, verdict
from e2_tools.tuning.lora_arguments import check_lora

FP32 = 4
# By what --attention plans: transformers' own names.
ATTENTION = {"flash": "sdpa", "materialised": "eager"}
ONLY_HERE = (
    *("lora", "lora_alpha", "lora_dropout", "lora_targets", "lora_train_whole"),
    "gradient_checkpointing",
)
# What Megatron has and transformers has not, and what says how long a run takes: that is not known.
NOT_HERE = {
    "gpus_per_node": "",
    "tp": "",
    "pp": "",
    "vpp": "",
    "cp": "",
    "sequence_parallel": "",
    "sharding": "",
    "recompute": "; give --gradient-checkpointing",
    "train_iters": ", as no time is planned",
    "kernels": "",
    "gradients": "",
    "precision_aware_optimizer": "",
    "adam_states": "",
    "fused_adam": "",
    "make_vocab_size_divisible_by": "",
    "mfu": ", as no time is planned",
    "price_per_gpu_hour": ", as no time is planned",
    "suggest": "",
    "top": "",
}


@dataclass(frozen=True)
class TuningPlan:
    """What a run on transformers needs.

    Attributes:
        model: its name.
        gpu: all are alike.
        settings: flag -> value, of those that bytes depend on.
        parameters: of the model, all of them.
        trained: of them.
        stages: one, the memory of each GPU.
    """

    model: str
    gpu: Gpu
    settings: dict[str, Any]
    parameters: int
    trained: int
    stages: list[Stage]

    @property
    def fullest(self) -> Stage:
        """Of each GPU, as all hold the same."""
        return self.stages[0]

    @property
    def fits(self) -> bool:
        """Whether the memory is there."""
        return self.fullest.total <= self.gpu.memory

    @property
    def window(self) -> int:
        """Tokens of a sample."""
        return self.settings["seq_length"]

    @property
    def title(self) -> str:
        """Model, GPUs and what is trained, in a line."""
        given = self.settings
        trained = "the whole model"
        if given["lora"]:
            trained = f"LoRA of rank {given['lora']} of {', '.join(given['lora_targets'])}"
            trained += "".join(f", {what} whole" for what in given["lora_train_whole"])
        again = "" if given["gradient_checkpointing"] else "no "
        return (
            f"{self.model} on {given['gpus']} x {self.gpu.name}: transformers, {trained}, "
            f"{again}gradient checkpointing"
        )

    def report(self) -> str:
        """Everything about the plan."""
        given, fullest = self.settings, self.fullest
        batch, micro_batch = given["global_batch_size"], given["micro_batch_size"]
        return "\n".join(
            [
                self.title,
                f"{batch} windows of {self.window:,} tokens an iteration, micro-batches of "
                f"{micro_batch}, {batch // (micro_batch * given['gpus'])} a process; "
                f"{given['precision']}",
                f"trained: {self.trained:,} of {self.parameters:,} parameters",
                "",
                aligned_memory(self.stages, ["each GPU"]),
                "",
                verdict(fullest.total, self.gpu, f"in the {fullest.moment}"),
            ]
        )

    def record(self) -> dict[str, Any]:
        """As JSON; bytes and tokens."""
        stage = self.fullest
        return {
            "engine": "transformers",
            "model": self.model,
            "gpu": self.gpu.name,
            **self.settings,
            "parameters": self.parameters,
            "trained": self.trained,
            "stages": [
                {
                    "stage": 0,
                    "bytes": stage.parts,
                    "total": stage.total,
                    "fullest_in": stage.moment,
                    "moments": stage.moments,
                }
            ],
            "gpu_memory": self.gpu.memory,
            "fits": self.fits,
        }


def check_engine(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Refuse flags that say nothing about the engine that is planned for.

    Args:
        args: of the command line.
        parser: that read them.

    Raises:
        UserError: naming the flag.
    """
    here = args.engine == "transformers"
    for name in NOT_HERE if here else ONLY_HERE:
        if getattr(args, name) != parser.get_default(name):
            why = NOT_HERE[name] if here else "; add --engine transformers"
            raise UserError(f"{flag_of(name)}: says nothing about --engine {args.engine}{why}")
    if here:
        check_lora(args, parser)


def tuning_plan(args: argparse.Namespace, model: Model, gpu: Gpu, window: int) -> TuningPlan:
    """Plan a run.

    Args:
        args: of the command line of ``plan_memory.py``, checked.
        model: to train.
        gpu: all are alike.
        window: tokens of a sample.

    Raises:
        UserError: sizes that do not go together, or a LoRA that the model cannot have.
    """
    from e2_tools.planning.transformers_step import traced_step

    samples = args.micro_batch_size * args.gpus
    if args.global_batch_size % samples:
        raise UserError(
            f"--global-batch-size {args.global_batch_size}: is no multiple of {samples}, the "
            "micro-batch times the GPUs"
        )
    names = ("gpus", "micro_batch_size", "global_batch_size", "precision", *ONLY_HERE)
    settings = {name: getattr(args, name) for name in names} | {"seq_length": window}
    run = argparse.Namespace(
        **settings,
        bf16=args.precision == "bf16",
        attention=ATTENTION[args.attention],
        model=args.model,
        seed=0,
    )
    step = traced_step(_config(args.model, model), run, args.global_batch_size > samples)
    always = {"overhead": int(args.overhead_gib * 2**30)}
    if args.gpus > 1:  # DistributedDataParallel sends gradients from buckets of its own
        always["gradients"] = FP32 * step.trained
    moments = {
        moment: {
            part: parts.get(part, 0) + always.get(part, 0) for part in {*PARTS, *parts, *always}
        }
        for moment, parts in step.peaks.items()
    }
    totals = {moment: sum(parts.values()) for moment, parts in moments.items()}
    fullest = moments[max(totals, key=lambda moment: totals[moment])]
    stage = Stage(0, {part: fullest.get(part, 0) for part in PARTS}, totals, None)
    settings["attention"] = args.attention
    return TuningPlan(model.name, gpu, settings, step.parameters, step.trained, [stage])


def _config(name: str, model: Model) -> Any:
    """The config of Hugging Face of a model that is named, or lies in a folder."""
    from pathlib import Path

    from transformers import CONFIG_MAPPING

    if name not in MODELS:
        from e2_tools.checkpoint.hf_config import complete_config

        content = complete_config(Path(name) / "config.json")
        return CONFIG_MAPPING[content["model_type"]].from_dict(content)
    return CONFIG_MAPPING["llama"](**model.sizes.llama_config(model.window))
