# SPDX-License-Identifier: Apache-2.0
"""Which names a pickle of a checkpoint may call: what Megatron and torch write, and nothing else.

A pickle names the functions and classes that it is built from, and whoever loads it calls them. A
checkpoint needs few: tensors, arrays, plain containers, the arguments of the run, and Megatron's
enumerations and dataclasses. So a pickle is read once without calling anything, and one that names
more is not loaded.
"""

import contextlib
import dataclasses
import enum
import importlib
import io
import logging
import pickle
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterator
from typing import Any

# Module -> names; the classes of torch's metadata are all plain dataclasses.
_NAMES = {
    "_codecs": {"encode"},
    "argparse": {"Namespace"},
    "builtins": {"bytearray", "complex", "frozenset", "range", "set", "slice"},
    "collections": {"OrderedDict", "defaultdict", "deque"},
    "datetime": {"date", "datetime", "timedelta", "timezone"},
    "io": {"BytesIO"},
    "_io": {"BytesIO"},
    "pathlib": {"Path", "PosixPath", "PurePath", "PurePosixPath"},
    "pathlib._local": {"Path", "PosixPath", "PurePath", "PurePosixPath"},
    "numpy": {"dtype", "ndarray"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "numpy.core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.numeric": {"_frombuffer"},
    "torch": {"Size", "device", "Tensor"},
    "torch._utils": {"_rebuild_tensor_v2", "_rebuild_parameter"},
    "torch.serialization": {"_get_layout"},
}
# Below these only enumerations and dataclasses; whatever they make cannot be called in its turn.
_PACKAGES = ("megatron.", "torch.distributed.checkpoint.", "transformer_engine.", "signal.")


class ForeignNameError(pickle.UnpicklingError):
    """A pickle names something that no checkpoint needs."""


def check_names(data: bytes) -> None:
    """Read a pickle without calling what it names.

    Args:
        data: the pickle.

    Raises:
        ForeignNameError: it names something that a checkpoint does not need.
        pickle.UnpicklingError: it is no whole pickle; other errors may be raised then, too.
    """
    _Reader(io.BytesIO(data)).load()


def check_names_of_archive(data: bytes) -> None:
    """The same for what ``torch.save`` wrote: a zip archive with a pickle in it.

    Raises:
        ForeignNameError: see :func:`check_names`.
        zipfile.BadZipFile: it is none; other errors may be raised for a damaged one.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            if name.endswith(".pkl"):
                check_names(archive.read(name))


def is_allowed(module: str, name: str) -> bool:
    """Whether a checkpoint may name this."""
    if name in _NAMES.get(module, ()):
        return True
    if module == "torch":
        import torch

        return name.endswith("Storage") or isinstance(getattr(torch, name, None), torch.dtype)
    if not f"{module}.".startswith(_PACKAGES) or "." in name:
        return False
    try:
        with importing_quietly():
            found = getattr(importlib.import_module(module), name, None)
    except ImportError:  # whoever loads it says what has to be installed
        return True
    except Exception:  # a module that does not import here cannot be loaded from either
        return False
    return isinstance(found, type) and (
        issubclass(found, enum.Enum) or dataclasses.is_dataclass(found)
    )


@contextlib.contextmanager
def importing_quietly() -> Iterator[None]:
    """Keep Megatron, which a pickle's enumerations import, from saying what is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
        yield


class _Anything:
    """Stands for whatever a pickle makes."""

    def __new__(cls, *_: Any, **__: Any) -> "_Anything":
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass

    def __setitem__(self, _: Any, __: Any) -> None:
        pass

    def append(self, _: Any) -> None:
        pass

    extend = add = update = append

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return self is other


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        # torch.save writes protocol 2, which has the names of Python 2.
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        if not is_allowed(module, name):
            raise ForeignNameError(f"{module}.{name}")
        return _Anything

    def persistent_load(self, _: Any) -> _Anything:
        return _Anything()
