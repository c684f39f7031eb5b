# SPDX-License-Identifier: Apache-2.0
"""The interpreter of forks behaves as the real one: output, exit codes, signals, folders, ranks."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.helpers.quick_python import CLIENT, LIBRARIES, quick_python


def wait_until(true):
    """Wait, for 20 seconds at most."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < 20
        time.sleep(0.01)


PROGRAM = """
import os, sys
if __name__ == "__main__":
    import beside
    print(sys.argv, sys.path[0] == os.path.dirname(os.path.abspath(__file__)), beside.__name__)
    print(os.getcwd(), os.environ["A_WORD"], sys.stdin.read(), "ü")
    print("told", file=sys.stderr)
"""
RANK = """
import os, sys, torch
torch.distributed.init_process_group("gloo")
one = torch.ones(1)
torch.distributed.all_reduce(one)
with open(os.environ["A_WORD"] + os.environ["RANK"], "w") as file:
    file.write(f"{one.item()} {sys.executable}")
"""
CASES = {
    "a program": ["program.py", "a b", "--c"],
    "a module": ["-m", "program", "x"],
    "code": ["-c", "import sys; print(sys.argv, sys.path[0], __name__)", "x"],
    "an exit code": ["-c", "raise SystemExit(7)"],
    "an exit in words": ["-c", "raise SystemExit('words')"],
    "unbuffered": ["-u", "-c", "import os; print('a', end=''); os._exit(3)"],
    "buffered": ["-c", "import os; print('a', end=''); os._exit(3)"],  # or not: by a variable
    "at the end": ["-c", "import atexit; atexit.register(print, 'end')"],
    "a thread": [
        "-c",
        "import threading, time\n"
        "threading.Thread(target=lambda: (time.sleep(0.2), print('late'))).start()",
    ],
    "killed": ["-c", "import os; os.kill(os.getpid(), 9)"],
    "terminated": ["-c", "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"],
    "another option": ["-W", "error", "-c", "import warnings; print(warnings.filters[0][0])"],
    "a module of its own": [
        "-c",
        "import __main__; a = 1; print(__main__.a, hasattr(__main__, 'main'))",
    ],
}


def outcome(python, words, folder):
    (folder / "program.py").write_text(PROGRAM)
    (folder / "beside.py").touch()
    run = subprocess.run(
        [str(python), *words],
        capture_output=True,
        input="in",
        text=True,
        cwd=folder,
        env={**os.environ, "A_WORD": "a word"},
        timeout=60,
        check=False,
    )
    return run.returncode, run.stdout, run.stderr


@pytest.mark.parametrize("case", CASES)
def test_as_the_real_one(case, tmp_path):
    found = outcome(quick_python(), CASES[case], tmp_path)
    assert found == outcome(sys.executable, CASES[case], tmp_path)


def test_a_traceback_ends_as_the_real_one(tmp_path):
    code, out, err = outcome(quick_python(), ["-c", "1 / 0"], tmp_path)
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == "ZeroDivisionError: division by zero"


def test_nothing_of_ours_or_megatrons_is_there_before(tmp_path):
    ours = "['e2_llm', 'e2_common', 'e2_tools', 'megatron_patches', 'transformers_patches']"
    code = f"import sys; print([n for n in sys.modules if n.split('.')[0] in {ours}])"
    code += "; print([n for n in sys.modules if n.startswith('megatron')], 'torch' in sys.modules)"
    code += f"; print([n for n in {LIBRARIES} if n not in sys.modules])"
    assert outcome(quick_python(), ["-c", code], tmp_path)[1] == "[]\n[] True\n[]\n"


def test_torchruns_ranks_are_forks_too(tmp_path):
    (tmp_path / "rank.py").write_text(RANK)
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "rank.py"]
    code, _, err = outcome(quick_python(), words, tmp_path)
    assert code == 0, err
    for rank in (0, 1):
        assert (tmp_path / f"a word{rank}").read_text() == f"2.0 {quick_python()}"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_a_signal_reaches_the_fork(number, tmp_path):
    code = f"import os, time; open({str(tmp_path / 'id')!r}, 'w').write(str(os.getpid()) + '.')"
    run = subprocess.Popen(
        [quick_python(), "-c", f"{code}; time.sleep(50)"], stderr=subprocess.DEVNULL
    )
    written = tmp_path / "id"
    wait_until(lambda: written.exists() and written.read_text().endswith("."))
    process = int(written.read_text()[:-1])
    run.send_signal(number)
    # The real one dies of an interrupt by the signal; here its exit code is a shell's for that.
    assert run.wait(20) == (130 if number == signal.SIGINT else -number)
    wait_until(lambda: not os.path.exists(f"/proc/{process}"))


def test_whoever_is_gone_or_says_nothing_stops_nobody(tmp_path):
    address = str(quick_python().with_name("socket"))
    for sent in (b"", b"\0" * 8, (99).to_bytes(8, "big") + b"half"):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(address)
            client.sendall(sent)
    assert outcome(quick_python(), ["-c", "print(1)"], tmp_path) == (0, "1\n", "")


def test_without_its_server_nothing_succeeds(tmp_path):
    client = tmp_path / "python"
    address = str(tmp_path / "socket")
    client.write_text(CLIENT.format(python=sys.executable, address=address))
    client.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        run = subprocess.Popen([client, "-c", "print(1)"], stderr=subprocess.PIPE, text=True)
        connection = listening.accept()[0]
        left = int.from_bytes(connection.recv(8), "big")
        while left:
            left -= len(connection.recv(left))
        connection.close()
        assert "the server of forks is gone" in run.communicate(timeout=20)[1]
        assert run.returncode == 1
