# SPDX-License-Identifier: Apache-2.0
"""A command line of pretrain_e2.py, perhaps with a function of ours broken."""

import importlib
import json
import sys

import pretrain_e2


def run_rank(argv, broken):
    """Be a rank of it."""
    sys.argv = ["pretrain_e2.py", *json.loads(argv)]
    if json.loads(broken):
        break_it(*json.loads(broken))
    pretrain_e2.main()


def break_it(module, name, body):
    """Put a function in the place of one of ours, as if it stood in the same file."""
    owner = importlib.import_module(module)
    file = owner.__file__
    *outer, name = name.split(".")
    for part in outer:
        owner = getattr(owner, part)
    scope = {"original": getattr(owner, name)}
    source = f"def {name}(*given, **named):\n    {body}\n"
    exec(compile(source, file, "exec"), scope)
    setattr(owner, name, scope[name])
