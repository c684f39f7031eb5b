# SPDX-License-Identifier: Apache-2.0
"""What becomes of every key of a config.json: understood, refused, or dropped with a note.

A key may change what transformers, vLLM or sglang compute. A conversion understands those that
transformers' configuration of the family has, refuses those that ask for another computation, and
leaves all others out of what it exports. So a key that nobody here has thought of has no effect in
an exported model, whatever reads it; transformers does not read it for these families either.

The second and third kind are listed here. Sources: the modelling code of transformers 5.23, vLLM
0.33.0 and sglang 0.5.23 for these families, and their code that is common to all models.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from e2_common.errors import UserError
from e2_llm.exported import KEY as E2_BLOCK
from e2_llm.window_keys import OVERRULES, REPEATED, WINDOW
from e2_tools.checkpoint.config_types import Config
from e2_tools.checkpoint.families import Family

# Read beside the fields of a class: by all versions, under the names of transformers 4, or by its
# modelling code alone.
ALWAYS = (
    *("model_type", "architectures", "transformers_version", "dtype", "torch_dtype"),
    *("rope_theta", "rope_scaling", "head_dim", E2_BLOCK),
)


class Refused(NamedTuple):
    """A key that asks for another computation unless it has a plain value.

    Attributes:
        plain: the values that ask for nothing; null and no key always do.
        why: what another value asks for.
        is_plain: decides instead of ``plain`` where values cannot be listed.
        mend: how to convert the model all the same.
    """

    plain: tuple[Any, ...]
    why: str
    is_plain: Callable[[Any], bool] | None = None
    mend: str = ""

    def allows(self, value: Any) -> bool:
        """Whether a value asks for nothing."""
        if value is None:
            return True
        if self.is_plain is not None:
            return self.is_plain(value)
        return any(type(value) is type(plain) and value == plain for plain in self.plain)


_OFF, _ONE = (False,), (1, 1.0)


def _is_full_attention(value: Any) -> bool:
    return isinstance(value, list) and set(map(str, value)) <= {"full_attention"}


def _is_all_ones(value: Any) -> bool:
    return isinstance(value, list) and all(each == 1 for each in value)


REFUSED: dict[str, Refused] = {
    "is_causal": Refused((True,), "attention to later tokens"),
    "use_bidirectional_attention": Refused(_OFF, "attention to later tokens"),
    "is_encoder_decoder": Refused(_OFF, "an encoder beside the decoder"),
    "add_cross_attention": Refused(_OFF, "an encoder beside the decoder"),
    **{
        name: Refused((), "a model inside the model, whose sizes stand there")
        for name in ("text_config", "decoder", "generator", "text_encoder", "vision_config")
    },
    "layer_types": Refused((), "another attention in some layers", _is_full_attention),
    "per_layer_config": Refused(({},), "layers of different shapes"),
    "attention_chunk_size": Refused((), "attention in chunks"),
    "kv_sharing_modes": Refused((), "layers that share keys and values"),
    "no_rope_layers": Refused((), "layers without RoPE", _is_all_ones),
    "num_loops": Refused(_ONE, "layers that run more than once"),
    "dual_chunk_attention_config": Refused(
        (),
        "attention in two kinds of chunks",
        mend="take it out, and set max_position_embeddings to its original_max_position_embeddings,"
        " to convert the model within that window",
    ),
    "alibi": Refused(_OFF, "positions by ALiBi"),
    "position_embedding_type": Refused(("rope",), "other positions than RoPE"),
    "rope_interleaved": Refused(_OFF, "RoPE on neighbouring pairs of dimensions"),
    "rope_is_neox_style": Refused((True,), "RoPE on neighbouring pairs of dimensions"),
    "partial_rotary_factor": Refused(_ONE, "RoPE on a part of each head"),
    "rotary_pct": Refused(_ONE, "RoPE on a part of each head"),
    "bias": Refused(_OFF, "biases of all attention matrices (vLLM)"),
    "qk_norm": Refused(_OFF, "other norms than the family's (vLLM)"),
    "ada_rms_norm_t_cond": Refused(_OFF, "norms with a condition (vLLM)"),
    "llama_4_scaling": Refused((), "queries scaled by position (vLLM, sglang)"),
    "logit_scale": Refused(_ONE, "scaled logits (vLLM)"),
    "logits_scaling": Refused(_ONE, "scaled logits"),
    "final_logit_softcapping": Refused((), "capped logits"),
    "attn_logit_softcapping": Refused((), "capped attention scores"),
    "scale_emb": Refused(_ONE, "scaled embeddings (sglang)"),
    "embedding_multiplier": Refused(_ONE, "scaled embeddings"),
    "residual_multiplier": Refused(_ONE, "scaled residuals"),
    "attention_multiplier": Refused((), "other attention scores"),
    "transformers_weights": Refused((), "another file of weights than the usual"),
}
DROPPED: dict[str, str] = {
    "quantization_config": "the weights are full ones",
    "compression_config": "the weights are full ones",
    "auto_map": "code of the model's own, which is never run",
    "attn_implementation": "a kernel",
    "_attn_implementation": "a kernel",
    "_experts_implementation": "a kernel",
    "_attn_implementation_internal": "a kernel",
    "_experts_implementation_internal": "a kernel",
    "return_dict": "how transformers returns results",
    "output_hidden_states": "how transformers returns results",
    "output_attentions": "how transformers returns results",
    **dict.fromkeys(
        (
            *("chunk_size_feed_forward", "number_of_conv_states", "first_k_dense_replace"),
            *("mlp_layer_types", "mtp_layer_types", "mtp_mlp_layer_types", "num_mtp_layers"),
            *("mtp_per_layer_config", "init_std", "initializer_factor", "sep_token_id"),
            *("is_decoder", "torchscript", "head_dtype", "cli_factor"),
        ),
        "no effect on these families",
    ),
    **dict.fromkeys(
        ("distributed_config", "fusion_config", "base_model_tp_plan", "base_model_pp_plan"),
        "how a program loads the model",
    ),
    "gradient_checkpointing": "how a program trains the model",
    OVERRULES: "rope_parameters says it",
    **dict.fromkeys(REPEATED, f"{WINDOW} says it"),
}
# Left out without a word: what a program that saved the file says of itself.
SILENT = ("_name_or_path", "name_or_path", "_commit_hash")
# Keys inside rope_parameters and rope_scaling that make vLLM or sglang compute something else.
ROPE_REFUSED: dict[str, Refused] = {
    "partial_rotary_factor": REFUSED["partial_rotary_factor"],
    "mrope_section": Refused((), "positions in several dimensions (vLLM, sglang)"),
    "use_fope": Refused(_OFF, "Fourier RoPE (vLLM, sglang)"),
    "rope_dim": Refused((), "RoPE on a part of each head (vLLM)"),
    "alpha": Refused((), "a dynamic base (vLLM, sglang)"),
    "llama_4_scaling_beta": Refused((), "queries scaled by position"),
    "apply_yarn_scaling": Refused((True,), "YaRN without its temperature"),
}


def fields(family: Family) -> frozenset[str]:
    """The keys that transformers' configuration of a family has, and those of all versions."""
    from transformers import CONFIG_MAPPING

    known = {field.name for field in dataclasses.fields(CONFIG_MAPPING[family.model_type])}
    return frozenset(known.union(ALWAYS).difference(DROPPED))


def verdict(name: str, family: Family) -> str:
    """What becomes of a key: ``understood``, ``refused`` (unless plain) or ``dropped``."""
    if name in refused(family) or name in family.config:
        return "refused"
    return "understood" if name in fields(family) else "dropped"


def refused(family: Family) -> dict[str, Refused]:
    """The keys that ask a family for another computation unless they are plain."""
    own = {"no_rope_layers"} if family.layers_without_rope else set()
    if "use_sliding_window" in family.config:
        own.add("layer_types")  # :mod:`sliding` looks at what they are
    return {name: rule for name, rule in REFUSED.items() if name not in own}


def require_understood(config: Config, family: Family, path: object) -> None:
    """Refuse a config.json that asks for a computation which is not that of its family.

    Args:
        config: the parsed file, its types checked.
        family: of the model.
        path: of the file, for the message.

    Raises:
        UserError: naming every such key, its value and what it asks for.
    """
    wrong = _asking(config, refused(family), "")
    for name in ("rope_parameters", "rope_scaling"):
        wrong += _asking(config.get(name) or {}, ROPE_REFUSED, f"{name}.")
    names = config.get("architectures") or []
    if names and family.architecture.lower() not in {name.lower() for name in names}:
        wrong.append(f"architectures is {names}, only {family.architecture} is supported")
    if wrong:
        raise UserError(f"{path}: {'; '.join(wrong)}")


def _asking(config: Config, rules: dict[str, Refused], prefix: str) -> list[str]:
    return [
        f"{prefix}{name} is {str(config[name])[:80]}, which asks for {rule.why}"
        + (f": {rule.mend}" if rule.mend else "")
        for name, rule in rules.items()
        if name in config and not rule.allows(config[name])
    ]


def understood(config: Config, family: Family) -> Config:
    """The keys of a config.json that are understood, in their order."""
    known = fields(family)
    return {name: value for name, value in config.items() if name in known}


def dropped_note(config: Config, family: Family, path: object) -> str | None:
    """Name the keys that :func:`understood` leaves out; None where it leaves none out."""
    known = fields(family)
    quiet = known.union(REFUSED, SILENT)  # one of those refused is plain where it is met here
    names = [name for name, value in config.items() if name not in quiet and not _is_empty(value)]
    if not names:
        return None
    return f"{path}: left out: {', '.join(map(_why, names))}"


def _is_empty(value: Any) -> bool:
    return value is None or value in ("", [], {})


def _why(name: str) -> str:
    if name in DROPPED:
        return f"{name} ({DROPPED[name]})"
    return name[:80]
