# SPDX-License-Identifier: Apache-2.0
"""Two hosts on one machine: network namespaces joined by a virtual cable, a torchrun on each."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PORT = 29500  # of a namespace's own: nothing else can hold it
CARD = "cable"


def missing():
    """Why there cannot be two hosts here, or None."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root on Linux, to make network namespaces"
    if shutil.which("ip") is None:
        return "needs iproute2"
    probe = f"e2-probe-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", probe], capture_output=True, check=False).returncode:
        return "may not make network namespaces"
    subprocess.run(["ip", "netns", "delete", probe], check=False)
    return None


def ip(*words):
    subprocess.run(["ip", *words], check=True, timeout=20)


class Host:
    """A network namespace with one network card."""

    def __init__(self, number):
        self.number = number
        self.name = f"e2-{os.getpid()}-{number}"
        self.address = f"10.99.0.{number + 1}"

    def ip(self, *words):
        ip("-n", self.name, *words)

    def start(self, folder, argv, *torchrun):
        """Start torchrun with two ranks of a world of four; its output goes to ``folder``."""
        command = ["ip", "netns", "exec", self.name, sys.executable, "-m", "torch.distributed.run"]
        command += ["--nnodes", "2", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
        command += ["--rdzv-endpoint", f"10.99.0.1:{PORT}", "--local-addr", self.address]
        command += ["--rdzv-conf", f"is_host={int(self.number == 0)},join_timeout=120"]
        log = (folder / f"host{self.number}.log").open("a")
        environment = {
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": CARD,
            # As examples/common/train.sh, where the reason stands.
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        }
        return subprocess.Popen(
            [*command, *torchrun, "pretrain_e2.py", *argv],
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={**os.environ, "PYTHONWARNINGS": "ignore", **environment},
        )

    def processes(self):
        """Ids of all processes on the host."""
        run = subprocess.run(
            ["ip", "netns", "pids", self.name], capture_output=True, text=True, check=True
        )
        return [int(word) for word in run.stdout.split()]

    def ranks(self):
        """Ids of the processes that train, by local rank."""
        found = {}
        for process in self.processes():
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{process}/environ").read_bytes().decode().split("\0")
                values = dict(word.partition("=")[::2] for word in words)
                command = Path(f"/proc/{process}/cmdline").read_bytes()
                if "LOCAL_RANK" in values and b"torch.distributed.run" not in command:
                    found.setdefault(int(values["LOCAL_RANK"]), process)
        return found

    def kill(self):
        """End everything on the host at once, as a power cut would."""
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


@contextlib.contextmanager
def two_hosts():
    """Yield two hosts that reach each other and nothing else."""
    hosts = Host(0), Host(1)
    try:
        for host in hosts:
            ip("netns", "add", host.name)
        first, second = (host.name for host in hosts)
        ip("link", "add", CARD, "netns", first, "type", "veth", "peer", CARD, "netns", second)
        for host in hosts:
            host.ip("address", "add", f"{host.address}/24", "dev", CARD)
            host.ip("link", "set", CARD, "up")
            host.ip("link", "set", "lo", "up")
        yield hosts
    finally:
        for host in hosts:
            with contextlib.suppress(subprocess.CalledProcessError):
                host.kill()
            subprocess.run(["ip", "netns", "delete", host.name], capture_output=True, check=False)


def losses(folder):
    """The loss of each iteration that the last rank logged, the newest if it was done twice.

    The second line of a process is the mean of its first two iterations: Megatron shows the first
    at once, but does not start its mean anew.
    """
    found, before, is_first = {}, None, False
    for log in sorted(folder.glob("host*.log")):
        for line in log.read_text(errors="replace").splitlines():
            match = re.search(r"iteration\s+(\d+)/.*lm loss: (\S+)", line)
            if match is None:
                continue
            iteration, loss = int(match[1]), float(match[2])
            follows = before == iteration - 1
            found[iteration] = 2 * loss - found[before] if follows and is_first else loss
            before, is_first = iteration, not follows
    return found


def same_curve(some, others):
    """Whether all iterations are there with the same losses, up to the digits of a log."""
    return some.keys() == others.keys() and all(
        abs(some[iteration] - loss) < 5e-6 for iteration, loss in others.items()
    )


def wait_for(condition, seconds, what):
    """Wait until ``condition()`` is true."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, f"{what}: not within {seconds} s"
        time.sleep(0.2)


def finish(processes, seconds):
    """Wait for all; return their exit codes."""
    deadline = time.monotonic() + seconds
    return [process.wait(max(1, deadline - time.monotonic())) for process in processes]
