# SPDX-License-Identifier: Apache-2.0
"""Choose the key tokens of a file of documents, or find those of a list again."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2_common.errors import UserError
from e2_common.hf_tokenizer import load_hf_tokenizer
from e2_common.outputs import check_output
from e2_common.progress import progress_bar
from e2_common.provenance import provenance
from e2_tools.evaluation import model as models
from e2_tools.evaluation.key_tokens import list_file
from e2_tools.evaluation.key_tokens.choose import key_positions, tokens_to_read
from e2_tools.evaluation.key_tokens.spans import encoded, identity, merged, within
from e2_tools.evaluation.perplexity.documents import (
    Corpus,
    Document,
    Text,
    adds_bos,
    corpus_of,
    load_selected,
    texts_of,
)
from e2_tools.evaluation.result_file import Results, write_results
from transformers_patches.scale import set_scale


def key_list(args: argparse.Namespace) -> Results:
    """Read the list that the command line names; choose it first if there is none.

    Raises:
        UserError: the list is of other settings or of another tokenizer, or there is none and no
            evaluator is named, or it chooses no token.
    """
    path = args.key_tokens
    if path.exists() or args.evaluator is None:
        content = list_file.read_list(path)
        list_file.require_same(path, content, args)
        if args.evaluator is not None:
            tokenizer = load_hf_tokenizer(args.evaluator, "--evaluator")
            list_file.require_tokenizer(path, content, identity(tokenizer))
        return content
    content = _chosen(args)
    write_results(path, content)
    return content


def _chosen(args: argparse.Namespace) -> Results:
    settings = list_file.settings_of(args)
    evaluator = argparse.Namespace(
        model=args.evaluator,
        scale=settings["evaluator_scale"],
        frequencies=None,
        dtype=args.dtype,
        device=args.device,
    )
    config = models.config_of(evaluator, "--evaluator")
    load = models.model_loader(evaluator)
    tokenizer = load_hf_tokenizer(args.evaluator, "--evaluator")
    prefix = [tokenizer.bos_token_id] if adds_bos(tokenizer) else []
    corpus = load_selected(args, tokenizer, bos=bool(prefix), shortest=2)
    texts = list(_as_read(args, corpus, tokenizer, len(prefix)))
    rule = list_file.rule_of(settings)
    read = [encoded(tokenizer, text.text) for text in texts]
    longest = max(len(prefix) + len(ids) for ids, _ in read)
    _, scales = models.scales_for(config, [longest], evaluator.scale)
    check_output(args.key_tokens, "--key-tokens")
    model = load()
    if evaluator.scale != "none":
        set_scale(model, config, scales[longest], longest)
    documents = []
    work = sum(tokens_to_read(len(prefix) + len(ids), rule) for ids, _ in read)
    with progress_bar(work, "tok", "key tokens") as bar:
        for text, (ids, places) in zip(texts, read, strict=True):
            found = key_positions(model, prefix + ids, rule, bar.update)
            spans = merged(places[index - len(prefix)] for index in found)
            documents.append(
                {
                    "line": text.line,
                    "sha256": text.sha256,
                    "characters": len(text.text),
                    "tokens": len(prefix) + len(ids),
                    "key_tokens": len(found),
                    "begin": [begin for begin, _ in spans],
                    "end": [end for _, end in spans],
                }
            )
    if not any(document["key_tokens"] for document in documents):
        raise UserError(
            f"--evaluator {args.evaluator}: finds no key token, the longest document has {longest} "
            f"tokens; use longer ones or lower --short-context, now {rule.short_context}"
        )
    return {
        "schema": list_file.SCHEMA,
        "settings": settings,
        "scale": scales[longest],
        "tokenizer": identity(tokenizer),
        "selection": list_file.selection_of(args),
        "data": {"path": corpus.path, "sha256": corpus.sha256},
        "documents": documents,
        "provenance": provenance(args.evaluator),
    }


def _as_read(
    args: argparse.Namespace, corpus: Corpus, tokenizer: Any, prefix: int
) -> Iterator[Text]:
    """The texts of documents, as far as these were taken."""
    taken = {document.line: len(document.tokens) - prefix for document in corpus.documents}
    for text in texts_of(args.data, args.json_key):
        if (kept := taken.get(text.line)) is not None:
            _, places = encoded(tokenizer, text.text)
            cut = text.text if kept >= len(places) else text.text[: places[kept - 1][1]]
            yield text._replace(text=cut)


def load_listed(
    args: argparse.Namespace, content: Results, tokenizer: Any
) -> tuple[Corpus, list[NDArray[np.bool_]]]:
    """Tokenize the documents of a list, as far as the evaluator read them.

    Args:
        args: of the command line.
        content: from :func:`key_list`.
        tokenizer: of the model that is scored.

    Returns:
        the documents, and which tokens of each are key, [tokens].

    Raises:
        UserError: the data is not what the list was made of, or no token lies in its spans.
    """
    bos = not args.no_bos and adds_bos(tokenizer)
    prefix = [tokenizer.bos_token_id] if bos else []
    wanted = {document["line"]: document for document in content["documents"]}
    documents, keys = [], []
    for text in texts_of(args.data, args.json_key):
        if (document := wanted.pop(text.line, None)) is None:
            continue
        list_file.require_text(args.key_tokens, document, args.data, text.sha256)
        ids, places = encoded(tokenizer, text.text[: document["characters"]])
        documents.append(Document(text.line, text.sha256, np.array(prefix + ids, dtype=np.int32)))
        spans = list(zip(document["begin"], document["end"], strict=True))
        keys.append(np.concatenate([np.zeros(len(prefix), dtype=bool), within(places, spans)]))
    for document in wanted.values():
        list_file.require_text(args.key_tokens, document, args.data, None)
    if not any(key[1:].any() for key in keys):
        raise UserError(f"{args.key_tokens}: none of its spans holds a token of this model")
    if identity(tokenizer) != content["tokenizer"]:
        print(
            f"note: {args.model} has another tokenizer than the evaluator: its tokens within the "
            "chosen text are scored, and numbers of different tokenizers do not compare",
            file=sys.stderr,
        )
    return corpus_of(args.data, bos, documents), keys


def described(path: Path, content: Results, keys: list[NDArray[np.bool_]]) -> dict[str, Any]:
    """Return what a result file says about the key tokens."""
    return {
        "path": str(path),
        **content["settings"],
        "scale": content["scale"],
        "tokenizer": content["tokenizer"],
        "chosen": sum(document["key_tokens"] for document in content["documents"]),
        "scored": int(sum(key[1:].sum() for key in keys)),
    }
