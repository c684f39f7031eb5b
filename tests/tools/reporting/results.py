# SPDX-License-Identifier: Apache-2.0
"""Result files as the evaluate commands write them, for pages and pictures."""

import json

from e2_tools.commands.report import main
from e2_tools.evaluation.perplexity.results import SCHEMA as PERPLEXITY
from e2_tools.reporting import summary
from e2_tools.reporting.checkpoints import page_of
from e2_tools.reporting.collect import collect

# Perplexity, LongBench, attention; a curve and a map each of RULER and two tests; two curves.
PICTURES = 3 + 6 + 2
DATA = {"path": "held_out.jsonl", "sha256": "0" * 64, "documents": 2, "tokens": 100}


def perplexity(label, values, **more):
    rows = [
        {"window": window, "scale": 1.0, "perplexity": value, "perplexity_full_context": value}
        | {"tokens": 98, "tokens_full_context": 50}
        for window, value in values.items()
    ]
    settings = {"protocol": "press", "stride": 16, "bos": True, "full_context_from": 64}
    return {"schema": PERPLEXITY, "label": label, "data": DATA, **settings, "results": rows, **more}


def grid(schema, label):
    cells = [
        {"window": window, "depth": depth, "scale": window / 128, "trials": 4}
        | {"correct": right, "accuracy": right / 4}
        for window, depth, right in ((256, 0, 4), (256, 50, 3), (512, 0, 1), (512, 50, 0))
    ]
    return {"schema": schema, "label": label, "trials": 4, "results": cells}


def ruler(label, shares, schema="e2-llm/ruler/1"):
    cells = [
        {"window": window, "task": task, "scale": 1.0, "trials": 2, "scores": [share, share]}
        | {"correct": 2 * share, "accuracy": share, "score": 100 * share}
        for window, tasks in shares.items()
        for task, share in tasks.items()
    ]
    return {"schema": schema, "label": label, "trials": 2, "results": cells}


def attention(label):
    row = {"window": 64, "scale": 2, "prompt_tokens": 48, "answer": "bb3b", "correct": True}
    row |= {"tokens": ["bb", "3b"], "value_span": [20, 24], "pair_spans": [[10, 18], [20, 24]]}
    layers = {"1": {"on_value": 0.345, "rows": [[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]]}}
    settings = {"layers": [1], "heads": None, "pool": "max"}
    return {
        "schema": "e2-llm/attention/1",
        "label": label,
        **settings,
        "results": [row | {"layers": layers}],
    }


def report(folder, *flags):
    main([str(folder), *flags])
    return (folder / "report.html").read_text()


NAMES = ("base", "e2")
TRAINED = {"e2_llm": {"method": "e2", "train_window": 128, "max_scale": 16, "iteration": 250}}


def made_by(command, config=None):
    return {"provenance": {"command": command, "model_config": config}}


def short(before="base", after="e2", **changes):
    row = {"task": "piqa", "metric": "acc", "questions": 40, "shots": 0, "paired": True}
    scores = {"before": 0.5, "before_stderr": 0.08, "after": 0.4, "after_stderr": 0.07}
    scores |= {"difference": -0.1, "difference_stderr": 0.05}
    content = {"schema": "e2-llm/short/1", "label": after, "limit": None, "lm_eval": "0.4.13"}
    for name, label in (("before", before), ("after", after)):
        content[name] = {"label": label, "model": f"m/{label}", "max_length": 256, "scale": 2.0}
        content[name] |= {"command": f"python -m lm_eval run --model_args pretrained=m/{label}"}
    return content | {"results": [row | scores], "mean": {"tasks": 1, **scores}} | changes


def write(folder, **files):
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


def both(folder):
    """Everything that the first screen asks for, before and after."""
    for name, config in zip(NAMES, (None, TRAINED), strict=True):
        command = f"python tools/evaluate_X.py --model m/{name} --windows 256 512 --output x.json"
        own = {"model": f"m/{name}"} | made_by(command, config)
        shares = {256: {"vt": 1.0}, 512: {"vt": 0.5 if name == "base" else 0.875}}
        write(
            folder,
            **{
                f"ruler_{name}": ruler(name, shares) | own,
                f"ppl_{name}": perplexity(name, {256: 9.0, 512: 8.0 if name == "e2" else 16.0})
                | own,
                f"needle_{name}": grid("e2-llm/needle/1", name) | own,
            },
        )
    write(folder, short=short())


def first_screen(folder, **options):
    """The summary's table: title -> name -> cell; and the section."""
    section = summary.section(page_of(collect(folder), **options))
    (table,) = section.tables
    names = [cell.text for cell in table.head[1:]]
    rows = {row[0].text: dict(zip(names, row[1:], strict=True)) for row in table.rows}
    return rows, section
