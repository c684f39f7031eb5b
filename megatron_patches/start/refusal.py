# SPDX-License-Identifier: Apache-2.0
"""What Megatron does not take, until the first iteration is done: one line instead of a page.

Until then an exception is a user's mistake more often than not. It becomes a :class:`UserError`
that says what was being made and which flags it is likely about. A fault of ours may not hide
there, so tracebacks stay: what was raised in code of ours, what depends on no flag of the command
line, and what breaks over objects or in the first iteration, both of which ours are part of, unless
what breaks itself reads a flag.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

from e2_common.errors import UserError, brief, on_one_line
from megatron_patches.start.likely_flags import Flags, likely_flags, read_directly, refuses

# Function of Megatron -> what is being made in it; the innermost one in a traceback counts.
PHASES = {
    "parse_args": "these arguments",
    "parse_and_validate_args": "these arguments",
    "get_blend_and_blend_per_split": "the blend of the data",
    "_build_tokenizer": "the tokenizer",
    "_set_wandb_writer": "the writer of Weights & Biases",
    "gpt_config_from_args": "the model",
    "pretrain": "this run",
    "initialize_megatron": "the start of its ranks",
    "set_jit_fusion_options": "the warm-up of its kernels",
    "setup_model_and_optimizer": "the model and the optimizer",
    "get_model": "the model",
    "get_megatron_optimizer": "the optimizer",
    "get_optimizer_param_scheduler": "the schedule of the learning rate",
    "load_checkpoint": "the checkpoint",
    "build_train_valid_test_data_iterators": "the data",
    "train": "the first iteration",
    "evaluate_and_print_results": "the first evaluation",
}
MEMORY = (
    "Lower --micro-batch-size, add --recompute-granularity full --recompute-method uniform "
    "--recompute-num-layers 1, or use more GPUs; tools/plan_memory.py says what fits"
)
_CHECKS = "parse_and_validate_args"
RUNNING = ("train", "evaluate_and_print_results")
_FOUND_OUT = (ImportError, OSError)  # as good as a refusal: a package or a file is not there
_OF_CODE = (TypeError, AttributeError, NameError)  # more often wrong objects than wrong values
OURS = ("e2_common", "e2_llm", "megatron_patches")
_PASSES_ON = "(*args, **kwargs)"  # in the failing line: what fails is what our wrapper wraps


@contextmanager
def one_line() -> Iterator[None]:
    """Turn what Megatron raises inside into one line; with E2_TRACEBACK set let it be.

    Raises:
        UserError: Megatron refused something, or broke on something that a flag asks for; or the
            GPU's memory did not suffice, at any time.
    """
    import torch
    from torch.distributed.checkpoint import CheckpointException

    try:
        yield
    except UserError:
        raise
    except torch.OutOfMemoryError as error:
        raise UserError(f"{brief(error)} {MEMORY}") from error
    except (Exception, CheckpointException) as error:  # the latter is no Exception
        line = None if os.environ.get("E2_TRACEBACK") else explain(error, sys.argv[1:])
        if line is None:
            raise
        raise UserError(line) from error


def explain(error: BaseException, argv: list[str]) -> str | None:
    """One line about an exception of Megatron; None if it may be a fault of ours, or is late.

    Args:
        error: as it was caught.
        argv: words of the command line.
    """
    trace = error.__traceback__
    inside = str(_megatron())
    functions = [
        frame.name
        for frame in traceback.extract_tb(trace)
        if frame.filename.startswith(inside) and frame.name in PHASES
    ]
    if trace is None or not functions or _is_ours(trace) or _is_late(trace):
        return None
    flags, meant = Flags(_parser(), argv), refuses(trace) or isinstance(error, _FOUND_OUT)
    reason = _reason(error, meant)
    if any(name in RUNNING for name in functions):
        likely = read_directly(flags, trace, inside)
    elif isinstance(error, _OF_CODE) and not meant:
        likely = flags.in_message(reason) or read_directly(flags, trace, inside)
    else:
        likely = likely_flags(flags, reason, trace, inside)
    likely = flags.of(_changed(trace)) or likely
    # Where Megatron checks the arguments there is nothing of ours that could be at fault.
    checked = functions[-1] == _CHECKS and isinstance(error, AssertionError | ValueError | OSError)
    if not likely and not checked:
        return None
    return (
        f"Megatron refuses {PHASES[functions[-1]]}: {reason}"
        + (f"; see {', '.join(likely)}" if likely else "")
        + " (E2_TRACEBACK=1 shows where)"
    )


def _reason(error: BaseException, meant: bool) -> str:
    """The message; of a bare assert the asserted line, of what broke the kind of exception."""
    while failures := getattr(error, "failures", None):  # of a CheckpointException: rank -> cause
        error, _ = next(iter(failures.values()))
    message = on_one_line(error)
    if not message:
        return (traceback.extract_tb(error.__traceback__)[-1].line or "").strip()
    return message if meant else f"{type(error).__name__}: {message}"


def _is_ours(trace: TracebackType) -> bool:
    """Whether the innermost frame of Megatron or of ours is of ours."""
    root, megatron = Path(__file__).parents[2], _megatron()
    for frame in reversed(traceback.extract_tb(trace)):
        path = Path(frame.filename)
        if path.is_relative_to(megatron):
            return False
        ours = any(path.is_relative_to(root / package) for package in OURS)
        if ours and _PASSES_ON not in (frame.line or ""):
            return True
    return True


def _is_late(trace: TracebackType) -> bool:
    """Whether an iteration of this run has been done."""
    walk: TracebackType | None = trace
    while walk is not None:
        if walk.tb_frame.f_code.co_name == "pretrain":
            args = walk.tb_frame.f_locals.get("args")
            first = getattr(args, "iteration", 0)
            return getattr(args, "curr_iteration", first) > first
        walk = walk.tb_next
    return False


def _changed(trace: TracebackType) -> set[str]:
    """What shapes a model or its optimizer and is other than in the checkpoint being loaded."""
    from megatron.core.optimizer.optimizer_config import OptimizerConfig
    from megatron.core.transformer.heterogeneous.heterogeneous_config import (
        HeterogeneousTransformerConfig,
    )

    walk: TracebackType | None = trace
    while walk is not None:
        there, here = map(walk.tb_frame.f_locals.get, ("ckpt_args", "args"))
        if there is not None and here is not None:
            kinds = (HeterogeneousTransformerConfig, OptimizerConfig)
            shaping = {"num_experts", *(one.name for kind in kinds for one in fields(kind))}
            stored = vars(there)
            return {
                name
                for name in shaping & stored.keys() & vars(here).keys()
                if stored[name] != vars(here)[name] and not isinstance(stored[name], float)
            }
        walk = walk.tb_next
    return set()


def _megatron() -> Path:
    """The folder of Megatron's code; the entry points in it are not of one package."""
    places = find_spec("megatron").submodule_search_locations
    return Path(next(iter(places)))


def _parser() -> argparse.ArgumentParser:
    """Megatron's flags; ours have their own refusals."""
    from megatron.training.arguments import add_megatron_arguments

    return add_megatron_arguments(argparse.ArgumentParser(allow_abbrev=False))
