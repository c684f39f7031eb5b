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
    """What a training window is positioned by.

    Attributes:
        scale: g.
        offset: t, by how many tokens of the extended window the last token is moved at most.
        word: 64 bits for placements that need more randomness than one number.
        placement: where the tokens lie; that of the paper with t = 0 is plain positions.
    """

    scale: float
    offset: int
    word: int = 0
    placement: str = "offset"


def random_words(seed: int, index: int, count: int = 4) -> tuple[int, ...]:
    """64-bit words for (seed, index), from the Philox stream ``seed``.

    Args:
        seed: below 2^64.
        index: below 2^64; every index has a stream of its own.
        count: how many; the first ones do not depend on it.
    """
    import numpy as np

    # As uint64 arrays: numpy takes a list with a number above 2^63 for floats.
    generator = np.random.Philox(
        key=np.array([seed, _STREAM], dtype=np.uint64),
        counter=np.array([0, index, 0, 0], dtype=np.uint64),
    )
    return tuple(generator.random_raw(count).tolist())


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

    return np.sort(np.argsort(_stream(word, bound), kind="stable")[:count])


def random_fractions(word: int, count: int) -> "np.ndarray":
    """Real numbers in [0, 1), uniform in steps of 2^-53.

    Args:
        word: seeds them.
        count: how many.

    Returns:
        float64 [count].
    """
    import numpy as np

    return (_stream(word, count) >> np.uint64(11)) * 2.0**-53


def _stream(word: int, count: int) -> "np.ndarray":
    """``count`` words of the Philox stream ``word``, uint64."""
    import numpy as np

    return np.random.Philox(key=np.array([word, _STREAM], dtype=np.uint64)).random_raw(count)


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
