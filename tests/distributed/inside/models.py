# SPDX-License-Identifier: Apache-2.0
"""Tiny models that Megatron builds from its own arguments."""

import contextlib
import io
import sys

from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.utils import unwrap_model
from megatron.training import arguments

from e2_llm.arguments import add_arguments
from e2_llm.config import E2Config
from megatron_patches.kernels.registry import PLAIN as KERNELS
from megatron_patches.model.build import model_config
from megatron_patches.runtime import fixes
from tests.distributed.world import TINY_MODEL


def megatron_args(monkeypatch, tp, *flags):
    """Megatron's arguments of a tiny model, as training parses them."""
    words = [*TINY_MODEL, *"--micro-batch-size 1 --transformer-impl local".split(), *flags]
    words += ["--tensor-model-parallel-size", str(tp), "--kv-channels", "32", "--mock-data"]
    words += ["--no-rope-fusion", "--no-gradient-accumulation-fusion", "--no-bias-swiglu-fusion"]
    words += ["--no-masked-softmax-fusion", "--no-persist-layer-norm", "--position-method", "none"]
    monkeypatch.setattr(sys, "argv", ["pretrain_e2.py", *words])
    monkeypatch.setenv("CUDA_DEVICE_MAX_CONNECTIONS", "1")
    for kind in ("FLASH", "FUSED", "UNFUSED"):  # Megatron sets them; taken back after the test
        monkeypatch.setenv(f"NVTE_{kind}_ATTN", "")
        monkeypatch.delenv(f"NVTE_{kind}_ATTN")

    def ours(parser):
        fixes.escape_percent_signs(parser)
        return add_arguments(parser)

    with contextlib.redirect_stdout(io.StringIO()):
        args = arguments.parse_args(ours)
        args.padded_vocab_size = 64
        arguments.validate_args(args)
    args.kernels = {**KERNELS, "attention": "math"}
    return args


PLAIN = E2Config(position_method="none", base_window=64, train_window=64)


def built(args, config=PLAIN):
    """The model that Megatron builds from the arguments, with the positions of ``config``."""
    settings = model_config(args, config)
    builder = settings.get_builder_cls()(settings)
    groups = ProcessGroupCollection.use_mpu_process_groups()
    (model,) = builder.build_distributed_models(groups, wrap_with_ddp=False)
    return unwrap_model(model)
