# SPDX-License-Identifier: Apache-2.0
"""What a test may not leave behind for the next one, and how it is noticed."""

import logging
import os
import sys
from pathlib import Path

OWN = {"PYTEST_CURRENT_TEST"}  # pytest's
OWN |= {"TORCHINDUCTOR_CACHE_DIR"}  # torch names its cache when it first compiles


def state() -> dict:
    """The state of this process that tests share, in parts that can be compared."""
    found = {
        "os.environ": {name: value for name, value in os.environ.items() if name not in OWN},
        "the current folder": os.getcwd(),
        "logging.disable": logging.root.manager.disable,
        "sys.argv": list(sys.argv),
        "sys.path": list(sys.path),
        "sys.modules": dict(sys.modules),
    }
    torch = sys.modules.get("torch")
    if hasattr(torch, "get_default_device"):  # imported to its end
        found["torch's default dtype"] = torch.get_default_dtype()
        found["torch's default device"] = str(torch.get_default_device())
        found["torch's threads"] = torch.get_num_threads()
        found["torch's gradients"] = torch.is_grad_enabled()
        found["torch's deterministic mode"] = torch.are_deterministic_algorithms_enabled()
    matplotlib = sys.modules.get("matplotlib")
    if hasattr(matplotlib, "rcParams"):
        found["matplotlib.rcParams"] = dict.copy(matplotlib.rcParams)
    return found


def what_changed(before: dict, after: dict, temporary: Path) -> list[str]:
    """What differs, in words; of sys.modules only what is made up, gone or exchanged.

    Modules are made up that lie in the folder ``temporary`` or that no file stands for.
    """
    changed = []
    for name in before.keys() & after.keys():
        if before[name] == after[name]:
            continue
        if name == "sys.modules":
            changed += _modules(before[name], after[name], temporary)
        elif name == "sys.path":  # real packages may add to it
            lost = [place for place in before[name] if place not in after[name]]
            added = [place for place in after[name] if Path(place).is_relative_to(temporary)]
            changed += [f"sys.path without {place}" for place in lost]
            changed += [f"sys.path with {place}" for place in added if place not in before[name]]
        else:
            changed.append(f"{name} {_difference(before[name], after[name])}")
    return sorted(changed)


def _difference(before: object, after: object) -> str:
    if isinstance(before, dict):
        keys = sorted(
            key for key in before.keys() | after.keys() if before.get(key) != after.get(key)
        )
        return f"at {', '.join(keys)}"
    return f"was {before} and is {after}"


def _modules(before: dict, after: dict, temporary: Path) -> list[str]:
    gone = [
        f"sys.modules without {name}"
        for name in before.keys() - after.keys()
        # setuptools drops what it brought along, or a namespace of that.
        if "setuptools" not in Path(_origin(before[name]) or "setuptools").parts
    ]
    other = [
        f"sys.modules[{name!r}]"
        for name, module in after.items()
        if before.get(name, after) is not module
        and not (name in before and _origin(before[name]) == _origin(module) is not None)
        and (name in before or _is_made_up(name, module, temporary))
    ]
    return gone + other


def _origin(module: object) -> str | None:
    """Its file; a real module may put another of itself in its place, as transformers does."""
    return getattr(getattr(module, "__spec__", None), "origin", None)


def _is_made_up(name: str, module: object, temporary: Path) -> bool:
    spec = getattr(module, "__spec__", None)
    if spec is None:  # real packages make such below themselves, Cython its own
        return "." not in name and not name.startswith(("_cython_", "cython_runtime"))
    places = [spec.origin, *(spec.submodule_search_locations or ())]
    return any(place and Path(place).is_relative_to(temporary) for place in places)
