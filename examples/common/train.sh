#!/usr/bin/env bash
# E2-LLM from a converted checkpoint, on one node or several; see any examples/*/train.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."
source examples/common/options.sh

usage() {
    cat <<TEXT
usage: $RECIPE/train.sh [options] [-- any argument of pretrain_e2.py]
  --base DIR           converted checkpoint                (BASE: $base)
  --data PREFIX        of .bin and .idx, or a blend as one word: "70 A 20 B 10 C"
                                                           (DATA: $data)
  --out DIR            checkpoints, logs, TensorBoard      (OUT: $out)
  --nodes N            machines                            (NODES: $nodes)
  --gpus-per-node N    ranks on each                       (GPUS_PER_NODE: $gpus_per_node)
  --tp N, --pp N       tensor, pipeline parallel size      (TP: $tp, PP: $pp)
  --seq-length R       training window, tokens             (SEQ_LENGTH: $seq_length)
  --max-scale G        largest scale drawn                 (MAX_SCALE: $max_scale)
  --global-batch N     samples an iteration                (GLOBAL_BATCH: $global_batch)
  --train-iters N                                          (TRAIN_ITERS: $train_iters)
  --max-restarts N     of all ranks after one failed       (MAX_RESTARTS: ${max_restarts:-3 on several nodes})
  --hours H            save and end after so many          (HOURS: ${hours:-none})
  --dry-run            print the layout and the command, run nothing
Several nodes: run it on each with MASTER_ADDR set to the first one's name (torchrun's rendezvous, port
MASTER_PORT: ${MASTER_PORT:-29500}), or use slurm.sbatch. Start it again to resume. In brackets: the
environment variable that sets it, and what it is now.
TEXT
}

base=${BASE:-checkpoints/$NAME}
data=${DATA:-data/corpus_text_document}
out=${OUT:-runs/$NAME-e2}
nodes=${NODES:-$DEFAULT_NODES}
gpus_per_node=${GPUS_PER_NODE:-8}
tp=${TP:-$DEFAULT_TP}
pp=${PP:-$DEFAULT_PP}
seq_length=${SEQ_LENGTH:-$DEFAULT_SEQ_LENGTH}
max_scale=${MAX_SCALE:-20}
global_batch=${GLOBAL_BATCH:-16}
train_iters=${TRAIN_ITERS:-30000}
hours=${HOURS:-}
max_restarts=${MAX_RESTARTS:-}
dry_run=
take_options "--base=text --data=text --out=text --nodes=count --gpus-per-node=count --tp=count --pp=count --seq-length=count \
    --max-scale=count --global-batch=count --train-iters=count --max-restarts=number --hours=text --dry-run=switch --" "$@"
run=${dry_run:+print_command}

# On one node a mistake would only be repeated.
: "${max_restarts:=$((nodes > 1 ? 3 : 0))}"
world=$((nodes * gpus_per_node))
[ $((world % (tp * pp))) -eq 0 ] || refuse "--tp $tp --pp $pp: $world ranks are no multiple of $((tp * pp))"
dp=$((world / (tp * pp)))
[ $((global_batch % dp)) -eq 0 ] || refuse "--global-batch $global_batch: is no multiple of $dp, the data-parallel size"
[ "$nodes" -eq 1 ] || [ -n "$run" ] || [ -n "${MASTER_ADDR:-}" ] ||
    refuse "MASTER_ADDR is not set: with $nodes nodes every one has to know the first one's name"

rendezvous=(--standalone)
[ "$nodes" -eq 1 ] || rendezvous=(
    --rdzv-backend c10d --rdzv-endpoint "${MASTER_ADDR:-FIRST_NODE}:${MASTER_PORT:-29500}"
    --rdzv-id "${SLURM_JOB_ID:-e2}"
)
# From the paper (arXiv 2401.06951, section 4.1): 30,000 iterations, batch 16, AdamW 0.9 / 0.95, learning
# rate 1e-5, R = 4096, G_max = 20, bf16.
paper=(
    --train-iters "$train_iters" --global-batch-size "$global_batch" --adam-beta1 0.9 --adam-beta2 0.95
    --lr 1e-5 --seq-length "$seq_length" --e2-max-scale "$max_scale" --bf16
)
# The paper leaves these open; they are ours.
ours=(
    --micro-batch-size 1 --lr-decay-style constant --lr-warmup-iters "$((train_iters < 200 ? train_iters / 10 : 20))"
    --weight-decay 0 --clip-grad 1.0 --e2-keep-first 4 --seed 1234 --split "98,1,1"
)
layout=(--tensor-model-parallel-size "$tp" --pipeline-model-parallel-size "$pp" --use-distributed-optimizer)
[ "$tp" -eq 1 ] || layout+=(--sequence-parallel)
saving=(
    --use-checkpoint-args --pretrained-checkpoint "$base" --load "$out/checkpoints" --save "$out/checkpoints"
    --save-interval 500 --dist-ckpt-optim-fully-reshardable --tensorboard-dir "$out/tensorboard"
    --tensorboard-log-interval 50 --log-interval 10 --eval-interval 500 --eval-iters 8
    --e2-validation-windows "$seq_length" "$((4 * seq_length))"
    --exit-signal-handler # SIGTERM: save, then end
    --load-newest-whole   # a save that was cut off costs its iterations, not the run
)
if [ -n "$hours" ]; then
    minutes=$(awk -v hours="$hours" 'BEGIN { print int(hours * 60) }')
    [ "$minutes" -gt 0 ] || refuse "--hours $hours: is no number of hours"
    saving+=(--exit-duration-in-mins "$minutes")
fi
# shellcheck disable=SC2206  # a list of words
more=(${EXTRA_ARGS:-} "${rest[@]}")

read -ra blend <<<"$data"
echo "$NAME: $world ranks = TP $tp x PP $pp x DP $dp; $global_batch samples of $seq_length tokens an iteration," \
    "$((global_batch / dp)) micro-batches a rank; $train_iters iterations, $((train_iters * global_batch * seq_length / 1000000)) M tokens"
# torchrun's nodes count restarts each for itself, and look for each other under that number in one store:
# after a failure on one node only they would not meet again. So: a new store every time.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
export CUDA_DEVICE_MAX_CONNECTIONS=${CUDA_DEVICE_MAX_CONNECTIONS:-1} OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
torchrun=(
    "${PYTHON:-python}" -m torch.distributed.run --nnodes "$nodes" --nproc-per-node "$gpus_per_node" --max-restarts "$max_restarts"
    --signals-to-handle "SIGINT,SIGHUP,SIGQUIT" "${rendezvous[@]}"
    pretrain_e2.py "${paper[@]}" "${ours[@]}" "${layout[@]}" "${saving[@]}" --data-path "${blend[@]}" "${more[@]}"
)
[ -z "$run" ] || { $run "${torchrun[@]}" && exit; }
# torchrun would pass SIGTERM on and kill the ranks 30 seconds later, in the middle of a large save. So it is
# kept from torchrun and sent to its children, the ranks, which save and end with code 0; then torchrun ends too.
set -m # a process group of its own
(trap '' TERM && exec "${torchrun[@]}") &
agent=$!
trap 'echo "SIGTERM: saving, then ending" && pkill -TERM -P "$agent" || true' TERM
for signal in INT HUP QUIT; do
    # shellcheck disable=SC2064  # now is when $signal has its value
    trap "kill -$signal $agent" "$signal"
done
status=0
wait "$agent" || status=$?
while kill -0 "$agent" 2> /dev/null; do # it was a signal that ended the wait
    status=0
    wait "$agent" || status=$?
done
exit "$status"
