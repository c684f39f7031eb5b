# SPDX-License-Identifier: Apache-2.0
"""Random numbers as a pure function of (seed, sample index), and which indices a micro-batch has.

Nothing is stored and nothing is sent: every tensor and pipeline rank computes the same numbers from
the same index, a resumed run goes on where it stopped, and another parallel layout draws the same
sequence. The random words are raw Philox4x64-10 output, the one numpy stream whose values are
guaranteed across versions (methods of ``numpy.random.Generator`` are not).
"""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np

# Second word of the Philox key: keeps these draws apart from any other use of the same seed.
_STREAM = 0xE2_115


class Draw(NamedTuple):
    """What a training window is positioned by: scale g, offset t in extended tokens, a free word.

    ``word`` (64 bits) is for methods that need more randomness than two numbers.
    """

    scale: float
    offset: int
    word: int = 0


def random_words(seed: int, index: int) -> tuple[int, int, int, int]:
    """Four 64-bit words for (seed, index), from block ``index`` of the Philox stream ``seed``."""
    import numpy as np

    # As uint64 arrays: numpy takes a list with a number above 2^63 for floats.
    generator = np.random.Philox(
        key=np.array([seed, _STREAM], dtype=np.uint64),
        counter=np.array([0, index, 0, 0], dtype=np.uint64),
    )
    a, b, c, d = generator.random_raw(4)
    return int(a), int(b), int(c), int(d)


def below(word: int, bound: int) -> int:
    """Map a 64-bit word to {0, ..., bound - 1}; uniform up to bound / 2^64."""
    return (word * bound) >> 64


def fraction(word: int) -> float:
    """Map a 64-bit word to [0, 1), uniform in steps of 2^-53."""
    return (word >> 11) * 2.0**-53


def random_subset(word: int, count: int, bound: int) -> "np.ndarray":
    """``count`` of the numbers 0 .. bound - 1, every subset alike, sorted.

    Args:
        word: seeds the choice.
        count: at most ``bound``.
        bound: how many there are to choose from.

    Returns:
        int64 [count].
    """
    import numpy as np

    words = np.random.Philox(key=np.array([word, _STREAM], dtype=np.uint64)).random_raw(bound)
    return np.sort(np.argsort(words, kind="stable")[:count])


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
