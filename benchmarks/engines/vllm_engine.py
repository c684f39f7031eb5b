# SPDX-License-Identifier: Apache-2.0
"""The most likely next tokens at some positions, by vLLM; runs under the Python that has it.

python vllm_engine.py MODEL_DIR QUESTION.json ANSWER.json
"""

import json
import sys
from pathlib import Path


def main() -> None:
    """Answer the question of the command line."""
    import vllm

    folder, question, answer = sys.argv[1:]
    asked = json.loads(Path(question).read_text())
    engine = vllm.LLM(
        model=folder, dtype="float32", enforce_eager=True, max_logprobs=asked["count"]
    )
    # What follows token i is predicted at i + 1: one more token, of no matter which kind.
    prompt = {"prompt_token_ids": [*asked["tokens"], asked["tokens"][0]]}
    sampling = vllm.SamplingParams(max_tokens=1, prompt_logprobs=asked["count"])
    (output,) = engine.generate(prompt, sampling)
    rows = [
        {token: found.logprob for token, found in output.prompt_logprobs[index + 1].items()}
        for index in asked["positions"]
    ]
    window = engine.llm_engine.model_config.max_model_len
    found = {"version": vllm.__version__, "window": window, "rows": rows}
    Path(answer).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
