# SPDX-License-Identifier: Apache-2.0
"""Sizes written as a config.json are read back as they were, by way of transformers' own class."""

import pytest
from transformers import LlamaConfig

from benchmarks.conversion import SHAPES
from e2_common.model_sizes import ModelSizes
from e2_tools.planning.models import MODELS

SIZES = {name: model.sizes for name, model in MODELS.items()} | SHAPES


@pytest.mark.parametrize("name", SIZES)
def test_a_config_holds_all_sizes(name):
    config = LlamaConfig(**SIZES[name].llama_config(4096)).to_dict()
    assert config["max_position_embeddings"] == 4096
    assert ModelSizes.from_config(config, "config.json") == SIZES[name]
