# SPDX-License-Identifier: Apache-2.0
"""Train with E2-LLM positions on transformers, LoRA included.

    python train_e2_hf.py --model DIR --data-path PREFIX --train-iters N --lr LR --save DIR
    torchrun --nproc-per-node N train_e2_hf.py ...

The draws and the windows are those of pretrain_e2.py with the same seed and data. ``--help`` lists
every argument.
"""

from e2_common.ending import run_script
from e2_common.errors import exit_on_user_error


@exit_on_user_error
def main() -> None:
    """Read the command line and train."""
    from e2_tools.tuning.arguments import build_parser

    args = build_parser().parse_args()

    from e2_tools.tuning.run import run

    run(args)


if __name__ == "__main__":
    run_script(main)
