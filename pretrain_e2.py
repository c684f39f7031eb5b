# SPDX-License-Identifier: Apache-2.0
"""Train with E2-LLM positions on Megatron.

    torchrun --nproc-per-node N pretrain_e2.py <any Megatron argument>
        --position-method {e2,none,linear} --e2-max-scale 20 ...

Runs on CUDA, and without a CUDA device by itself on the CPU. ``--help`` lists every argument.
"""

import os
from functools import partial

from e2_common.ending import run_script
from e2_common.errors import exit_on_user_error


@exit_on_user_error
def main() -> None:
    """Prepare Megatron for this machine and run it; what it refuses is one line."""
    from megatron_patches.runtime.prepare import prepare

    as_single_process()
    on_cpu = prepare()

    from megatron_patches.start.refusal import one_line

    with one_line():
        run(on_cpu)


def run(on_cpu: bool) -> None:
    """Arguments -> configurations -> ``megatron.training.pretrain``.

    Args:
        on_cpu: whether the CPU runtime is installed.
    """
    from megatron.core.enums import ModelType
    from megatron.training import pretrain
    from megatron.training.argument_utils import pretrain_cfg_container_from_args

    from megatron_patches.data.datasets import train_valid_test_datasets
    from megatron_patches.model.build import model_config
    from megatron_patches.start.arguments import parse_arguments
    from megatron_patches.training import draw_statistics
    from megatron_patches.training.step import forward_step
    from megatron_patches.training.window_validation import WindowValidation

    args, config = parse_arguments(on_cpu)
    windows = WindowValidation(config) if config.validation_windows else None
    model = model_config(args, config)
    watch = draw_statistics.install(args, config, model)
    pretrain(
        pretrain_cfg_container_from_args(args, model),
        train_valid_test_datasets,
        ModelType.encoder_or_decoder,
        partial(forward_step, config=config, watch=watch),
        non_loss_data_func=windows,
        process_non_loss_data_func=windows.log if windows else None,
    )


def as_single_process() -> None:
    """Without torchrun, be a world of one process."""
    if "RANK" in os.environ:
        return
    os.environ |= {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "0",  # the store takes any free one; nobody else has to know it
    }


if __name__ == "__main__":
    run_script(main)
