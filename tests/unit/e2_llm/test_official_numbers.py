# SPDX-License-Identifier: Apache-2.0
"""Numbers that the authors' own functions gave for fixed input.

benchmarks/official_code.py compares with the functions themselves.
"""

import numpy as np
import pytest

from benchmarks.official.gene import our_shares
from e2_llm.config import E2Config
from e2_llm.frequencies import RULES
from e2_llm.methods import method_for
from e2_llm.sampler import Draw

ALL_ONES = 2**64 - 1
SOME = [0, 3, 6, 9, 12, 15]  # of the 16 frequencies of d = 32


def places(name, draw, base, train, **options):
    config = E2Config(position_method=name, base_window=base, train_window=train, **options)
    return method_for(config).tokens(draw, train).tolist()


# dwzhu-pku/PoSE a3d4ba8, R = 7, W = 32: the first chunk has (R + 1) / 2 tokens at most, and the
# last token may lie at W - 1.
@pytest.mark.parametrize(
    ("word", "skip", "expected"),
    [
        (ALL_ONES, 25, [0, 1, 2, 3, 29, 30, 31]),
        (ALL_ONES // 2, 8, [0, 1, 10, 11, 12, 13, 14]),
        (0, 0, [0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_pose(word, skip, expected):
    assert places("pose", Draw(32 / 7, skip, word, "skip"), 7, 7, factor=32 / 7) == expected


# bigai-nlco/CREAM 1d15c73, R = L = 60, factor 4, from the numbers of these words: places of tokens
# 15, 16, 19, 20 (around the head's end), 39, 40, 43, 44 (around the tail's start) and 59.
@pytest.mark.parametrize(
    ("word", "expected"),
    [
        (1, [15, 16, 19, 49, 68, 220, 223, 224, 239]),
        (4, [15, 192, 195, 196, 215, 216, 219, 224, 239]),
        (5, [15, 84, 87, 88, 107, 108, 111, 224, 239]),
    ],
)
def test_cream(word, expected):
    found = places("cream", Draw(4.0, 180, word, "cream"), 60, 60, factor=4.0)
    assert [found[token] for token in (15, 16, 19, 20, 39, 40, 43, 44, 59)] == expected


# clx1415926/EndPrompt 9a76e4e: the last 20 of 64 tokens end at 255.
def test_endprompt():
    expected = [*range(44), *range(236, 256)]
    assert places("endprompt", Draw(4.0, 192, 0, "tail"), 64, 64, factor=4.0) == expected


# DAMO-NLP-SG/CLEX 023709d, R = 8, g = 2, from one random subset. With R = 2 L they have 7 for the
# last place, ours is 7.5.
def test_clex():
    draw = Draw(2.0, 8, 5, "random-ends")
    assert places("clex", draw, 8, 8) == [0, 3, 5, 6, 9, 10, 11, 15]
    assert places("clex", draw, 4, 8) == [0, 1.5, 2.5, 3, 4.5, 5, 5.5, 7.5]


# LhLi-QED/GeNE cd27b18, L = 4096: R, G, shares. The second is its recipe for 64k.
@pytest.mark.parametrize(
    ("train", "most", "expected"),
    [
        (4096, 8, {1: 1 / 4, **dict.fromkeys(range(2, 8), 1 / 12), 8: 1 / 4}),
        (16384, 16, dict.fromkeys((4, 8, 12, 16), 1 / 4)),
        (16384, 64, {4: 1 / 4, **dict.fromkeys(range(8, 64, 4), 1 / 28), 64: 1 / 4}),
    ],
)
def test_gene_scales(train, most, expected):
    assert dict(our_shares(4096, train, most)) == pytest.approx(expected, abs=1e-4)


# At d = 32, θ = 10,000, L = 1,024, g = 8, and the attention factor.
@pytest.mark.parametrize(
    ("rule", "expected", "factor"),
    [
        # LhLi-QED/GeNE cd27b18
        ("gene", [1, 0.0729393, 0.00532014, 0.000702927, 0.000125, 2.22285e-05], 1),
        # DAMO-NLP-SG/CLEX 023709d, before anything is learned
        ("ntk-2g", [1, 0.103462, 0.0107044, 0.0011075, 0.000114585, 1.18552e-05], 1),
        # jquesnelle/yarn 995db5b
        ("yarn", [1, 0.155599, 0.0158114, 0.000702927, 0.000125, 2.22285e-05], 1.20794415),
        # openai/gpt-oss 7b58334
        (
            "yarn-untruncated",
            [1, 0.17338, 0.0170441, 0.000702927, 0.000125, 2.22285e-05],
            1.20794415,
        ),
        # microsoft/LongRoPE c9e56aa, with the factors 1, 2, 3 ... 16 for G = 8
        (
            "longrope",
            [1, 0.044457, 0.00451754, 0.000562341, 7.69231e-05, 1.11142e-05],
            1.14017543,
        ),
    ],
)
def test_frequencies(rule, expected, factor):
    it = RULES[rule]
    if it.reads:
        factors = {"long_factor": list(range(1, 17)), "factor": 8.0}
        it = it.with_settings({"longrope_factors": factors})
    inverse, attention_factor = it.frequencies(32, 10000.0, 8.0, 1024)
    assert inverse[SOME].tolist() == pytest.approx(expected, rel=1e-5)
    assert attention_factor == pytest.approx(factor, rel=1e-7)


# meta-llama/llama-models a9c89c4, d = 32, L = 8,192, factor 8.
def test_llama3():
    inverse = RULES["llama3"].frequencies(32, 10000.0, 8.0, 8192).inverse
    expected = [1, 0.177828, 0.0316228, 0.00562341, 0.000213608, 2.22285e-05]
    assert inverse[SOME].tolist() == pytest.approx(expected, rel=1e-5)


# hrlics/CoPE ed52ba5, d = 128: what frequencies 0, 43, 44, 48, 53, 58, 62 and 63 are multiplied by.
def test_cope():
    clipped = RULES["cope"].frequencies(128, 10000.0, 4.0, 4096).inverse
    whole = RULES["ntk"].frequencies(128, 10000.0, 4.0, 4096).inverse
    expected = [1, 1, 1, 0.89457, 0.54129, 0.161359, 0.00681934, 0]
    found = (clipped / whole)[[0, 43, 44, 48, 53, 58, 62, 63]]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)
