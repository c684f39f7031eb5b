# SPDX-License-Identifier: Apache-2.0
"""Models that transformers does not serve at another scale are refused in one line."""

import json
from types import SimpleNamespace

import pytest
import transformers
from transformers import CONFIG_MAPPING

from e2_common.errors import UserError
from e2_llm.window import Config, with_scale
from tests.helpers.families import SIZES, TOKENS
from transformers_patches.scale import _config_of, set_scale

PHI = {**SIZES, "num_key_value_heads": 4, **TOKENS, "pad_token_id": 0}


def as_written(config: transformers.PreTrainedConfig) -> Config:
    return json.loads(config.to_json_string(use_diff=False))


def test_a_class_that_takes_no_linear_rope_is_refused():
    model = transformers.Phi3ForCausalLM(transformers.Phi3Config(**PHI))
    with pytest.raises(UserError, match="Phi3Config.*; use --scale none"):
        set_scale(model, as_written(model.config), 2.0, 128)


@pytest.mark.slow
def test_every_class_takes_a_scale_or_is_refused():
    taken = refused = 0
    for kind in CONFIG_MAPPING:
        try:
            own = CONFIG_MAPPING[kind]()
            changed = with_scale(as_written(own), 2.0, 2 * own.max_position_embeddings)
        except Exception:  # it needs more to be made, or is no single RoPE
            continue
        try:
            assert _config_of(SimpleNamespace(config=own), changed).rope_parameters
            taken += 1
        except UserError:
            refused += 1
    assert taken > 50
    assert refused
