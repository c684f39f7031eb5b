# SPDX-License-Identifier: Apache-2.0
"""Placements that cut a window at its own joints."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from e2_common.errors import UserError
from e2_llm.config import E2Config
from e2_llm.distances import sampled_distances, summary
from e2_llm.methods import method_for
from e2_llm.placements import PLACEMENTS, Settings
from e2_llm.placements.joints import read_ids
from e2_llm.registry import METHODS
from e2_llm.sampler import random_words

AT_JOINTS = [name for name, placement in PLACEMENTS.items() if placement.joints]
words = st.integers(0, 2**64 - 1)
joints_of_a_window = st.sets(st.integers(0, 320)).map(sorted)


def placement(name, base=128, train=128):
    return PLACEMENTS[name](Settings(base, train))


def test_there_are_two():
    assert AT_JOINTS == ["sentences", "turns"]


@pytest.mark.parametrize("name", AT_JOINTS)
@settings(max_examples=100, deadline=None)
@given(st.floats(1, 64), words, words, st.integers(1, 300), joints_of_a_window)
def test_every_gap_begins_at_a_joint(name, scale, offset_word, word, length, joints):
    it = placement(name, 128, length)
    room = it.room(scale)
    draw = it.draw(scale, room, offset_word, word)
    result = it.places(draw, length, joints=joints)
    assert result.shape == (length,)
    assert result.dtype == torch.float32
    assert result[0] == 0
    gaps = result.diff() - 1
    assert (gaps >= 0).all()
    assert gaps.sum() <= draw.offset == room
    assert result[-1] < max(scale * 128, length)
    assert set(((gaps > 0).nonzero().flatten() + 1).tolist()) <= set(joints)
    assert torch.equal(
        it.places(it.draw(scale, room, offset_word, word), length, None, joints), result
    )
    if not set(joints) & set(range(1, length)):
        assert torch.equal(result, torch.arange(length, dtype=torch.float32))
    # A joint outside of the window, or a caller's kind of numbers, changes nothing.
    inside = np.array([joint for joint in joints if 0 < joint < length])
    assert torch.equal(it.places(draw, length, joints=inside), result)


def test_the_draw_knows_no_joint_and_the_text_no_draw():
    """Two windows of one draw and the same joints are alike; others keep the order of its skips."""
    it = placement("sentences")
    draw = it.draw(8.0, it.room(8.0), *random_words(3, 0)[:2])
    early, late = (it.places(draw, 128, joints=joints) for joints in ([10, 40], [70, 100]))
    assert early[-1] == late[-1]
    assert early[20] - 20 == late[80] - 80


def test_skips_are_sorted_uniform_ones():
    """With one joint the skip is PoSE's; the last of k is the largest of k uniform numbers."""
    one, last = Counter(), []
    for seed in range(12_000):
        it = placement("turns", 8, 8)
        draw = it.draw(3.0, it.room(3.0), *random_words(seed, 0)[:2])
        one[int(it.places(draw, 8, joints=[5])[-1]) - 7] += 1
        if seed < 3000:
            last.append(float(it.places(draw, 8, joints=[2, 5, 6])[-1]) - 7)
    assert set(one) == set(range(17))
    expected = 12_000 / 17
    assert sum((n - expected) ** 2 / expected for n in one.values()) < 39.3  # 16 degrees, 0.999
    mean = sum(1 - (value / 17) ** 3 for value in range(1, 17))  # of the largest of three
    assert abs(np.mean(last) - mean) < 4 * np.std(last) / len(last) ** 0.5


@pytest.mark.parametrize("name", PLACEMENTS)
def test_made_up_joints_lie_as_far_apart_as_is_said(name):
    it = placement(name)
    found = it.example_joints(50_000, 7)
    assert bool(found) == bool(it.joints)
    assert found == it.example_joints(50_000, 7) != it.example_joints(50_000, 8) or not it.joints
    if it.joints:
        assert (np.diff([0, *found]) > 0).all()
        assert np.diff(found).mean() == pytest.approx(it.apart, rel=0.2)


def test_a_method_says_which_kinds_its_placements_need():
    def kinds(**options):
        return method_for(E2Config(base_window=64, train_window=64, **options)).joints

    assert kinds() == kinds(placement="skips:0.5,random:0.5") == kinds(no_offset=True) == ()
    assert kinds(placement="turns") == ("turns",)
    assert kinds(placement="turns:0.2,skips:0.3,sentences:0.5") == ("sentences", "turns")
    fixed = [name for name in METHODS if name != "e2"]
    assert {METHODS[name](E2Config(base_window=64, train_window=64)).joints for name in fixed} == {
        ()
    }


@pytest.mark.parametrize("name", AT_JOINTS)
def test_distances_are_those_of_made_up_joints(name):
    method = method_for(E2Config(base_window=512, train_window=512, max_scale=8, placement=name))
    distances, scales = sampled_distances(method, 3, 100)
    assert (distances < scales[:, None] * 512).all()
    assert (distances > 512).mean() > 0.1
    assert summary(method, 3, 20).endswith(
        f", if joints are about {method.placement(name).apart} tokens apart"
    )


def test_ids_are_read_once_and_stored_as_a_list(tmp_path):
    path = tmp_path / "ids.txt"
    path.write_text("30\n 13 30\t198\n")
    assert read_ids(str(path)) == "[13, 30, 198]"
    assert read_ids("[13, 30, 198]") == "[13, 30, 198]"


@pytest.mark.parametrize(
    ("content", "culprit"),
    [
        (b"13 x 3", "'x' is no token id"),
        (b"13 -3", "'-3' is no token id"),
        (b"1.5", "'1.5' is no token id"),
        ("١٣".encode(), "is no token id"),
        (b" \n", "holds no token id"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (None, "no such file"),
    ],
)
def test_other_files_are_refused(tmp_path, content, culprit):
    path = tmp_path / "ids.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=culprit) as error:
        read_ids(str(path))
    assert str(error.value).startswith("--e2-sentence-ends")
    assert "\n" not in str(error.value)
