# SPDX-License-Identifier: Apache-2.0
"""Batches as other people's collators make them: padded on either side, packed, incomplete."""

import pytest
import torch

from e2_common.errors import UserError
from e2_llm.config import E2Config
from tests.helpers.families import make_model
from transformers_patches import WindowCollator, install

ROWS, LENGTH = 2, 32
IDS = torch.randint(0, 256, (ROWS, LENGTH), generator=torch.Generator().manual_seed(1))
TEXTS = ([20, 12], [32])  # a row of two texts and one of one
LEFT = (9, 0)


def training(**options):
    defaults = {"base_window": 64, "train_window": LENGTH, "max_scale": 8, "draw_per": "sample"}
    model = make_model("llama").train()
    positions = install(model, E2Config(**defaults | options), 1)
    positions.set_samples(range(ROWS), 0)
    return model, positions


def alone(model, row, first, last):
    """Logits of a text that is the whole window, at the draw of its row."""
    with torch.no_grad():
        return model(IDS[row, first:last].expand(ROWS, -1)).logits[row]


def ids_of(texts):
    return torch.stack([torch.cat([torch.arange(n) for n in row]) for row in texts])


def mask_of(left):
    return (torch.arange(LENGTH) >= torch.tensor(left)[:, None]).long()


def counted(pad):
    """Position ids as people make them of a mask."""
    mask = mask_of(LEFT)
    return (mask.cumsum(-1) - 1).masked_fill(mask == 0, pad)


@pytest.mark.parametrize("placement", ["offset", "skips"])
@pytest.mark.parametrize("ids", [None, counted(0), counted(1)], ids=["no ids", "0", "1"])
def test_padding_on_the_left_moves_no_text(placement, ids):
    model, _ = training(placement=placement)
    with torch.no_grad():
        logits = model(IDS, attention_mask=mask_of(LEFT), position_ids=ids).logits
    for row, first in enumerate(LEFT):
        expected = alone(model, row, first, LENGTH)
        torch.testing.assert_close(logits[row, first:], expected, atol=1e-4, rtol=1e-4)


def right_padded():
    """The last 8 tokens of the first row are padding, whose ids are 0."""
    ids, mask = ids_of(TEXTS), torch.ones(ROWS, LENGTH, dtype=torch.long)
    ids[0, 24:], mask[0, 24:] = 0, 0
    return ids, mask, ([20, 4], [32])


PACKED = {
    "no mask": (ids_of(TEXTS), None, TEXTS),
    "a mask of ones": (ids_of(TEXTS), torch.ones(ROWS, LENGTH, dtype=torch.long), TEXTS),
    "padding on the right": right_padded(),
}


@pytest.mark.parametrize("name", PACKED)
def test_packed_texts_do_not_see_each_other_whatever_the_mask(name):
    ids, mask, texts = PACKED[name]
    model, _ = training()
    with torch.no_grad():
        logits = model(IDS, position_ids=ids, attention_mask=mask).logits
    for row, lengths in enumerate(texts):
        first = 0
        for length in lengths:
            expected = alone(model, row, first, first + length)
            found = logits[row, first : first + length]
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
            first += length


def test_arguments_in_their_order_are_read_as_those_with_names():
    model, _ = training()
    with torch.no_grad():
        expected = model(IDS, position_ids=ids_of(TEXTS)).logits
        assert torch.equal(model(IDS, None, ids_of(TEXTS)).logits, expected)
        hidden = model.model(IDS, None, ids_of(TEXTS)).last_hidden_state
    torch.testing.assert_close(model.lm_head(hidden), expected)


def test_a_window_that_is_longer_than_its_draws_is_refused():
    model, _ = training(train_window=20)
    with pytest.raises(UserError, match=r"window of 32 tokens: .*at most 20 .*train_window"):
        model(IDS)
    model(IDS[:, :20])
    model(IDS, position_ids=ids_of([[20, 12]]))  # flattened: each text is a window


def test_a_method_that_draws_nothing_takes_longer_windows():
    model = make_model("llama").train()
    config = E2Config(position_method="none", base_window=64, train_window=20)
    install(model, config, 1).set_samples(range(ROWS), 0)
    model(IDS)


def test_joints_that_got_lost_are_missed():
    """A placement that cuts at joints would place a window without any as plain text."""
    for placement in ("sentences", "skips:0.5,turns:0.5"):
        model, _ = training(placement=placement)
        with pytest.raises(UserError, match=f"placement {placement} cuts at: e2_joints lacks"):
            model(IDS)


def test_labels_that_got_lost_are_missed():
    """A Trainer drops what no argument of the model is called like."""
    with pytest.raises(UserError, match="remove_unused_columns=False"):
        WindowCollator()([{"input_ids": [1, 2, 3]}])


def test_a_training_model_does_not_go_on_behind_a_cache():
    model, _ = training()
    cache = model(IDS[:, :8], use_cache=True).past_key_values
    with pytest.raises(UserError, match=r"behind a cache.*model.eval\(\)"):
        model(IDS[:, 8:], past_key_values=cache)
    with pytest.raises(UserError, match="behind a cache"):
        model.generate(IDS[:, :8], max_new_tokens=3, pad_token_id=0)
