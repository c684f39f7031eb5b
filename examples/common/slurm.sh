#!/usr/bin/env bash
# Runs a recipe's train.sh on every node of a Slurm job; see any examples/*/slurm.sbatch.
set -euo pipefail
mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
export MASTER_ADDR=${hosts[0]} NODES=$SLURM_NNODES GPUS_PER_NODE=${GPUS_PER_NODE:-${SLURM_GPUS_ON_NODE:-8}}
# Slurm signals this script five minutes before the end (--signal). The ranks then save, and the job queues up
# again. scancel signals the steps alone, not this script; srun would kill them at once if it got SIGTERM itself.
requeue=
trap 'requeue=1; scancel --signal TERM "$SLURM_JOB_ID" || true' TERM
srun --ntasks-per-node=1 --kill-on-bad-exit=1 bash "$RECIPE/train.sh" "$@" &
srun=$!
status=0
wait "$srun" || status=$?
while kill -0 "$srun" 2> /dev/null; do # it was the signal that ended the wait
    status=0
    wait "$srun" || status=$?
done
if [ -n "$requeue" ]; then
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
fi
exit "$status"
