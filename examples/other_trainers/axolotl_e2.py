# SPDX-License-Identifier: Apache-2.0
"""A plugin of axolotl; beside ``sequence_len`` and the rest its file of settings then has

    plugins: [examples.other_trainers.axolotl_e2.E2Plugin]
    e2: {max_scale: 8, recipe: best, draw_per: sample}

Start axolotl where this project can be imported.
"""

from typing import Any

from axolotl.integrations.base import BasePlugin
from pydantic import BaseModel

from examples.other_trainers.settings import e2_config
from transformers_patches import E2Callback


class E2Args(BaseModel):
    """What the file of settings may hold beside axolotl's own."""

    e2: dict[str, Any] | None = None


class E2Plugin(BasePlugin):
    """Gives the model of a training the draws of E2-LLM."""

    def get_input_args(self) -> str:
        """Where axolotl finds the settings of this plugin."""
        return f"{E2Args.__module__}.{E2Args.__name__}"

    def add_callbacks_pre_trainer(self, cfg: Any, model: Any) -> list[E2Callback]:
        """The callback; it puts the rotary module into the model when the trainer is made.

        Raises:
            UserError: a setting is wrong, or the model is of a kind that is not known.
        """
        return [E2Callback(e2_config(cfg.e2 or {}, model.config.to_dict(), cfg.sequence_len))]
