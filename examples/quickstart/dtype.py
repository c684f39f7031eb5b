# SPDX-License-Identifier: Apache-2.0
"""The type in which this machine trains the quickstart's model faster: prints bf16 or fp32.

    python examples/quickstart/dtype.py

A product of the model's widths is timed in both, on one thread as a rank has it. bf16 is printed
where it is clearly faster. The reason goes to standard error.
"""

import sys

from e2_common.errors import exit_on_user_error
from e2_tools.arguments import command_parser

TOKENS, HIDDEN, FFN = 8 * 128, 192, 512  # of a micro-batch, and the widths of train.sh


@exit_on_user_error
def main() -> None:
    """Time, print."""
    command_parser(__doc__).parse_args()
    import torch

    from e2_tools.evaluation.precision import by_product

    torch.set_num_threads(1)
    found = by_product(TOKENS, HIDDEN, FFN, torch.device("cpu"))
    print(f"note: --dtype auto: {found.dtype}, {found.reason}", file=sys.stderr)
    print(found.dtype)


if __name__ == "__main__":
    main()
