# SPDX-License-Identifier: Apache-2.0
"""Runs several `pretrain_e2.py` command lines one after another in one world of ranks.

SPEC.json: [{"name": ..., "argv": [...]}, ...]. RESULTS.json: name -> {"losses", "grad_norms",
"log", "draws", "memory", "error"}: what the last rank saw at each iteration, what every rank drew
and, of a run with "memory": true, the bytes it held.
"""

import gc
import json
import os
import sys
import time
import traceback
from functools import partial
from pathlib import Path

import torch

import pretrain_e2


def end_run(training):
    """Forget Megatron's globals, and close its process groups, whose threads would pile up."""
    training.destroy_global_state()
    gc.collect()  # models are cyclic and hold groups, which keep their threads
    groups = torch.distributed.distributed_c10d._world.pg_map
    for group in list(groups):
        if group is not torch.distributed.group.WORLD:
            torch.distributed.destroy_process_group(group)


def run_rank(spec_path, results_path):
    """Be a rank: run what is in the one file, write the other."""
    runs = json.loads(Path(spec_path).read_text())
    if os.environ.get("TRITON_INTERPRET") == "1":
        from tests.helpers.triton_interpreter import prepare

        prepare()
    torch.distributed.init_process_group("gloo")  # Megatron takes the one it finds
    import megatron.training.training as training

    import megatron_patches.training.step as ours
    import megatron_patches.training.window_validation as validation
    from tests.distributed.logits_probe import LogitsProbe
    from tests.distributed.memory_probe import measured_step

    record = {}
    original_step = training.train_step
    original_log = training.training_log
    original_draws = ours.current_draws
    original_windows = validation.WindowValidation

    def training_log(loss_dict, total_loss_dict, learning_rate, iteration, *args, **kwargs):
        if loss_dict:
            record["log"].append({key: float(value) for key, value in loss_dict.items()})
            record["losses"].append(float(loss_dict["lm loss"]))
            record["grad_norms"].append(float(args[3]))
        return original_log(loss_dict, total_loss_dict, learning_rate, iteration, *args, **kwargs)

    def current_draws(args, model, config):
        draws = original_draws(args, model, config)
        record["draws"].append([args.consumed_train_samples, draws])
        return draws

    training.training_log = training_log
    ours.current_draws = current_draws

    results = {}
    for run in runs:
        print(f"===== {time.strftime('%H:%M:%S')} {run['name']}", flush=True)
        record.update(losses=[], grad_norms=[], log=[], draws=[], error=None)
        probe = run.get("logits_of")
        validation.WindowValidation = (
            (lambda config, probe=probe: LogitsProbe(probe)) if probe else original_windows
        )
        record.pop("memory", None)
        training.train_step = (
            partial(measured_step, original_step, record) if run.get("memory") else original_step
        )
        sys.argv = ["pretrain_e2.py", *run["argv"]]
        try:
            pretrain_e2.main.__wrapped__()
        except SystemExit as end:  # --exit-interval ends this way
            record["error"] = f"exit code {end.code}" if end.code else None
        except Exception:
            record["error"] = traceback.format_exc()
        gathered = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(gathered, dict(record))
        last = next((item for item in gathered if item["losses"]), gathered[-1])
        results[run["name"]] = {
            **last,
            "draws": [item["draws"] for item in gathered],
            "memory": [item.get("memory") for item in gathered],
            "error": next((item["error"] for item in gathered if item["error"]), None),
        }
        if results[run["name"]]["error"]:
            break  # ranks may have parted ways: what follows would hang
        end_run(training)
    if torch.distributed.get_rank() == 0:
        Path(results_path).write_text(json.dumps(results))
    torch.distributed.barrier()
