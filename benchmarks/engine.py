# SPDX-License-Identifier: Apache-2.0
"""Whether another engine computes of an exported model what transformers does.

    python benchmarks/engine.py MODEL_DIR --text FILE --llama-cpp MODEL.gguf --node-folder DIR
    python benchmarks/engine.py MODEL_DIR --text FILE --vllm PYTHON

The start of a text is read once by both, in fp32. At every 16th token the most likely next tokens
are compared: how often the first is the same, and how far log-probabilities are apart. DIR is where
`npm install node-llama-cpp` was run; PYTHON is an interpreter that has vLLM.
"""

import json
import math
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from e2_common.errors import UserError, exit_on_user_error, last_line
from e2_tools.arguments import check_counts, command_parser

HERE = Path(__file__).with_name("engines")
EVERY, COUNT = 16, 50  # positions; likely tokens at each
LIKELY = 1e-4  # less likely ones are not compared


@exit_on_user_error
def main() -> None:
    """Ask both, tell."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL_DIR", help="Hugging Face folder at the window to try")
    add("--text", type=Path, required=True, metavar="FILE", help="plain text")
    add("--tokens", type=int, default=1500, help="of the text (default: %(default)s)")
    engine = parser.add_mutually_exclusive_group(required=True)
    engine.add_argument("--llama-cpp", type=Path, metavar="FILE.gguf", help="made of the folder")
    engine.add_argument("--vllm", type=Path, metavar="PYTHON", help="interpreter")
    add("--node-folder", type=Path, metavar="DIR", help="has node_modules/node-llama-cpp")
    args = parser.parse_args()
    check_counts(args, ["tokens"])
    if args.llama_cpp and not args.node_folder:
        raise UserError("--llama-cpp: needs --node-folder")
    tokens = read_tokens(args.model, args.text, args.tokens)
    positions = list(range(EVERY - 1, len(tokens), EVERY))
    question = {"tokens": tokens, "positions": positions, "count": COUNT}
    theirs = ask(args, question)
    print(sentence(theirs, compare(theirs["rows"], log_probabilities(args.model, question))))


def read_tokens(folder: Path, text: Path, count: int) -> list[int]:
    """The first tokens of a text.

    Raises:
        UserError: there is no such text, or too little of it.
    """
    from transformers import AutoTokenizer

    if not text.is_file():
        raise UserError(f"--text {text}: no such file")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(text.read_text(encoding="utf-8")[: 20 * count]).input_ids[:count]
    if len(tokens) < count:
        raise UserError(f"--text {text}: has {len(tokens)} tokens; lower --tokens {count}")
    return tokens


def ask(args: Any, question: dict[str, Any]) -> dict[str, Any]:
    """Run the engine in a process of its own.

    Returns:
        ``name``, ``version``, ``rows``: for each position token -> log-probability.

    Raises:
        UserError: it failed.
    """
    with tempfile.TemporaryDirectory(dir=args.node_folder) as scratch:
        asked, answer = Path(scratch, "question.json"), Path(scratch, "answer.json")
        asked.write_text(json.dumps(question))
        if args.llama_cpp:  # node looks for packages beside the script and above it
            script = shutil.copy(HERE / "llama_cpp.mjs", scratch)
            name, command = "llama.cpp", ["node", script, args.llama_cpp.resolve()]
        else:
            name, command = "vLLM", [args.vllm, HERE / "vllm_engine.py", args.model.resolve()]
        run = subprocess.run(
            [*map(str, command), str(asked), str(answer)],
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode or not answer.exists():
            raise UserError(f"{name} failed: {last_line(run.stderr)}")
        return {"name": name, **json.loads(answer.read_text())}


def log_probabilities(folder: Path, question: dict[str, Any]) -> Any:
    """Those of transformers in fp32, [positions, vocabulary]."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        logits = model(torch.tensor([question["tokens"]])).logits[0]
    return logits[question["positions"]].log_softmax(-1)


def compare(rows: list[dict[str, float]], ours: Any) -> dict[str, float]:
    """How far an engine is from transformers.

    Args:
        rows: for each position token -> log-probability, of the likely tokens.
        ours: log-probabilities [positions, vocabulary].

    Returns:
        ``positions``; ``same``, how many have the same most likely token; ``worst``, the largest
        difference of a log-probability among tokens that either finds likely.
    """
    least, worst, same = math.log(LIKELY), 0.0, 0
    for row, truth in zip(rows, ours, strict=True):
        found = {int(token): value for token, value in row.items()}
        same += max(found, key=found.get) == int(truth.argmax())
        for token, value in found.items():
            expected = float(truth[token])
            if max(value, expected) > least:
                worst = max(worst, abs(value - expected))
    return {"positions": len(rows), "same": same, "worst": worst}


def sentence(theirs: dict[str, Any], found: dict[str, float]) -> str:
    """What came out, to read."""
    window = f", window {theirs['window']}" if "window" in theirs else ""
    return (
        f"{theirs['name']} {theirs['version']}{window}: the most likely token is the same at "
        f"{found['same']} of {found['positions']} positions; log-probabilities differ by at most "
        f"{found['worst']:.3f}"
    )


if __name__ == "__main__":
    main()
