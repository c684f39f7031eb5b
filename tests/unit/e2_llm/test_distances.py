# SPDX-License-Identifier: Apache-2.0
"""Which distances are trained, against what each placement says of itself."""

import re

import numpy as np
import pytest

from e2_llm.config import E2Config
from e2_llm.distances import sampled_distances, summary
from e2_llm.methods import method_for
from e2_llm.placements import PLACEMENTS


def method(**options):
    return method_for(E2Config(base_window=64, train_window=64, **options))


def test_the_papers_offset_trains_no_far_pair_but_with_the_kept_tokens():
    distances, scales = sampled_distances(method(max_scale=16), 1, 400)
    assert distances.shape == (400, 512)
    assert set(scales) == set(range(1, 17))
    # 4 of 64 tokens are kept: of all pairs 2 x 4/64 x 60/64 hold one of them and another one.
    far = (distances >= 64).mean()
    assert 0.05 < far < 2 * 4 / 64 * 60 / 64


@pytest.mark.parametrize("name", PLACEMENTS)
def test_no_distance_is_beyond_the_room(name):
    distances, scales = sampled_distances(method(max_scale=8, placement=name), 3, 100)
    assert (distances < scales[:, None] * 64).all()
    assert (distances >= 0).all()


def test_plain_windows_have_the_distances_of_a_window():
    distances, _ = sampled_distances(method(placement="plain"), 1, 200)
    # Two of n places apart: k has the share 2 (n - k) / n^2.
    counts = np.bincount(distances.astype(int).ravel(), minlength=64)
    expected = 2 * (64 - np.arange(64)) / 64**2 * distances.size
    expected[0] /= 2
    assert (abs(counts - expected) < 6 * np.sqrt(expected)).all()


def test_the_line_of_a_run():
    text = summary(method(max_scale=8, placement="skips"), 7)
    assert text.startswith("pairs of tokens apart to L ")
    shares = [float(share) for share in re.findall(r"L (\d+\.\d)%", text)]
    assert len(shares) == 4  # to L, 2 L, 4 L, 8 L
    assert sum(shares) == pytest.approx(100, abs=0.3)
