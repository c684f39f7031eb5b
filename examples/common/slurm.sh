#!/usr/bin/env bash
# Runs a recipe's train.sh on every node of a Slurm job; see any examples/*/slurm.sbatch.
set -euo pipefail
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR NODES=$SLURM_NNODES GPUS_PER_NODE=${SLURM_GPUS_ON_NODE:-8}
# Slurm signals five minutes before the end (--signal): Megatron then saves, and the job queues up again.
trap 'requeue=1; kill -TERM "$srun" 2> /dev/null || true' TERM
requeue=
srun --ntasks-per-node 1 --kill-on-bad-exit 1 bash "$RECIPE/train.sh" "$@" &
srun=$!
status=0
wait "$srun" || status=$?
if [ -n "$requeue" ]; then
    wait "$srun" || true
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
fi
exit "$status"
