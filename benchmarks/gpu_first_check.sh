#!/usr/bin/env bash
# The first run on a GPU: train with E2, save, resume, export, check, prove the kernels, then measure. Every step says
# when it began; each stays under ten minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} # installed or not

usage() {
    cat <<TEXT
usage: benchmarks/gpu_first_check.sh [options] [-- options of gpu_training.py, as --time-limit 300]
  --out DIR        what it writes                                         ($out)
  --device D       cuda; cpu rehearses it at toy size without a GPU       ($device)
  --python FILE    interpreter                                            ($python)
  --until N        the last of the six steps; 4 leaves the kernels and their speed out (6)
Stops at the first step that fails. About 10 minutes on one H100 or H200.
TEXT
}

out=runs/gpu_first_check
device=cuda
python=${PYTHON:-python3}
until=6
while [ $# -gt 0 ]; do
    case $1 in
        --) shift && break ;;
        -h | --help) usage && exit 0 ;;
        --out | --device | --python | --until)
            [ $# -ge 2 ] || { echo "error: $1 needs a value" >&2 && exit 2; }
            case $1 in --out) out=$2 ;; --device) device=$2 ;; --until) until=$2 ;; *) python=$2 ;; esac
            shift 2
            ;;
        *) echo "error: $1 is not an option; --help lists them" >&2 && exit 2 ;;
    esac
done
[ "$device" = cuda ] || [ "$device" = cpu ] || { echo "error: --device $device: cuda or cpu" >&2 && exit 2; }
[[ "$until" =~ ^[1-6]$ ]] || { echo "error: --until $until: a step from 1 to 6" >&2 && exit 2; }
if [ -e "$out" ]; then
    echo "error: --out $out exists; remove it or name another" >&2 && exit 2
fi
if [ "$device" = cuda ] && ! "$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())'; then
    echo "error: --device cuda: torch sees no CUDA device; --device cpu rehearses without one" >&2 && exit 2
fi
mkdir -p "$out"

if [ "$device" = cpu ]; then
    sizes=(--num-layers 2 --hidden-size 64 --ffn-hidden-size 160 --num-attention-heads 4 --vocab-size 256)
    window=64
    measured=(--device cpu --preset tiny --steps 2 --warm-up 1 --profile-steps 1 --micro-batches 2)
else
    sizes=(--num-layers 8 --hidden-size 1024 --ffn-hidden-size 2816 --num-attention-heads 16 --vocab-size 8192)
    window=1024
    measured=(--device cuda --time-limit 240)
fi

end() { echo "everything lies in $out, after $SECONDS s"; }
say() {
    [ "$1" -le "$until" ] || { end && exit; }
    echo "== $1 of 6, after $SECONDS s: $2"
}
train() { # name, iterations, further arguments
    "$python" pretrain_e2.py "${sizes[@]}" --seq-length $window --max-position-embeddings $window \
        --position-embedding-type rope --normalization RMSNorm --swiglu --disable-bias-linear \
        --untie-embeddings-and-output-weights --hidden-dropout 0 --attention-dropout 0 \
        --mock-data --tokenizer-type NullTokenizer --make-vocab-size-divisible-by 1 --num-workers 0 \
        --e2-max-scale 8 --e2-frequencies yarn --micro-batch-size 2 --e2-draw-per sample \
        --global-batch-size 4 --train-iters "$2" --lr 1e-3 --lr-decay-style constant --eval-iters 0 \
        --log-interval 1 --bf16 --use-distributed-optimizer --save "$out/checkpoint" --save-interval "$2" \
        "${@:3}" >"$out/$1.log" 2>&1 || { tail -n 20 "$out/$1.log" >&2 && exit 1; }
    grep '^> kernels:' "$out/$1.log"
    grep -o 'iteration  *[0-9]*/ .*lm loss: [0-9.E+-]*' "$out/$1.log" | sed 's/|.*lm loss/ lm loss/' | sed -n '1p;$p'
}

say 1 "20 steps with E2, and its kernels"
train training 20

say 2 "10 more, resumed with Megatron's local layers"
train resumed 30 --load "$out/checkpoint" --transformer-impl local

say 3 "export, and logits of transformers against Megatron's on the CPU"
"$python" tools/convert_megatron_to_hf.py --load "$out/checkpoint" --save "$out/model" --check

say 4 "the exported model on the device against the CPU"
"$python" - "$out/model" "$device" <<'PYTHON'
import sys

import torch
from transformers import AutoModelForCausalLM

folder, device = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
tokens = torch.randint(model.config.vocab_size, (2, 64), generator=torch.Generator().manual_seed(1))
torch.backends.cuda.matmul.allow_tf32 = False
with torch.no_grad():
    on_cpu = model(tokens).logits
    on_device = model.to(device)(tokens.to(device)).logits.cpu()
difference = (on_cpu - on_device).abs().max().item()
print(f"largest difference of fp32 logits, {device} against cpu: {difference:.1e}")
sys.exit(difference > 1e-3)
PYTHON

say 5 "loss and gradients of every kernel"
"$python" benchmarks/gpu_training.py "${measured[@]}" --correctness --output "$out/correctness.json"

say 6 "speed"
"$python" benchmarks/gpu_training.py "${measured[@]}" --output "$out/speed.json" "$@"
end
