# SPDX-License-Identifier: Apache-2.0
"""Parses many command lines of pretrain_e2.py in one process: what is refused of them.

Every refusal comes before anything is built.
"""

import json
import os
import sys
from pathlib import Path

from megatron.core.num_microbatches_calculator import destroy_num_microbatches_calculator
from megatron.training.global_vars import destroy_global_vars

from e2_common.errors import UserError
from megatron_patches.start.arguments import parse_arguments


def run_rank(commands, output):
    """Read name -> world size and arguments from a file, write name -> refusal into another."""
    os.environ["CUDA_DEVICE_MAX_CONNECTIONS"] = "1"  # as the entry does
    refusals = {}
    for name, (world_size, *argv) in json.loads(Path(commands).read_text()).items():
        os.environ["WORLD_SIZE"] = world_size
        sys.argv = ["pretrain_e2.py", *argv]
        destroy_global_vars()
        destroy_num_microbatches_calculator()
        try:
            parse_arguments(on_cpu=True)
        except UserError as error:
            refusals[name] = str(error)
    Path(output).write_text(json.dumps(refusals))
