# SPDX-License-Identifier: Apache-2.0
"""A process that has imported Megatron, and forks the ranks of whatever it is asked to run.

    python -m tests.helpers.preloaded_server < REQUESTS

A request is a line of JSON: {"target": module, "arguments": [...], "logs": [a file of each rank],
"printed": null or [...], "seconds": limit, "environment": {...}}. Each rank calls the module's
``run_rank(*arguments)`` in a fork of its own, in an environment as torchrun gives it, with standard
error in its log; standard output too, unless files for it are named. The answer
is a line with the exit code of each rank, after the last has ended; where one fails, the others are
told to end, as torchrun does.
"""

import contextlib
import faulthandler
import gc
import importlib
import json
import os
import signal
import sys
import time
import traceback

from torch.distributed import TCPStore

from megatron_patches.runtime.prepare import prepare

MODULES = [
    *(f"megatron_patches.{name}" for name in ("start.arguments", "model.build", "training.step")),
    *("megatron_patches.training.window_validation", "megatron.training.training"),
    "megatron_patches.training.draw_statistics",
    # What a run imports when it is under way: the compiler comes with torch's optimizers.
    *("torch._dynamo", "torch.utils.tensorboard", "megatron.core.models.mimo.optimizer"),
    *("megatron.core.tokenizers.text.libraries", "megatron.core.datasets.helpers"),
    *("transformers.models.auto.tokenization_auto", "transformers.models.auto.modeling_auto"),
    "pretrain_e2",
]
# What ranks get that take too long, and the seconds until the next. They say where they are first;
# those that only lost another rank do not.
ENDING = ((signal.SIGUSR2, 1), (signal.SIGTERM, 20), (signal.SIGKILL, 60), (signal.SIGKILL, 60))


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed
    prepare()
    for module in MODULES:
        importlib.import_module(module)
    from tests.helpers.megatron_parser import remember_docstrings

    remember_docstrings()
    gc.collect()
    gc.freeze()  # ranks look for garbage often, and none is here
    for line in sys.stdin:
        print(json.dumps(codes_of(json.loads(line))), file=answers, flush=True)


def codes_of(request):
    """Run it; the exit code of each rank."""
    alive, codes = {}, [None] * len(request["logs"])
    with store() as port:
        try:
            for rank in range(len(codes)):
                process = os.fork()
                if process == 0:
                    child(request, rank, port)
                alive[process] = rank
            wait_for(alive, codes, request["seconds"])
        finally:
            for process in alive:
                kill_all_of(process)
    return codes


@contextlib.contextmanager
def store():
    """The port of the ranks' store, which outlives them, as torchrun's does.

    It has a process of its own. Its thread looks up names under a lock of the C library, and a rank
    that is forked from beside such a thread may find the lock taken, for ever.
    """
    told, tell = os.pipe()
    server, keeper = os.getpid(), os.fork()
    if keeper == 0:
        try:
            one = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
            os.write(tell, b"%d\n" % one.port)
            while os.getppid() == server:
                time.sleep(1)
        finally:
            os._exit(1)
    os.close(tell)
    try:
        with os.fdopen(told) as pipe:
            port = int(pipe.readline(16))
        yield port
    finally:
        os.kill(keeper, signal.SIGKILL)
        os.waitpid(keeper, 0)


def wait_for(alive, codes, seconds):
    """Take the ranks out of ``alive`` as they end, with everything that they started."""
    end, numbers = time.monotonic() + seconds, iter(ENDING)
    while alive:
        process, status = os.waitpid(-1, os.WNOHANG)
        if process:
            kill_all_of(process)
            codes[alive.pop(process)] = os.waitstatus_to_exitcode(status)
            if status and end > (soon := time.monotonic() + 1):
                end, numbers = soon, iter(ENDING[1:])
        elif time.monotonic() > end:
            number, patience = next(numbers)
            for process in alive:
                os.kill(process, number)
            end = time.monotonic() + patience
        else:
            time.sleep(0.01)


def kill_all_of(rank):
    """Kill what a rank has started: it ends at once, and leaves such to whoever comes."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(rank, signal.SIGKILL)


def child(request, rank, port):
    """One rank, in its own process; never returns."""
    code = 1
    try:
        os.setpgid(0, 0)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        log = os.open(request["logs"][rank], flags)
        printed = request["printed"]
        os.dup2(os.open(printed[rank], flags) if printed else log, 1)
        os.dup2(log, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        faulthandler.register(signal.SIGUSR2, file=2, all_threads=False)
        ranks = str(len(request["logs"]))
        os.environ.clear()
        os.environ.update(request["environment"])
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        os.environ |= {"WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"
        importlib.import_module(request["target"]).run_rank(*request["arguments"])
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
