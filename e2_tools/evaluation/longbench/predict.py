# SPDX-License-Identifier: Apache-2.0
"""Answer LongBench's questions with a model, task by task, going on where a run before stopped."""

import argparse
import itertools
from pathlib import Path
from typing import Any

from e2_common.errors import UserError
from e2_common.hf_tokenizer import load_hf_tokenizer
from e2_common.progress import progress_bar
from e2_common.provenance import provenance
from e2_llm.window import Config
from e2_tools.evaluation import model as models
from e2_tools.evaluation.longbench.answered import TaskFile, check_settings, write_settings
from e2_tools.evaluation.longbench.backends import (
    BATCH_SIZES,
    Backend,
    TransformersBackend,
    VllmBackend,
)
from e2_tools.evaluation.longbench.origin import MARK, origin_of
from e2_tools.evaluation.longbench.predictions import Record
from e2_tools.evaluation.longbench.prompts import check_chat, prompt_ids, read_task, stop_ids
from e2_tools.evaluation.longbench.tasks import TASKS, Task, find_task
from transformers_patches.generation import scale_of_request
from transformers_patches.shared_prefill import SharedPrefill, in_runs

Batch = tuple[tuple[int, list[int]], ...]  # record numbers and the token ids of their prompts


def predict(args: argparse.Namespace) -> list[Path]:
    """Answer what the command line of ``evaluate_longbench.py predict`` asks for.

    Args:
        args: its parsed arguments.

    Returns:
        the prediction files, one a task.

    Raises:
        UserError: anything about the model, the data or the output that the user can mend.
    """
    sources = task_files(args.data_dir, args.tasks, args.e)
    records = {task: read_task(path) for task, path in sources.items()}
    origins = {
        task.name: origin_of(task, found, longbench_e=args.e)._asdict()
        for task, found in records.items()
    }
    records = {task: found[: args.limit] for task, found in records.items()}
    config = models.config_of(args)
    scale_of_request(config, 1, 1, args.scale)  # refuses a RoPE that cannot be rescaled
    tokenizer = load_hf_tokenizer(args.model)
    check_chat(tokenizer, args.chat, args.model)
    data = {task.name: path for task, path in sources.items()}
    settings = check_settings(args.output, _settings(args, config), data, origins)
    outputs = {task: TaskFile(args.output, task.name, len(records[task])) for task in sources}
    left = sum(len(output.left) for output in outputs.values())
    if left:
        backend = _backend(args, config, max(task.max_new_tokens for task in sources))
        write_settings(args.output, settings)
        total = sum(output.total for output in outputs.values())
        with progress_bar(total, "prompt", done=total - left) as bar:
            for task, output in outputs.items():
                bar.set_description(task.name)
                for batch in _batches(args, task, records[task], output.left, tokenizer):
                    _answer(batch, task, records[task], output, tokenizer, backend)
                    bar.update(len(batch))
                output.finish()
    return [output.finish() for output in outputs.values()]


def task_files(folder: Path, names: list[str] | None, longbench_e: bool) -> dict[Task, Path]:
    """Find the data files of the tasks asked for, by default of all that the folder has.

    Args:
        folder: with ``<task>.jsonl``, or ``<task>_e.jsonl`` of LongBench-E.
        names: of tasks; None for all.
        longbench_e: use the files of LongBench-E.

    Raises:
        UserError: the folder or a file asked for is missing, or a task is unknown.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name LongBench's data with --data-dir")
    suffix = "_e.jsonl" if longbench_e else ".jsonl"
    for name in names or []:
        find_task(name, "--tasks", longbench_e=longbench_e)
        if not (folder / f"{name}{suffix}").is_file():
            raise UserError(f"{folder / f'{name}{suffix}'}: no such file; see --data-dir, --tasks")
    if names is None:
        for path in sorted(folder.glob("*.jsonl")):
            find_task(path.stem.removesuffix("_e"), str(path))
    found = {task: folder / f"{task.name}{suffix}" for task in TASKS.values()}
    found = {
        task: path
        for task, path in found.items()
        if (path.is_file() if names is None else task.name in names)
    }
    if not found:
        raise UserError(f"{folder}: has no file <task>{suffix}; name LongBench's with --data-dir")
    return found


def _settings(args: argparse.Namespace, config: Config) -> dict[str, Any]:
    """What ``settings.json`` records; all but the provenance is the same for runs of a folder."""
    return {
        "model": str(args.model),
        **models.identity(args, config),
        "max_length": args.max_length,
        "scale": args.scale,
        "chat": args.chat,
        "dtype": args.dtype,
        "backend": args.backend,
        "longbench_e": args.e,
        "limit": args.limit,
        "provenance": provenance(args.model),
    }


def _backend(args: argparse.Namespace, config: dict[str, Any], max_new_tokens: int) -> Backend:
    if args.backend == "vllm":
        longest = args.max_length + max_new_tokens
        return VllmBackend(args.model, config, args.scale, args.dtype, longest)
    shared = SharedPrefill() if args.shared_prefill else None
    return TransformersBackend(models.model_loader(args)(), config, args.scale, shared)


def _batches(
    args: argparse.Namespace, task: Task, records: list[Record], numbers: list[int], tokenizer: Any
) -> list[Batch]:
    prompts = [
        (n, prompt_ids(task, records[n], tokenizer, args.max_length, args.chat)) for n in numbers
    ]
    # Like lengths together, so little is padding; the longest first: a lack of memory shows soon.
    prompts.sort(key=lambda each: len(each[1]), reverse=True)
    if args.shared_prefill:  # questions about one document come together
        runs = in_runs([ids for _, ids in prompts])
        prompts = [prompts[place] for run in runs for place in run]
    return list(itertools.batched(prompts, args.batch_size or BATCH_SIZES[args.backend]))


def _answer(
    batch: Batch,
    task: Task,
    records: list[Record],
    output: TaskFile,
    tokenizer: Any,
    backend: Backend,
) -> None:
    prompts = [prompt for _, prompt in batch]
    answers = backend.generate(prompts, task.max_new_tokens, stop_ids(task, tokenizer))
    output.add(
        {
            "pred": tokenizer.decode(answer, skip_special_tokens=True),
            "answers": records[number]["answers"],
            "all_classes": records[number]["all_classes"],
            "length": records[number]["length"],
            **({MARK: records[number][MARK]} if records[number].get(MARK) else {}),
            "index": number,
        }
        for (number, _), answer in zip(batch, answers, strict=True)
    )
