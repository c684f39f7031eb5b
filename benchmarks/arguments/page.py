# SPDX-License-Identifier: Apache-2.0
"""Writes docs/arguments.md: what becomes of every argument of Megatron's.

python -m benchmarks.arguments.page            # shows it
python -m benchmarks.arguments.page --write    # writes it
"""

import argparse
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks.arguments.table import (
    HONOURED,
    NEEDS_TE,
    REFUSED,
    TOLD,
    Row,
    megatron_parser,
    rows,
    values_refused,
)
from megatron_patches.start.refused_tables import GROUPS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "arguments.md"
COLUMNS = 120
READ, REFUSAL, NOTE = "a", "b", "c"
# Arguments with a test of their own: what they do is compared with something else.
OWN_TESTS = {
    "no_rope_freq": "test_arguments_end_to_end.py",
    "qk_l2_norm": "test_local_layers.py",
    "moe_layer_freq": "test_local_layers.py",
    "num_experts": "test_local_layers.py",
    "qk_layernorm": "test_local_layers.py",
    "normalization": "test_local_layers.py",
    "step_batch_size_schedule": "test_batch_sizes.py",
    "decrease_batch_size_if_needed": "test_batch_sizes.py",
    "global_batch_size": "test_batch_sizes.py",
    "micro_batch_size": "test_batch_sizes.py",
    "train_samples": "test_batch_sizes.py",
    "optimizer": "test_arguments_end_to_end.py",
    "no_save_optim": "test_arguments_end_to_end.py",
    "no_load_optim": "test_arguments_end_to_end.py",
    "use_checkpoint_args": "test_arguments_end_to_end.py",
    "pretrained_checkpoint": "test_converted.py",
    "finetune": "test_bad_input.py",
    "save": "test_resume.py",
    "load": "test_resume.py",
    "ckpt_format": "test_broken_checkpoints.py",
    "lr": "test_going_on.py",
    "train_iters": "test_going_on.py",
    "lr_decay_style": "test_going_on.py",
    "override_opt_param_scheduler": "test_going_on.py",
    "use_checkpoint_opt_param_scheduler": "test_going_on.py",
    "data_path": "test_datasets.py",
    "split": "test_bad_input.py",
    "reset_attention_mask": "test_datasets.py",
    "seq_length": "test_bad_input.py",
    "max_position_embeddings": "test_bad_input.py",
    "rotary_base": "test_bad_input.py",
    "rotary_interleaved": "test_modules.py",
    "position_embedding_type": "test_bad_input.py",
    "tensor_model_parallel_size": "test_layouts.py",
    "pipeline_model_parallel_size": "test_layouts.py",
    "sequence_parallel": "test_layouts.py",
}
# Checks of what arguments say, beside those of the tables.
OTHER_REFUSALS = (
    "`--position-embedding-type` other than `rope`",
    "`--context-parallel-size` above 1 and `--attention-backend` with Megatron's local layers",
    "`--mtp-num-layers` with YaRN's frequencies",
    "`--dataloader-type external`",
    "with `--save` and without `--e2-override`, what no known family of models has a place for",
    "with `--use-checkpoint-args`, what the checkpoint says otherwise",
)
HEAD = f"""# Megatron's arguments

`pretrain_e2.py` takes every argument of Megatron 0.19.2. This page says what becomes of each.
None is accepted and ignored. `python -m benchmarks.arguments.page --write` makes the page out of
Megatron's parser, its source and our refusals. Our own flags stand in [flags.md](flags.md).

- **{HONOURED}**: a run reads it. The last but one column names a module that does.
- **{REFUSED}**: the run ends with one line that says why.
- **{NEEDS_TE}**: Transformer Engine's layers have it. With Megatron's local layers it is refused.
- **{TOLD}**: Megatron reads it nowhere, and it could change nothing. A run that names it says so.

Some mean nothing without another argument, such as `--moe-layer-freq` without `--num-experts`.
If they would make another model they are refused, otherwise the run says so.

The last column names the test:

- **{READ}** `test_arguments.py`: what is not refused is read by code that a run reaches.
- **{REFUSAL}** `test_refused_arguments.py`: every one is tried on a command line. It gives one line
  that names it.
- **{NOTE}** `test_refused_arguments.py`: every one is told.
- A file: what the argument does is compared with something that we did not write, or with another
  run.
"""


def page() -> str:
    """The whole page."""
    groups = rows(megatron_parser())
    counts = Counter(row.fate for found in groups.values() for row in found)
    lines = [HEAD, "| what becomes of it | arguments |", "|---|---:|"]
    lines += [f"| {fate} | {number} |" for fate, number in sorted(counts.items())]
    lines += ["", "Of some arguments one value is refused:", ""]
    for dest, value, reason in values_refused():
        lines += _bullet(f"`--{dest.replace('_', '-')} {value}`: {reason}.")
    lines += ["", "Also refused:", "", *(line for what in OTHER_REFUSALS for line in _bullet(what))]
    for title, found in groups.items():
        lines += ["", f"## {title[0].upper()}{title[1:]}", ""]
        if title in GROUPS and {row.fate for row in found} == {REFUSED}:
            lines += textwrap.wrap(f"All {len(found)} are refused: {GROUPS[title]}.", COLUMNS)
            lines += ["", *_words(row.flag for row in found)]
        else:
            lines += _table(found)
    return "\n".join(lines) + "\n"


def _table(found: list[Row]) -> Iterator[str]:
    reasons = list(dict.fromkeys(row.why for row in found if row.fate != HONOURED))
    yield "| argument | what becomes of it | read by, or why not | test |"
    yield "|---|---|---|---|"
    for row in sorted(found, key=lambda row: row.fate):
        tests = {HONOURED: READ, REFUSED: REFUSAL, NEEDS_TE: REFUSAL, TOLD: NOTE}
        test = tests.get(row.fate, "")
        if row.fate == HONOURED:
            why = f"`{_short(row.why)}`"
            test = f"`{OWN_TESTS[row.dest]}`" if row.dest in OWN_TESTS else test
        else:
            why = f"reason {reasons.index(row.why) + 1}"
        yield f"| `{row.flag}` | {row.fate} | {why} | {test} |"
    if reasons:
        yield ""
    for number, reason in enumerate(reasons, 1):
        yield from _bullet(f"Reason {number}: {reason}.")


def _short(module: str) -> str:
    """A module's name, of Megatron's at most its last three parts, of ours its room."""
    parts = module.split(".")
    return ".".join(parts[-3:] if parts[0] == "megatron" else parts[:2])


def _bullet(text: str) -> list[str]:
    return textwrap.wrap(text, COLUMNS, initial_indent="- ", subsequent_indent="  ",
                         break_on_hyphens=False)  # fmt: skip


def _words(flags: Iterator[str]) -> list[str]:
    return textwrap.wrap(", ".join(f"`{flag}`" for flag in flags), COLUMNS, break_on_hyphens=False)


def main() -> None:
    """Show the page or write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"write docs/{PAGE.name}")
    if parser.parse_args().write:
        PAGE.write_text(page(), encoding="utf-8")
    else:
        print(page(), end="")


if __name__ == "__main__":
    main()
