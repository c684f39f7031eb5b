# SPDX-License-Identifier: Apache-2.0
"""Which draws a micro-batch, and a whole iteration, trains with."""

from e2_llm.config import E2Config
from e2_llm.methods import method_for
from e2_llm.sampler import Draw


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
    method = method_for(config)
    if config.draw_per == "sample":
        return [method.draw(seed, index) for index in indices]
    key = consumed_samples if config.draw_per == "iteration" else indices.start
    return [method.draw(seed, key)]


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


def shown(config: E2Config, draws: list[Draw]) -> dict[str, float]:
    """What a log shows of the draws of an iteration.

    Args:
        config: of the positions.
        draws: of all samples, or of what shares one.

    Returns:
        ``e2 scale``, the mean g, and ``e2 max position``, the largest R - 1 + t in tokens of the
        extended window.
    """
    return {
        "e2 scale": sum(draw.scale for draw in draws) / len(draws),
        "e2 max position": config.train_window - 1 + max(draw.offset for draw in draws),
    }
