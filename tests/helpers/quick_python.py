# SPDX-License-Identifier: Apache-2.0
"""An interpreter for whole scripts: its programs are forks that have the libraries already.

A script starts dozens of Pythons, and each of them imports torch and transformers for seconds. Here
a server has imported them, and nothing of ours or of Megatron's. ``quick_python()`` is a program
that passes its command line, environment, folder and open files on to the server, and ends as the
fork does. Only ``PROGRAM.py``, ``-m MODULE`` and ``-c CODE`` are quick, also after ``-u``; whatever
else comes first is the real interpreter's. It is ``sys.executable`` too, so torchrun's ranks are
forks of the server.

    python -m tests.helpers.quick_python SOCKET   # the server
"""

import atexit
import contextlib
import functools
import gc
import importlib
import io
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import types
import warnings
from pathlib import Path

from tests.helpers import ROOT

LIBRARIES = [
    *("torch", "torch._dynamo", "torch.distributed.launcher.api", "torch.distributed.checkpoint"),
    *("torch.distributed.elastic.agent.server.local_elastic_agent", "torch.utils.tensorboard"),
    *("safetensors.torch", "matplotlib.pyplot", "tqdm"),
    *("transformers.models.auto.modeling_auto", "transformers.models.auto.tokenization_auto"),
    *("transformers.models.llama.modeling_llama", "transformers.generation"),
]
CLIENT = """#!{python} -IS
import array, json, os, signal, socket, sys
words, server = sys.argv[1:], socket.socket(socket.AF_UNIX)
first = words[1] if words[:1] == ["-u"] and len(words) > 1 else words[0] if words else "-"
if first.startswith("-") and first not in ("-m", "-c"):
    os.execv({python!r}, [{python!r}, *words])
server.connect({address!r})
request = dict(words=words, folder=os.getcwd(), environment=dict(os.environ), python=sys.argv[0])
request = json.dumps(request).encode()
socket.send_fds(server, [len(request).to_bytes(8, "big")], [0, 1, 2])
server.sendall(request)
def told():
    answer = server.recv(8)
    if len(answer) < 8:
        sys.exit("the server of forks is gone")
    return int.from_bytes(answer, "big")
process = told()
def passed_on(number, _):
    os.kill(process, number)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
    if signal.getsignal(number) is not signal.SIG_IGN:
        signal.signal(number, passed_on)
status = os.waitstatus_to_exitcode(told())
if status < 0:
    if -status != signal.SIGKILL:
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
os._exit(status)
"""


@functools.cache
def quick_python():
    """The path of the executable, whose server lives as long as this process."""
    folder = tempfile.TemporaryDirectory()
    address, client = f"{folder.name}/socket", Path(folder.name) / "python"
    client.write_text(CLIENT.format(python=sys.executable, address=address))
    client.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen(64)
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.quick_python", str(listening.fileno())],
            pass_fds=[listening.fileno()],
            stdin=subprocess.PIPE,  # closed as this process ends
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        )
    atexit.register(_end, server, folder)
    return client


def _end(server, folder):
    server.stdin.close()
    server.wait()
    folder.cleanup()


def serve(listening):
    """Fork a process for each connection until standard input is closed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in LIBRARIES:
            importlib.import_module(name)
    gc.collect()
    gc.freeze()
    alive = {}
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with selectors.DefaultSelector() as selector:
        for file in (listening, sys.stdin, reads):
            selector.register(file, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is sys.stdin:
                    for process in alive:
                        os.kill(process, signal.SIGKILL)
                    return None
                if key.fileobj is listening:
                    connection = listening.accept()[0]
                    request, files = _request(connection)
                    if request is None:
                        connection.close()
                        continue
                    process = os.fork()
                    if process == 0:
                        held = [*alive.values(), listening, connection, selector]
                        return functools.partial(_become, request, files, held, (reads, writes))
                    for file in files:
                        os.close(file)
                    with contextlib.suppress(OSError):
                        connection.sendall(process.to_bytes(8, "big"))
                    alive[process] = connection
                    selector.register(connection, selectors.EVENT_READ, process)
                elif key.fileobj == reads:
                    os.read(reads, 4096)
                else:  # whoever waits for it is gone
                    os.kill(key.data, signal.SIGKILL)
                    selector.unregister(key.fileobj)
            _reap(alive, selector)


def _request(connection):
    length, files, _, _ = socket.recv_fds(connection, 8, 3)
    left, request = int.from_bytes(length, "big"), b""
    while len(request) < left and (more := connection.recv(left - len(request))):
        request += more
    if len(files) < 3 or len(request) < left:  # who asked is gone
        for file in files:
            os.close(file)
        return None, []
    return json.loads(request), files


def _reap(alive, selector):
    with contextlib.suppress(ChildProcessError):
        while True:
            process, status = os.waitpid(-1, os.WNOHANG)
            if not process:
                return
            connection = alive.pop(process)
            with contextlib.suppress(KeyError):
                selector.unregister(connection)
            with contextlib.suppress(OSError):
                connection.sendall(status.to_bytes(8, "big"))
            connection.close()


def _become(request, files, held, wakeup):
    """Be the program that was asked for, as if this process had begun with it."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for each in held:
        each.close()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    for file in wakeup:
        os.close(file)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.executable, words = request["python"], request["words"]
    unbuffered = words[0] == "-u" or bool(os.environ.get("PYTHONUNBUFFERED"))
    words = words[words[0] == "-u" :]
    sys.stdin = os.fdopen(0, closefd=False)
    output = os.fdopen(1, "wb", buffering=0 if unbuffered else -1, closefd=False)
    sys.stdout = io.TextIOWrapper(
        output, line_buffering=os.isatty(1), write_through=unbuffered, encoding="utf-8"
    )
    sys.stderr = os.fdopen(2, "w", closefd=False, errors="backslashreplace", buffering=1)
    if os.environ.get("PYTHONWARNINGS") == "ignore":
        warnings.simplefilter("ignore")
    threads = os.environ.get("OMP_NUM_THREADS")
    if threads:
        sys.modules["torch"].set_num_threads(int(threads))
    kind, *rest = words
    if kind == "-m":
        sys.argv, sys.path[0] = rest, os.getcwd()
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv, sys.path[0] = ["-c", *rest[1:]], ""
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), vars(main))
    else:
        sys.argv, sys.path[0] = words, str(Path(kind).resolve().parent)
        runpy.run_path(kind, run_name="__main__")


def main():
    """Serve; a fork ends as its program does."""
    program = serve(socket.socket(fileno=int(sys.argv[1])))
    if program is None:
        return
    code = 0
    try:
        program()
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:
        traceback.print_exc()
        code = 130 if isinstance(error, KeyboardInterrupt) else 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
