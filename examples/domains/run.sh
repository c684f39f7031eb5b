#!/usr/bin/env bash
# Other kinds of text than the quickstart's addresses: Python's own sources, and a French handbook. The language half of
# examples/position_methods on each, with a few of its methods.
# Finished steps are skipped, an interrupted training resumes: just start it again.
set -euo pipefail
cd "$(dirname "$0")/../.."
source examples/common/options.sh

usage() {
    cat <<'TEXT'
usage: examples/domains/run.sh [options]
  --out DIR           where everything goes              (examples/domains/out)
  --kinds "K ..."     of text: python, french            (both)
  --package FILE      .deb of debian-handbook, for french (fetched by apt-get download)
  --only "NAME ..."   lines of examples/position_methods/methods.txt ("base base_yarn control control_yarn e2 best")
  --seeds "S ..."     of base models and tuning          ("1 2 3")
  --base-steps N      training from scratch              (700)
  --tune-steps N      every method                       (250)
  --document-tokens N of each held-out text              (3072)
  --windows "W ..."   in tokens                          ("128 256 512 1024 2048")
  --jobs N            methods at a time, of a thread each (2)
PYTHON=... chooses the interpreter (.venv/bin/python).
TEXT
}

out=examples/domains/out
kinds="python french"
package=
only="base base_yarn control control_yarn e2 best"
seeds="1 2 3"
base_steps=700
tune_steps=250
document_tokens=3072
windows="128 256 512 1024 2048"
jobs=2
take_options "--out=text --kinds=text --package=text --only=text --seeds=numbers --base-steps=count \
    --tune-steps=count --document-tokens=count --windows=counts --jobs=count" "$@"
export PYTHON=${PYTHON:-.venv/bin/python}

for kind in $kinds; do
    [[ " python french " == *" $kind "* ]] || refuse "--kinds $kind: there are python and french"
done
mkdir -p "$out"
for kind in $kinds; do
    texts=$out/$kind.jsonl
    if [ ! -f "$texts" ]; then
        more=()
        if [ "$kind" = french ]; then
            if [ -z "$package" ]; then
                command -v apt-get > /dev/null || refuse "--package: missing, and apt-get, which fetches it"
                (cd "$out" && apt-get download -q debian-handbook)
                package=$(echo "$out"/debian-handbook_*.deb)
            fi
            more=(--package "$package")
        fi
        "$PYTHON" examples/domains/texts.py "$kind" --output "$texts" "${more[@]}"
    fi
    printf '\n== %s\n' "$kind"
    bash examples/position_methods/run.sh --out "$out/$kind" --tasks language --texts "$texts" --only "$only" --seeds "$seeds" \
        --base-steps "$base_steps" --tune-steps "$tune_steps" --document-tokens "$document_tokens" \
        --windows "$windows" --jobs "$jobs"
done
