# SPDX-License-Identifier: Apache-2.0
"""Trains with what torch.compile is handed on a GPU compiled on the CPU, and counts its graphs.

    python -m tests.distributed.compiled_parts SPEC.json RESULTS.json

SPEC.json: name -> arguments of ``pretrain_e2.py``. RESULTS.json: name -> {"draws": of every
micro-batch, "graphs": by function, how many there were before every micro-batch and at the end}.
Every graph runs as it is: what counts is how often one is made, which the compiler decides before.
"""

import functools
import json
import sys
from collections import Counter
from pathlib import Path

import torch

compile_really = torch.compile
graphs = Counter()


def counting(function=None, **options):
    """``torch.compile``, as function or decorator, with a backend that counts."""
    if function is None:
        return functools.partial(counting, **options)

    def backend(graph, inputs):
        graphs[function.__name__] += 1
        return graph.forward

    return compile_really(function, backend=backend, **options)


def main():
    """Run what the first file says, and write the second."""
    from megatron_patches.kernels import blocked
    from megatron_patches.runtime import cpu
    from megatron_patches.runtime.prepare import prepare

    cpu._without_compiling = counting
    blocked.needs_compile = blocked.never
    torch._dynamo.config.fail_on_recompile_limit_hit = True  # else it would give up counting
    import pretrain_e2

    pretrain_e2.as_single_process()
    prepare()
    import megatron.training.training as training

    import megatron_patches.training.step as ours
    from tests.distributed.worker import end_run

    record, results = {}, {}
    original_draws = ours.current_draws

    def current_draws(*args):
        draws = original_draws(*args)
        record["draws"].append(draws)
        record["graphs"].append(dict(graphs))
        return draws

    ours.current_draws = current_draws
    torch.distributed.init_process_group("gloo")  # Megatron takes the one it finds
    for name, argv in json.loads(Path(sys.argv[1]).read_text()).items():
        torch._dynamo.reset()
        graphs.clear()
        record.update(draws=[], graphs=[])
        results[name] = record.copy()
        command, sys.argv = sys.argv, ["pretrain_e2.py", *argv]
        pretrain_e2.main.__wrapped__()
        sys.argv = command
        record["graphs"].append(dict(graphs))
        end_run(training)
    Path(sys.argv[2]).write_text(json.dumps(results))


if __name__ == "__main__":
    main()
