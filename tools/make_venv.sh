#!/usr/bin/env bash
# Create the virtual environment DIR with every pin of FILE, with the first Python >= 3.12 found.
# usage: make_venv.sh DIR FILE
set -euo pipefail
venv=$1
pins=$2

find_python() {
    local candidate
    for candidate in ${PYTHON_FOR_VENV:-} python3.12 python3 python3.13 python; do
        if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info[:2] < (3, 12))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "error: no Python >= 3.12 found; install one (apt install python3.12 python3.12-venv," \
        "brew install python@3.12, or pyenv install 3.12) or set PYTHON_FOR_VENV" >&2
    exit 2
}

if [ ! -x "$venv/bin/python" ]; then
    python=$(find_python)
    echo "creating $venv with $($python --version), about 6 GB and a few minutes"
    "$python" -m venv "$venv"
fi
"$venv/bin/python" -m pip install --disable-pip-version-check --quiet --progress-bar on -r "$pins"
# The project itself, so that its packages and the command e2 are found from anywhere.
"$venv/bin/python" -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
