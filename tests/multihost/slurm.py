# SPDX-License-Identifier: Apache-2.0
"""A Slurm cluster of one node on this machine: the real daemons, in a folder of the test's own."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess

from tests.multihost.hosts import wait_for

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "scancel", "scontrol", "squeue")
CONFIGURATION = """
ClusterName=e2
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
SlurmctldPort={controller}
SlurmdPort={node}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SchedulerParameters=sched_interval=2
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={processors} Gres=gpu:8 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing():
    """Why there cannot be a cluster here, or None."""
    if os.geteuid() != 0:
        return "needs root, to start Slurm"
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"needs Slurm and munge (Debian: slurm-wlm, munge); no {absent[0]}" if absent else None


class Cluster:
    """Runs Slurm's commands; ``folder`` holds the configuration."""

    def __init__(self, folder):
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}

    def __call__(self, *words, **environment):
        """Run a command; return what it prints."""
        run = subprocess.run(
            [str(word) for word in words],
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        return run.stdout.strip()

    def state(self, job):
        """PENDING, RUNNING, COMPLETED, …"""
        return self("squeue", "--noheader", "--states", "all", "--jobs", job, "--format", "%T")


@contextlib.contextmanager
def cluster(folder):
    """Start the daemons; yield the cluster when its node is idle."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    folder.chmod(0o700)  # munge insists
    (folder / "munge.key").write_bytes(secrets.token_bytes(1024))
    (folder / "munge.key").chmod(0o400)
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        controller, node = first.getsockname()[1], second.getsockname()[1]
    text = CONFIGURATION.format(
        host=socket.gethostname().partition(".")[0],
        folder=folder,
        controller=controller,
        node=node,
        processors=os.cpu_count(),
    )
    (folder / "slurm.conf").write_text(text)
    for gpu in range(8):  # slurmd counts files
        (folder / f"gpu{gpu}").touch()
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-7]\n")
    slurm = Cluster(folder)
    daemons = []
    commands = [
        ["munged", "--foreground", "--force", "--key-file", folder / "munge.key"]
        + ["--socket", folder / "munge.sock", "--pid-file", folder / "munge.pid"]
        + ["--log-file", folder / "munge.log", "--seed-file", folder / "munge.seed"],
        ["slurmctld", "-D"],
        ["slurmd", "-D"],
    ]
    try:
        for command in commands:
            with (folder / f"{command[0]}.out").open("w") as log:
                daemons.append(
                    subprocess.Popen(
                        command, env=slurm.environment, stdout=log, stderr=subprocess.STDOUT
                    )
                )
            if command[0] == "munged":
                wait_for((folder / "munge.sock").exists, 30, "munged")
        wait_for(lambda: _is_idle(slurm), 60, "an idle node")
        yield slurm
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            try:
                daemon.wait(30)
            except subprocess.TimeoutExpired:
                daemon.kill()


def _is_idle(slurm):
    run = subprocess.run(
        ["sinfo", "--noheader", "--format", "%t"],
        env=slurm.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return run.stdout.strip() == "idle"
