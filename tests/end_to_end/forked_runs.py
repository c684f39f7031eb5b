# SPDX-License-Identifier: Apache-2.0
"""Runs many command lines of pretrain_e2.py, each in a fork of a process that has imported all.

    python tests/end_to_end/forked_runs.py FOLDER < RUNS.json

stdin: name -> {"argv": [...], "ranks": 1, "broken": null or [module, name, body of a function]}.
Last line of stdout: name -> [[exit code, what it wrote to stderr] of each rank]. A run of several
ranks is ended as torchrun would, when one of them has failed.
"""

import importlib
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

from torch.distributed import TCPStore

import pretrain_e2
from megatron_patches.runtime.prepare import prepare

LONGEST = 90  # seconds of a run


def main():
    folder, runs = Path(sys.argv[1]), json.load(sys.stdin)
    prepare()
    for module in ("start.arguments", "model.build", "training.step", "training.window_validation"):
        importlib.import_module(f"megatron_patches.{module}")
    importlib.import_module("transformers.models.auto")
    from tests.helpers.megatron_parser import remember_docstrings

    remember_docstrings()
    os.environ.pop("E2_TRACEBACK", None)
    outcome = {}
    for number, (name, run) in enumerate(runs.items()):
        files = [folder / f"{number}.{rank}.stderr" for rank in range(run.get("ranks", 1))]
        codes = ranks_of(run, files)
        texts = [file.read_text(errors="replace") for file in files]
        outcome[name] = list(zip(codes, texts, strict=True))
    print(json.dumps(outcome))


def ranks_of(run, files):
    """Run it; the exit code of each rank."""
    # As torchrun does, keep the ranks' store here, where it outlives them.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    alive, codes = {}, [None] * len(files)
    for rank, file in enumerate(files):
        process = os.fork()
        if process == 0:
            child(run, rank, len(files), store.port, file)
        alive[process] = rank
    end = time.monotonic() + LONGEST
    while alive:
        process, status = os.waitpid(-1, os.WNOHANG)
        if process:
            codes[alive.pop(process)] = os.waitstatus_to_exitcode(status)
            if status:
                end = min(end, time.monotonic() + 1)
        elif time.monotonic() > end:
            for process in alive:
                os.kill(process, signal.SIGTERM)
            end = time.monotonic() + LONGEST
        else:
            time.sleep(0.01)
    return codes


def child(run, rank, ranks, port, file):
    """One rank, in its own process; never returns."""
    code = 1
    try:
        target = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(target, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.environ |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(ranks),
            "LOCAL_WORLD_SIZE": str(ranks),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
        }
        sys.argv = ["pretrain_e2.py", *run["argv"]]
        if run.get("broken"):
            break_it(*run["broken"])
        pretrain_e2.main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def break_it(module, name, body):
    """Put a function in the place of one of ours, as if it stood in the same file."""
    owner = importlib.import_module(module)
    file = owner.__file__
    *outer, name = name.split(".")
    for part in outer:
        owner = getattr(owner, part)
    scope = {"original": getattr(owner, name)}
    source = f"def {name}(*given, **named):\n    {body}\n"
    exec(compile(source, file, "exec"), scope)
    setattr(owner, name, scope[name])


if __name__ == "__main__":
    main()
