# SPDX-License-Identifier: Apache-2.0
"""E2-LLM on transformers: a rotary module that takes draws, who gives them, and serving.

With ``transformers.Trainer``, or what derives from it:

    >>> config = E2Config(base_window=2048, train_window=2048, max_scale=16)
    >>> trainer = Trainer(model, arguments, callbacks=[E2Callback(config)], ...)
    >>> trainer.train()

In a loop of one's own, for each micro-batch of ``size`` samples of process ``rank`` of ``world``:

    >>> positions = install(model, config, seed=1234)
    >>> positions.set_samples(sample_indices(consumed, number, size, rank, world), consumed)
    >>> loss = model(**batch).loss

To serve what was trained, each prompt at the scale that it needs:

    >>> answers = generate(model, tokenizer(texts).input_ids, max_new_tokens=64)
"""

from e2_llm.config import E2Config
from e2_llm.sampler import sample_indices
from transformers_patches.batch import JOINTS
from transformers_patches.callback import E2Callback
from transformers_patches.collator import WindowCollator
from transformers_patches.evaluation import window_loss
from transformers_patches.generation import generate
from transformers_patches.install import MODEL_TYPES, E2Positions, install
from transformers_patches.rotary import E2RotaryEmbedding

__all__ = [
    "JOINTS",
    "MODEL_TYPES",
    "E2Callback",
    "E2Config",
    "E2Positions",
    "E2RotaryEmbedding",
    "WindowCollator",
    "generate",
    "install",
    "sample_indices",
    "window_loss",
]
