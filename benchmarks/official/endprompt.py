# SPDX-License-Identifier: Apache-2.0
"""EndPrompt's end (arXiv 2605.14589)."""

from collections.abc import Iterator

from benchmarks.official.clones import Clone
from benchmarks.official.findings import Finding, exactly
from benchmarks.official.ours import method, windows
from e2_llm.placements.ends import TAIL

WINDOWS = ((64, 4.0), (1024, 8.0), (8192, 8.0), (8192, 2.5))  # R = L, factor


def compare(clone: Clone, draws: int) -> Iterator[Finding]:
    """Places; nothing is drawn. Their recipe, too, puts 20 tokens at the end."""
    name = "preprocess_fixed_split_pose"
    function = getattr(clone.run("fine_tune_suffix.py", name), name)
    mine, their = [], []
    for train, factor in WINDOWS:
        ((_, places),) = windows(method("endprompt", train, train, factor=factor), 1)
        text = {"input_ids": [0] * train}
        mine.append(places)
        their.append(function(text, None, train, TAIL, int(train * factor) - 1)["position_ids"])
    yield exactly("places, by R and factor", mine, their)
    recipe = clone.read("finetune_main_suffix.sh").split()
    (length,) = {word.partition("=")[2] for word in recipe if word.startswith("CHUNK_2_LENGTH=")}
    yield exactly("tokens at the end, by their recipe", [TAIL], [int(length)])
