# SPDX-License-Identifier: Apache-2.0
"""Which scale and offset a micro-batch trains with: a pure function of (seed, sample index).

Nothing is stored and nothing is sent: every tensor and pipeline rank computes the same draw from
the same index, a resumed run goes on where it stopped, and another parallel layout draws the same
sequence. The random words are raw Philox4x64-10 output, the one numpy stream whose values are
guaranteed across versions (methods of ``numpy.random.Generator`` are not).
"""

from typing import NamedTuple

import numpy as np

from megatron_patches.config import E2Config
from megatron_patches.positions import max_offset

# Second word of the Philox key: keeps these draws apart from any other use of the same seed.
_STREAM = 0xE2_115


class Draw(NamedTuple):
    """One draw of E2-LLM: scale g (a factor) and offset t (tokens of the extended window)."""

    scale: float
    offset: int


def random_words(seed: int, index: int) -> tuple[int, int]:
    """Two 64-bit words for (seed, index), from block ``index`` of the Philox stream ``seed``."""
    # As uint64 arrays: numpy takes a list with a number above 2^63 for floats.
    generator = np.random.Philox(
        key=np.array([seed, _STREAM], dtype=np.uint64),
        counter=np.array([0, index, 0, 0], dtype=np.uint64),
    )
    first, second = generator.random_raw(2)
    return int(first), int(second)


def below(word: int, bound: int) -> int:
    """Map a 64-bit word to {0, ..., bound - 1}; uniform up to bound / 2^64."""
    return (word * bound) >> 64


def training_draw(config: E2Config, seed: int, index: int) -> Draw:
    """The draw with number ``index``: g uniform in {1..G_max} (Eq 6), t in {0..g L - R} (Eq 7)."""
    if config.position_method != "e2":
        return Draw(config.constant_scale, 0)
    scale_word, offset_word = random_words(seed, index)
    scale = config.fixed_scale or float(1 + below(scale_word, config.max_scale))
    if config.no_offset:
        return Draw(scale, 0)
    room = max_offset(scale, config.base_window, config.train_window)
    return Draw(scale, below(offset_word, room + 1))


def validation_draw(config: E2Config) -> Draw:
    """The draw of validation: t = 0 and the fixed scale that the training window needs."""
    return Draw(config.constant_scale, 0)


def sample_indices(
    consumed_samples: int, micro_batch: int, micro_batch_size: int, dp_rank: int, dp_size: int
) -> range:
    """Global indices of a micro-batch's samples, in the order Megatron's sampler hands them out.

    Args:
        consumed_samples: samples of all earlier iterations.
        micro_batch: number of the micro-batch in this iteration, from 0.
        micro_batch_size: samples per micro-batch and data-parallel rank.
        dp_rank: data-parallel rank.
        dp_size: number of data-parallel ranks.
    """
    first = consumed_samples + (micro_batch * dp_size + dp_rank) * micro_batch_size
    return range(first, first + micro_batch_size)


def micro_batch_draws(
    config: E2Config, seed: int, indices: range, consumed_samples: int
) -> list[Draw]:
    """The draws of one micro-batch: one for all its samples, or with ``sample`` one for each.

    Args:
        config: what to draw, and for what unit (``draw_per``).
        seed: of the run.
        indices: global indices of the micro-batch's samples.
        consumed_samples: samples of all earlier iterations; keys the draw of ``iteration``.
    """
    if config.draw_per == "sample":
        return [training_draw(config, seed, index) for index in indices]
    key = consumed_samples if config.draw_per == "iteration" else indices.start
    return [training_draw(config, seed, key)]


def iteration_draws(
    config: E2Config, seed: int, consumed_samples: int, batch_size: int, micro_batch_size: int
) -> list[Draw]:
    """Every draw of one iteration over all ranks and micro-batches, for the log.

    Args:
        config: what to draw.
        seed: of the run.
        consumed_samples: samples of all earlier iterations.
        batch_size: samples of the global batch.
        micro_batch_size: samples per micro-batch and data-parallel rank.
    """
    draws = []
    for first in range(consumed_samples, consumed_samples + batch_size, micro_batch_size):
        indices = range(first, first + micro_batch_size)
        draws += micro_batch_draws(config, seed, indices, consumed_samples)
    return draws
