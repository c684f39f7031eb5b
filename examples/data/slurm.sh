#!/usr/bin/env bash
# A corpus to one indexed dataset on many machines: a Slurm array of parts, then a job that joins them.
set -euo pipefail
cd "$(dirname "$0")/../.."

usage() {
    cat <<TEXT
usage: examples/data/slurm.sh [options] [-- any argument of preprocess_data.py]
  --input "PATTERN…"      files or patterns, as one word      (INPUT: $input)
  --output-prefix PREFIX                                      (OUTPUT_PREFIX: $prefix)
  --tokenizer-type TYPE                                       (TOKENIZER_TYPE: $type)
  --tokenizer-model PATH                                      (TOKENIZER_MODEL: $model)
  --keys "KEY…"           of JSON, as one word                (KEYS: $keys)
  --loss-mask-key KEY     see docs/data.md                    (LOSS_MASK_KEY: ${mask:-none})
  --parts N               tasks of the array                  (PARTS: $parts)
  --cpus N                cores of a task, all of a node's    (CPUS: $cpus)
  --sbatch "OPTION…"      for every job, as one word          (SBATCH_OPTIONS: ${options:-none})
  --dry-run               print what would be submitted, submit nothing
--append-eod is always given. The parts are contiguous and alike in size. A part that failed is submitted again by
itself, as --dry-run shows it but with --array=I, and then the job that joins. In brackets: the environment
variable that sets it, and what it is now.
TEXT
}

refuse() { echo "error: $1" >&2 && exit 2; }

input=${INPUT:-}
prefix=${OUTPUT_PREFIX:-data/corpus}
type=${TOKENIZER_TYPE:-HuggingFaceTokenizer}
model=${TOKENIZER_MODEL:-}
keys=${KEYS:-text}
mask=${LOSS_MASK_KEY:-}
parts=${PARTS:-8}
cpus=${CPUS:-64}
options=${SBATCH_OPTIONS:-}
dry_run=
while [ $# -gt 0 ]; do
    case $1 in
        --) shift && break ;;
        --dry-run) dry_run=1 && shift && continue ;;
        -h | --help) usage && exit 0 ;;
        --*) [ $# -ge 2 ] || refuse "$1 needs a value" ;;
    esac
    case $1 in
        --input) input=$2 ;;
        --output-prefix) prefix=$2 ;;
        --tokenizer-type) type=$2 ;;
        --tokenizer-model) model=$2 ;;
        --keys) keys=$2 ;;
        --loss-mask-key) mask=$2 ;;
        --parts) parts=$2 ;;
        --cpus) cpus=$2 ;;
        --sbatch) options=$2 ;;
        *) refuse "unknown option $1; see --help" ;;
    esac
    shift 2
done
[ -n "$input" ] || refuse "--input: name the files; see --help"
[ -n "$model" ] || refuse "--tokenizer-model: name the tokenizer; see --help"
[[ $parts =~ ^[1-9][0-9]{0,4}$ ]] || refuse "--parts $parts: must be a number from 1 to 99999"
[[ $cpus =~ ^[1-9][0-9]*$ ]] || refuse "--cpus $cpus: must be at least 1"
[ -n "$dry_run" ] || command -v sbatch > /dev/null || refuse "sbatch: not here; run this where jobs are submitted"

python=${PYTHON:-python}
# Patterns stay as they are, for preprocess_data.py to read.
read -ra inputs <<< "$input"
read -ra keys <<< "$keys"
read -ra options <<< "$options"
command=("$python" tools/preprocess_data.py --input "${inputs[@]}" --output-prefix "$prefix" --json-keys "${keys[@]}"
    --tokenizer-type "$type" --tokenizer-model "$model" --append-eod --workers "$cpus"
    ${mask:+--loss-mask-key "$mask"} "$@")
# The task's number is known to the task only.
part="$(printf '%q ' "${command[@]}")--shard \$SLURM_ARRAY_TASK_ID/$parts"
join=
unit=document
for word in "$@"; do [ "$word" != --split-sentences ] || unit=sentence; done
for key in "${keys[@]}"; do
    for dataset in "${key}_$unit" ${mask:+"${key}_${unit}_loss_mask"}; do
        shards=$(printf '%q_?????-of-%05d_%q.idx' "$prefix" "$parts" "$dataset")
        join+="$(printf '%q tools/merge_datasets.py %s --output-prefix %q' "$python" "$shards" "${prefix}_$dataset") && "
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

logs=$(dirname "$prefix")
[ -n "$dry_run" ] || mkdir -p "$logs"
array=$(submit --parsable --job-name=tokenise --nodes=1 --ntasks=1 --cpus-per-task="$cpus" --array="0-$((parts - 1))" \
    --output="$logs/tokenise-%A_%a.log" "${options[@]}" --wrap "$part")
[ -z "$dry_run" ] || { echo "$array" && array=JOB; }
submit --job-name=join --nodes=1 --ntasks=1 --dependency="afterok:${array%%;*}" --output="$logs/join-%j.log" \
    "${options[@]}" --wrap "$join"
