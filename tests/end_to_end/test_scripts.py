# SPDX-License-Identifier: Apache-2.0
"""The shell scripts: shellcheck, and what a Slurm job does when its time is nearly up.

srun, scancel and scontrol are stand-ins here; tests/multihost/test_slurm.py has the real ones.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers import ROOT
from tests.helpers.commands import run_command
from tests.multihost.stand_ins import RANK, TORCHRUN

SCRIPTS = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("examples/**/*.sh", "examples/**/*.sbatch", "tools/*.sh", ".ci/run")
    for path in ROOT.glob(pattern)
    if "out" not in path.relative_to(ROOT).parts
)


def test_every_script_passes_shellcheck():
    assert len(SCRIPTS) > 20
    shellcheck = Path(sys.executable).with_name("shellcheck")
    run_command(shellcheck, "--severity", "warning", *SCRIPTS)
    for script in SCRIPTS:
        run_command("bash", "-n", script)


# As the real one: SIGTERM to itself kills the tasks at once.
SRUN = """#!/usr/bin/env bash
while [ "$1" != bash ]; do shift; done
"$@" &
echo $! > "$STATE/task"
trap 'kill -KILL $(cat "$STATE/task")' TERM
wait $!
"""
SCANCEL = """#!/usr/bin/env bash
[ "$*" = "--signal TERM 17" ] && kill -TERM "$(cat "$STATE/task")"
"""
SCONTROL = """#!/usr/bin/env bash
if [ "$1" = show ]; then echo first; echo second; else echo "$@" >> "$STATE/requeued"; fi
"""


@pytest.fixture
def stand_ins(tmp_path):
    """The environment of a Slurm job of two nodes in which these programs stand in."""
    scripts = {
        "torchrun": TORCHRUN,
        "rank": RANK,
        "srun": SRUN,
        "scancel": SCANCEL,
        "scontrol": SCONTROL,
    }
    for name, text in scripts.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    slurm = {"JOB_ID": "17", "JOB_NODELIST": "n[1-2]", "NNODES": "2", "GPUS_ON_NODE": "8"}
    return {
        **os.environ,
        **{f"SLURM_{name}": value for name, value in slurm.items()},
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "STATE": str(tmp_path),
        "PYTHON": "torchrun",
    }


def start(argv, environment):
    return subprocess.Popen(
        ["bash", *argv],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # The tests themselves may be a shell's background job, which ignores it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def wait_for(paths, seconds=60):
    end = time.monotonic() + seconds
    while not all(path.exists() for path in paths):
        assert time.monotonic() < end, f"{paths}: not there"
        time.sleep(0.05)


def test_a_slurm_job_saves_and_queues_up_again(stand_ins, tmp_path):
    job = start(["examples/llama2_7b/slurm.sbatch", "--no-such", "3"], stand_ins)
    output = job.communicate(timeout=60)[0]
    assert job.returncode == 2  # a mistake is no reason to queue up again
    assert "unknown option --no-such" in output

    job = start(["examples/llama2_7b/slurm.sbatch", "--train-iters", "50"], stand_ins)
    wait_for([tmp_path / "ready-1", tmp_path / "ready-2"])
    job.send_signal(signal.SIGTERM)
    output = job.communicate(timeout=60)[0]
    assert job.returncode == 0, output
    assert (tmp_path / "saved-1").exists()
    assert (tmp_path / "requeued").read_text() == "requeue 17\n"
    command = (tmp_path / "command").read_text()
    assert "--nnodes 2 --nproc-per-node 8 --max-restarts 3" in command
    assert "--rdzv-endpoint first:29500 --rdzv-id 17" in command
    assert "--train-iters 50" in command


@pytest.mark.parametrize("whole_group", [False, True])
def test_sigterm_reaches_the_ranks_and_not_torchrun(stand_ins, tmp_path, whole_group):
    """Also when it is sent to the group of processes, as some of Slurm's plugins do."""
    recipe = start(["examples/smollm2_135m/train.sh", "--gpus-per-node", "2"], stand_ins)
    wait_for([tmp_path / "ready-1", tmp_path / "ready-2"])
    if whole_group:
        os.killpg(recipe.pid, signal.SIGTERM)
    else:
        recipe.send_signal(signal.SIGTERM)
    output = recipe.communicate(timeout=60)[0]
    assert recipe.returncode == 0, output
    assert "SIGTERM: saving, then ending" in output


def test_the_end_of_a_training_is_the_end_of_its_script(stand_ins, tmp_path):
    (tmp_path / "torchrun").write_text("#!/usr/bin/env bash\nexit 7\n")
    recipe = start(["examples/smollm2_135m/train.sh", "--hours", "0.5"], stand_ins)
    recipe.communicate(timeout=60)
    assert recipe.returncode == 7


def test_ctrl_c_ends_torchrun(stand_ins, tmp_path):
    (tmp_path / "torchrun").write_text(
        "#!/usr/bin/env bash\n"
        "trap 'touch $STATE/interrupted; exit 1' INT\n"
        "touch $STATE/ready\n"
        "for _ in {1..500}; do sleep 0.1; done\n"
    )
    recipe = start(["examples/smollm2_135m/train.sh"], stand_ins)
    wait_for([tmp_path / "ready"])
    os.killpg(recipe.pid, signal.SIGINT)
    recipe.communicate(timeout=60)
    assert recipe.returncode == 1
    assert (tmp_path / "interrupted").exists()
