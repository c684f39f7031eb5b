# SPDX-License-Identifier: Apache-2.0
"""PoSE's two chunks (arXiv 2309.10400)."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from benchmarks.official.clones import Clone
from benchmarks.official.findings import Finding, Replay, alike, exactly
from benchmarks.official.ours import SEED, cut_and_skip, method, windows
from e2_llm.sampler import random_words

WINDOWS = ((1, 4.0), (2, 2.0), (63, 8.0), (64, 2.5), (128, 16.0))  # R = L, factor


def compare(clone: Clone, draws: int) -> Iterator[Finding]:
    """Places from the same random numbers, then the cut and the skip as distributions."""
    generator = Replay()
    theirs = official(clone, generator)
    mine, their = [], []
    for train, factor in WINDOWS:
        window = int(train * factor)
        it = method("pose", train, train, factor=factor)
        for index, (_, places) in enumerate(windows(it, draws // 20)):
            cut, skip, *_ = random_words(SEED, index)
            # The number in the middle chooses the text of their second chunk.
            generator.feed(cut, 0, skip)
            mine.append(places)
            their.append(theirs(train, window))
    yield exactly("places from the same random numbers", mine, their)
    theirs = official(clone, random.Random(1))
    cuts = [
        [cut_and_skip(places) for _, places in windows(method("pose", 64, 64, factor=4.0), draws)],
        [cut_and_skip(theirs(64, 256)) for _ in range(draws)],
    ]
    yield alike("length of the first chunk", *([cut for cut, _ in it] for it in cuts))
    yield alike("skip", *([skip for _, skip in it] for it in cuts))


def official(clone: Clone, generator: Any) -> Callable[[int, int], np.ndarray]:
    """Their positions [R] of a text of R tokens, by R and W."""
    name = "train_preprocess_function_pose"
    function = getattr(clone.run("src/train_pose.py", name, random=generator, torch=torch), name)

    def positions(train: int, window: int) -> np.ndarray:
        def tokenizer(texts: list[str], **_: Any) -> dict[str, list[list[int]]]:
            return {"input_ids": [list(range(train)) for _ in texts]}

        return function({"text": ["."]}, tokenizer, window, train)["position_ids"][0].numpy()

    return positions
