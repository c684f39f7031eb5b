# SPDX-License-Identifier: Apache-2.0
"""Attention by window: ask for a value in a long text, keep what the answer's tokens attend to.

The result file (``e2-llm/attention/1``) has an object per window with ``window`` and
``prompt_tokens`` in tokens, ``scale``, ``answer``, ``correct``, the answer's ``tokens``, the spans
``value_span`` and ``pair_spans`` (begin <= token < end), and ``layers``: layer -> ``rows``, pooled
along the input, [generated, bins], and the shares of the attention ``on_value``, ``on_first``, the
first FIRST tokens, and ``on_last``, the last LAST. Where nothing was asked, ``correct``,
``value_span`` and ``on_value`` are None.
"""

import argparse
import hashlib
from typing import Any

import numpy as np
from transformers import DynamicCache, PreTrainedModel

from e2_common.errors import UserError
from e2_common.files import read_text
from e2_common.hf_tokenizer import load_hf_tokenizer
from e2_common.outputs import check_output
from e2_common.progress import Bar, progress_bar
from e2_common.provenance import provenance
from e2_llm.window import Config, base_window
from e2_tools.checkpoint.families import family_of_config
from e2_tools.evaluation import model as models
from e2_tools.evaluation.attention.by_window import SCHEMA, shares_table
from e2_tools.evaluation.attention.picture import draw_attention, scale_and_verdict
from e2_tools.evaluation.attention.pooling import pooled, share_of_first, share_of_last
from e2_tools.evaluation.attention.prompt import Prompt, build_prompt, draw_pairs, plain_prompt
from e2_tools.evaluation.attention.rows import generate_with_rows
from e2_tools.evaluation.result_file import write_results
from e2_tools.plotting import save_png
from transformers_patches.generation import scale_of_request, stop_tokens
from transformers_patches.scale import use_scale

DEPTH = 55.0  # of the pairs, in percent of the text


def evaluate(args: argparse.Namespace) -> str:
    """Evaluate what the command line of ``plot_attention.py`` asks for.

    Args:
        args: its parsed arguments.

    Returns:
        a line per window: its scale, the answer and whether it is right; with ``--table`` a table.

    Raises:
        UserError: anything about the model, the text or the output that the user can mend.
    """
    config = models.config_of(args)
    family_of_config(config, args.model / "config.json")
    layers, heads = _chosen(args, config)
    scale_of_request(config, 1, 1, args.scale)  # refuses a RoPE that cannot be rescaled
    load = models.model_loader(args)
    results_file = args.output.with_suffix(".json")
    for path in (args.output, results_file):
        check_output(path)
    text = read_text(args.text, "--text")
    tokenizer = load_hf_tokenizer(args.model)
    if not tokenizer.is_fast:
        raise UserError(f"{args.model}: its tokenizer does not tell where tokens stand (not fast)")
    pairs = None if args.no_question else draw_pairs(args.seed)
    prompts = {
        window: _prompt(tokenizer, text, window, pairs, args)
        for window in sorted(set(args.windows))
    }
    results: dict[str, Any] = {
        "schema": SCHEMA,
        **models.described(args, config),
        "text": {"file": args.text.name, "sha256": hashlib.sha256(text.encode()).hexdigest()},
        "pairs": pairs,
        "layers": layers,
        "heads": heads,
        "pool": args.pool,
        "base_window": None if args.scale == "none" else base_window(config),
        "results": [],
        "provenance": provenance(args.model),
    }
    model = load()
    _check_sliding(model, args)
    tokens = sum(len(prompt.ids) + args.max_new_tokens for prompt in prompts.values())
    with progress_bar(tokens, "tok") as bar:
        for window, prompt in prompts.items():
            bar.set_description(f"window {window}")
            row = ask(model, config, tokenizer, prompt, layers, heads, args, bar)
            results["results"].append({"window": window, **row})
            write_results(results_file, results)
    save_png(draw_attention(results), args.output)
    lines = [_line(row) for row in results["results"]]
    return "\n".join([*lines, "", shares_table(results)] if args.table else lines)


def ask(
    model: PreTrainedModel,
    config: Config,
    tokenizer: Any,
    prompt: Prompt,
    layers: list[int],
    heads: list[int] | None,
    args: argparse.Namespace,
    bar: Bar,
) -> dict[str, Any]:
    """Ask the question of one window; return its part of the result file."""
    scale = scale_of_request(config, len(prompt.ids), args.max_new_tokens, args.scale)
    use_scale(model, config, scale)  # before the prompt is read
    answer, rows = generate_with_rows(
        model,
        prompt.ids,
        args.max_new_tokens,
        layers,
        heads,
        stop=() if prompt.following else stop_tokens(model),
        given=prompt.following,
        progress=bar.update,
    )
    length = len(prompt.ids)
    text = tokenizer.decode(answer, skip_special_tokens=True)
    return {
        "scale": scale,
        "prompt_tokens": len(prompt.ids),
        "answer": text,
        "correct": None if prompt.value is None else prompt.value in text,
        "tokens": [tokenizer.decode([token]) for token in answer],
        "value_span": prompt.value_span and list(prompt.value_span),
        "pair_spans": [list(span) for span in prompt.pair_spans],
        "layers": {
            str(layer): {
                "on_value": _on_value(weights, prompt),
                "on_first": round(share_of_first(weights), 6),
                "on_last": round(share_of_last(weights, length), 6),
                "rows": _rounded(pooled(weights[:, :length], args.bins, args.pool)),
            }
            for layer, weights in zip(layers, rows.numpy(), strict=True)
        },
    }


def _on_value(weights: np.ndarray, prompt: Prompt) -> float | None:
    if prompt.value_span is None:
        return None
    return round(float(weights[:, slice(*prompt.value_span)].sum(-1).mean()), 6)


def _chosen(args: argparse.Namespace, config: Config) -> tuple[list[int], list[int] | None]:
    sizes = {"layers": config["num_hidden_layers"], "heads": config["num_attention_heads"]}
    chosen = {
        "layers": [sizes["layers"] // 2] if args.layers is None else args.layers,
        "heads": args.heads,
    }
    for name, size in sizes.items():
        for number in chosen[name] or []:
            if number >= size:
                raise UserError(f"--{name} {number}: the model has {name} 0 to {size - 1}")
        if chosen[name] is not None:
            chosen[name] = sorted(set(chosen[name]))
    return chosen["layers"], chosen["heads"]


def _prompt(
    tokenizer: Any, text: str, window: int, pairs: dict[str, str] | None, args: argparse.Namespace
) -> Prompt:
    room = window - args.max_new_tokens
    try:
        if pairs is None:
            return plain_prompt(tokenizer, text, room, args.max_new_tokens)
        depth = DEPTH if args.depth is None else args.depth
        return build_prompt(tokenizer, text, room, depth, pairs, args.suffix)
    except UserError as error:
        raise UserError(f"--windows {window}: {error}") from error


def _check_sliding(model: PreTrainedModel, args: argparse.Namespace) -> None:
    window = getattr(model.config, "sliding_window", None)
    if window and window < max(args.windows) and any(DynamicCache(config=model.config).is_sliding):
        raise UserError(
            f"{args.model}: its attention slides over {window} tokens and forgets those before; "
            "use --windows up to that, or a model with full attention"
        )


def _rounded(rows: np.ndarray) -> list[list[float]]:
    return [[float(f"{weight:.4g}") for weight in row] for row in rows]


def _line(row: dict[str, Any]) -> str:
    scale, verdict = scale_and_verdict(row)
    told = f"{verdict}, {row['answer'][:80]!r}" if verdict else "the text goes on"
    return f"window {row['window']}, {scale}: {told}"
