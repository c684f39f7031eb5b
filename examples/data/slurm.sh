#!/usr/bin/env bash
# A corpus to one indexed dataset on many machines: a Slurm array of parts, then a job that joins them.
set -euo pipefail
cd "$(dirname "$0")/../.."
source examples/common/options.sh

usage() {
    cat <<TEXT
usage: examples/data/slurm.sh [options] [-- any argument of preprocess_data.py]
  --input "PATTERN…"      files or patterns, as one word      (INPUT: $input)
  --output-prefix PREFIX                                      (OUTPUT_PREFIX: $output_prefix)
  --tokenizer-type TYPE                                       (TOKENIZER_TYPE: $tokenizer_type)
  --tokenizer-model PATH                                      (TOKENIZER_MODEL: $tokenizer_model)
  --keys "KEY…"           of JSON, as one word                (KEYS: $keys)
  --loss-mask-key KEY     see docs/data.md                    (LOSS_MASK_KEY: ${loss_mask_key:-none})
  --parts N               tasks of the array                  (PARTS: $parts)
  --cpus N                cores of a task, all of a node's    (CPUS: $cpus)
  --sbatch "OPTION…"      for every job, as one word          (SBATCH_OPTIONS: ${sbatch:-none})
  --no-append-eod         for texts that end themselves, as Vicuna's conversations do: see docs/data.md
                                                              (NO_APPEND_EOD: ${no_append_eod:-off})
  --dry-run               print what would be submitted, submit nothing
Each document ends with the tokenizer's EOS unless --no-append-eod is given. The parts are contiguous and alike in size. A part that failed is submitted again by
itself, as --dry-run shows it but with --array=I, and then the job that joins. In brackets: the environment
variable that sets it, and what it is now.
TEXT
}

input=${INPUT:-}
output_prefix=${OUTPUT_PREFIX:-data/corpus}
tokenizer_type=${TOKENIZER_TYPE:-HuggingFaceTokenizer}
tokenizer_model=${TOKENIZER_MODEL:-}
keys=${KEYS:-text}
loss_mask_key=${LOSS_MASK_KEY:-}
parts=${PARTS:-8}
cpus=${CPUS:-64}
sbatch=${SBATCH_OPTIONS:-}
no_append_eod=${NO_APPEND_EOD:-}
dry_run=
take_options "--input=text --output-prefix=text --tokenizer-type=text --tokenizer-model=text --keys=text --loss-mask-key=text \
    --parts=text --cpus=count --sbatch=text --no-append-eod=switch --dry-run=switch --" "$@"
[ -n "$input" ] || refuse "--input: name the files; see --help"
[ -n "$tokenizer_model" ] || refuse "--tokenizer-model: name the tokenizer; see --help"
[[ $parts =~ ^[1-9][0-9]{0,4}$ ]] || refuse "--parts $parts: must be a number from 1 to 99999"
[ -n "$dry_run" ] || command -v sbatch > /dev/null || refuse "sbatch: not here; run this where jobs are submitted"

python=${PYTHON:-python}
# Patterns stay as they are, for preprocess_data.py to read.
read -ra inputs <<< "$input"
read -ra keys <<< "$keys"
read -ra options <<< "$sbatch"
ends=(--append-eod)
[ -z "$no_append_eod" ] || ends=()
command=("$python" tools/preprocess_data.py --input "${inputs[@]}" --output-prefix "$output_prefix" --json-keys "${keys[@]}"
    --tokenizer-type "$tokenizer_type" --tokenizer-model "$tokenizer_model" --workers "$cpus"
    "${ends[@]}" ${loss_mask_key:+--loss-mask-key "$loss_mask_key"} "${rest[@]}")
# The task's number is known to the task only.
part="$(printf '%q ' "${command[@]}")--shard \$SLURM_ARRAY_TASK_ID/$parts"
join=
unit=document
for word in "${rest[@]}"; do [ "$word" != --split-sentences ] || unit=sentence; done
for key in "${keys[@]}"; do
    for dataset in "${key}_$unit" ${loss_mask_key:+"${key}_${unit}_loss_mask"}; do
        shards=$(printf '%q_?????-of-%05d_%q.idx' "$output_prefix" "$parts" "$dataset")
        join+="$(printf '%q tools/merge_datasets.py %s --output-prefix %q' "$python" "$shards" "${output_prefix}_$dataset") && "
    done
done
join=${join% && }

submit() {
    if [ -n "$dry_run" ]; then
        printf '%q ' sbatch "$@" && echo
    else
        sbatch "$@"
    fi
}

logs=$(dirname "$output_prefix")
[ -n "$dry_run" ] || mkdir -p "$logs"
array=$(submit --parsable --job-name=tokenise --nodes=1 --ntasks=1 --cpus-per-task="$cpus" --array="0-$((parts - 1))" \
    --output="$logs/tokenise-%A_%a.log" "${options[@]}" --wrap "$part")
[ -z "$dry_run" ] || { echo "$array" && array=JOB; }
submit --job-name=join --nodes=1 --ntasks=1 --dependency="afterok:${array%%;*}" --output="$logs/join-%j.log" \
    "${options[@]}" --wrap "$join"
