# SPDX-License-Identifier: Apache-2.0
"""Made-up records of LongBench, and predictions for them."""

import json

from e2_tools.commands.evaluate_longbench import main


def record(number, **changes):
    return {
        "input": f"Who is number {number}?",
        "context": f"Number {number} is Ann{number}. " * (5 * number + 1),
        "answers": [f"Ann{number}"],
        "length": 5000 * number,
        "all_classes": ["Ann1", "Ann2"],
        "_id": str(number),
    } | changes


def write_tasks(folder):
    """Three tasks' records, of growing length."""
    folder.mkdir()
    for task, count in (("hotpotqa", 4), ("trec", 1), ("triviaqa", 1)):
        lines = [json.dumps(record(n)) + "\n" for n in range(count)]
        (folder / f"{task}.jsonl").write_text("".join(lines))
    return folder


def predict(model, data, output, *flags, max_length=600):
    arguments = ["--model", model, "--data-dir", data, "--output", output]
    arguments += ["--max-length", max_length, "--dtype", "fp32", "--device", "cpu", *flags]
    main(["predict", *map(str, arguments)])
    return contents(output)


def contents(folder):
    return {path.name: path.read_text() for path in sorted(folder.glob("*.jsonl"))}
