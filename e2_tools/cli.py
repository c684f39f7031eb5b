# SPDX-License-Identifier: Apache-2.0
"""``e2 VERB``: every command of the project by one name; imports a command when it is called."""

import difflib
import importlib
import sys
from typing import NamedTuple

from e2_common.errors import UserError, exit_on_user_error


class Verb(NamedTuple):
    """A command.

    Attributes:
        group: the heading of ``e2 --help`` that it stands under.
        help: what it does, in a few words.
        module: where its ``main`` is; that of its own name in ``e2_tools.commands`` if empty.
    """

    group: str
    help: str
    module: str = ""


VERBS = {
    "prepare-corpus": Verb("text", "public corpora as they are released -> JSON lines"),
    "preprocess-data": Verb("text", "text -> Megatron's indexed dataset (.bin and .idx)"),
    "merge-datasets": Verb("text", "join indexed datasets, such as the shards of an array job"),
    "inspect-dataset": Verb("text", "check an indexed dataset and show what it holds"),
    "plan-memory": Verb("training", "memory, speed, hours and cost of a run; layouts that fit"),
    "pretrain": Verb("training", "train; under torchrun use pretrain_e2.py", "pretrain_e2"),
    "train-hf": Verb("training", "train on transformers, LoRA included", "train_e2_hf"),
    "show-progress": Verb("training", "run a training behind a progress bar, its output in a log"),
    "plot-positions": Verb("training", "draw which positions a training window takes"),
    "convert-hf-to-megatron": Verb("checkpoints", "Hugging Face folder -> torch_dist checkpoint"),
    "convert-megatron-to-hf": Verb("checkpoints", "torch_dist checkpoint -> Hugging Face folder"),
    "set-window": Verb("checkpoints", "serve another window: rewrites config.json"),
    "evaluate-perplexity": Verb("evaluation", "perplexity by window"),
    "evaluate-passkey": Verb("evaluation", "find a pass key, by window and depth"),
    "evaluate-needle": Verb("evaluation", "find RULER's needle, by window and depth"),
    "evaluate-ruler": Verb("evaluation", "RULER's tasks by window, and the effective window"),
    "evaluate-babilong": Verb("evaluation", "BABILong's qa1 to qa3, from bAbI and a text"),
    "evaluate-mrcr": Verb("evaluation", "OpenAI's MRCR, from its files, by window"),
    "evaluate-recall": Verb("evaluation", "recall a span of made-up words, by window and depth"),
    "evaluate-longbench": Verb("evaluation", "answer LongBench's questions, score the answers"),
    "generate": Verb("evaluation", "continue a text at the scale that its length needs"),
    "plot-attention": Verb("evaluation", "draw what an answer attends to"),
    "plot-results": Verb("results", "pictures and tables of result files"),
    "compare-perplexities": Verb("results", "changes of perplexity, with intervals"),
    "report": Verb("results", "all results and curves of a folder on one HTML page"),
}


@exit_on_user_error
def main() -> None:
    """Run the command that the first argument names, or list them all."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview())
        return
    name, *rest = arguments
    verb = VERBS.get(name)
    if verb is None:
        near = difflib.get_close_matches(name, VERBS, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"e2 {name}: no such command; {hint}`e2 --help` lists them all")
    module = verb.module or f"e2_tools.commands.{name.replace('-', '_')}"
    sys.argv = [f"e2 {name}", *rest]  # what argparse calls the program
    importlib.import_module(module).main()


def overview() -> str:
    """All commands with a line each, by group."""
    width = max(map(len, VERBS))
    lines = [
        "usage: e2 COMMAND [ARGUMENTS]",
        "",
        "`e2 COMMAND --help` lists a command's arguments.",
    ]
    group = None
    for name, verb in VERBS.items():
        if verb.group != group:
            group = verb.group
            lines += ["", f"{group}:"]
        lines.append(f"  {name:<{width}}  {verb.help}")
    return "\n".join(lines)
