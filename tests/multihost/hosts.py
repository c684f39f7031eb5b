# SPDX-License-Identifier: Apache-2.0
"""Where a world of gloo ranks runs: this machine, or two network namespaces on it."""

import contextlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.helpers import ROOT

PORT = 29500  # of a namespace's own: nothing else can hold it
CARD = "cable"
MARK = "E2_TEST_HOST"
numbers = itertools.count()


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


class Machine:
    """One torchrun at a time, whose processes are known by a mark in their environment."""

    def __init__(self, ranks):
        self.mark = f"{os.getpid()}-{next(numbers)}"
        self.ranks_per_host = ranks
        self.log = "host.log"
        self.enter = []  # what to put before a command
        self.python = sys.executable
        self.meeting = ["--standalone"]
        self.environment = {}

    def start(self, folder, argv, *torchrun):
        """Start torchrun; its output is added to the log in ``folder``."""
        command = [*self.enter, self.python, "-m", "torch.distributed.run", *self.meeting]
        command += ["--nproc-per-node", str(self.ranks_per_host), *torchrun, "pretrain_e2.py"]
        with (folder / self.log).open("a") as log:
            return subprocess.Popen(
                [*command, *argv],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={
                    **os.environ,
                    "PYTHONWARNINGS": "ignore",
                    "OMP_NUM_THREADS": "1",
                    MARK: self.mark,
                    **self.environment,
                },
            )

    def processes(self):
        """The environment of all processes of the host, by id."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
                values = dict(word.partition("=")[::2] for word in words)
                if values.get(MARK) == self.mark:
                    found[int(folder.name)] = values
        return found

    def ranks(self):
        """Ids of the processes that train, by local rank."""
        found = {}
        for process, values in sorted(self.processes().items()):
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{process}/cmdline").read_bytes()
                if "LOCAL_RANK" in values and b"pretrain_e2.py" in command:
                    found.setdefault(int(values["LOCAL_RANK"]), process)
        return found

    def kill(self):
        """End everything on the host at once, as a power cut would."""
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


class Host(Machine):
    """A network namespace with one network card, one half of a world of four ranks."""

    def __init__(self, number):
        super().__init__(ranks=2)
        self.name = f"e2-{os.getpid()}-{number}"
        self.address = f"10.99.0.{number + 1}"
        self.log = f"host{number}.log"
        self.enter = ["ip", "netns", "exec", self.name]
        self.meeting = ["--nnodes", "2", "--rdzv-backend", "c10d"]
        self.meeting += ["--rdzv-endpoint", f"10.99.0.1:{PORT}", "--local-addr", self.address]
        self.meeting += ["--rdzv-conf", f"is_host={int(number == 0)},join_timeout=120"]
        self.environment = {
            "GLOO_SOCKET_IFNAME": CARD,
            # As examples/common/train.sh, where the reason stands.
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        }

    def ip(self, *words):
        ip("-n", self.name, *words)

    def give_up_sending_after(self, tries):
        """Set how often the kernel sends a packet again that nobody answers (15 by default)."""
        setting = f"net.ipv4.tcp_retries2={tries}"
        subprocess.run([*self.enter, "sysctl", "-qw", setting], check=True, timeout=20)


@contextlib.contextmanager
def one_host(ranks):
    """Yield this machine; whatever still runs of the world is ended at the end."""
    machine = Machine(ranks)
    try:
        yield machine
    finally:
        machine.kill()


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
            host.kill()
            subprocess.run(["ip", "netns", "delete", host.name], capture_output=True, check=False)


def logged(folder):
    """Yield (iteration, loss) of every iteration that the last rank did, those done again too.

    The second line of a process is the mean of its first two iterations: Megatron shows the first
    at once, but does not start its mean anew.
    """
    for log in sorted(folder.glob("host*.log")):
        lines, before = 0, None
        for line in log.read_text(errors="replace").splitlines():
            if "model-and-optimizer-setup" in line:  # the last rank says so when it has started
                lines = 0
            match = re.search(r"iteration\s+(\d+)/.*lm loss: (\S+)", line)
            if match:
                lines, loss = lines + 1, float(match[2])
                yield int(match[1]), 2 * loss - before if lines == 2 else loss
                before = loss


def losses(folder):
    """The loss of each iteration, the newest if it was done twice."""
    return dict(logged(folder))


def same_curve(some, others):
    """Whether all iterations are there with the same losses, up to the digits of a log."""
    return some.keys() == others.keys() and all(
        abs(some[iteration] - loss) < 5e-6 for iteration, loss in others.items()
    )


def logs(folder):
    """The ends of the logs, for the message of a failed test."""
    return "".join(path.read_text(errors="replace")[-3000:] for path in folder.glob("host*.log"))


def wait_for(condition, seconds, what, every=0.2):
    """Wait until ``condition()`` is true; return the seconds it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, f"{what}: not within {seconds} s"
        time.sleep(every)
    return time.monotonic() - start


def finish(processes, seconds):
    """Wait for all; return their exit codes."""
    deadline = time.monotonic() + seconds
    return [process.wait(max(1, deadline - time.monotonic())) for process in processes]
