# SPDX-License-Identifier: Apache-2.0
"""Parses many command lines of pretrain_e2.py in one process; prints what was refused, as JSON.

stdin: name -> world size and arguments. Last line of stdout: name -> refusal. Importing Megatron
takes seconds, and every refusal comes before anything is built.
"""

import json
import os
import sys

from megatron_patches.runtime import cpu as cpu_runtime

cpu_runtime.install()

from megatron.core.num_microbatches_calculator import (  # noqa: E402
    destroy_num_microbatches_calculator,
)
from megatron.training.global_vars import destroy_global_vars  # noqa: E402

from e2_common.errors import UserError  # noqa: E402
from megatron_patches.start.arguments import parse_arguments  # noqa: E402
from tests.helpers.megatron_parser import remember_docstrings  # noqa: E402

remember_docstrings()

os.environ |= {"RANK": "0", "CUDA_DEVICE_MAX_CONNECTIONS": "1"}
refusals = {}
for name, (world_size, *argv) in json.load(sys.stdin).items():
    os.environ["WORLD_SIZE"] = world_size
    sys.argv = ["pretrain_e2.py", *argv]
    destroy_global_vars()
    destroy_num_microbatches_calculator()
    try:
        parse_arguments(on_cpu=True)
    except UserError as error:
        refusals[name] = str(error)
print(json.dumps(refusals))
