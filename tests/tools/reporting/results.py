# SPDX-License-Identifier: Apache-2.0
"""Result files as the evaluate commands write them, for pages and pictures."""

from e2_tools.commands.report import main
from e2_tools.evaluation.perplexity.results import SCHEMA as PERPLEXITY

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


def ruler(label, shares):
    cells = [
        {"window": window, "task": task, "scale": 1.0, "trials": 2, "scores": [share, share]}
        | {"correct": 2 * share, "accuracy": share, "score": 100 * share}
        for window, tasks in shares.items()
        for task, share in tasks.items()
    ]
    return {"schema": "e2-llm/ruler/1", "label": label, "trials": 2, "results": cells}


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
