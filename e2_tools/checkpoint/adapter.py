# SPDX-License-Identifier: Apache-2.0
"""A LoRA of PEFT merged into the model it was trained on, one tensor at a time.

The weight of a module becomes W + s B A, with s = alpha / r, or alpha / sqrt(r) for rsLoRA
(arXiv 2106.09685, equation 3; arXiv 2312.03732). It is rounded to the type of W as PEFT's own
``merge_and_unload`` rounds it. Modules that were trained whole stand in the adapter as they are.
"""

import json
import math
import re
from pathlib import Path
from typing import Any

from torch import Tensor

from e2_common.errors import UserError
from e2_common.json_file import read_json_object
from e2_tools.checkpoint.hf_reader import HFReader

CONFIG = "adapter_config.json"
FILES = ("adapter_model.safetensors", "adapter_model.bin")
# What PEFT puts before the name of every tensor of the model.
PREFIX = "base_model.model."
# The two factors of a linear module, and of an embedding, whose product is transposed.
LINEAR = (".lora_A.weight", ".lora_B.weight")
EMBEDDING = (".lora_embedding_A", ".lora_embedding_B")
TRAINED_WHOLE = (".base_layer.weight", ".base_layer.bias", ".weight", ".bias")
# Keys of adapter_config.json that are read here, that the tensors themselves answer, or that say
# how the adapter was trained. Any other one may change what it computes.
READ = {"peft_type", "lora_alpha", "alpha_pattern", "use_rslora", "init_lora_weights"}
ANSWERED = {
    *("r", "rank_pattern", "target_modules", "exclude_modules", "modules_to_save", "bias"),
    *("layers_to_transform", "layers_pattern", "save_embedding_layers", "ensure_weight_tying"),
}
OF_TRAINING = {
    *("task_type", "inference_mode", "base_model_name_or_path", "revision", "auto_mapping"),
    *("lora_dropout", "peft_version", "runtime_config", "eva_config", "loftq_config"),
    *("megatron_core", "qalora_group_size"),
}
# Starting points that leave the base model's weights as they are.
PLAIN_STARTS = (True, False, "gaussian", "eva", "orthogonal")
MERGE = "merge it with PEFT's merge_and_unload and convert the result"


class AdaptedReader:
    """The weights of a model with a LoRA merged into them; reads like :class:`HFReader`.

    Attributes:
        shapes: of every tensor by name.
        dtypes: likewise.
        folder: of the model.

    Args:
        base: the weights of the model.
        folder: of the adapter, as PEFT saves it.
        tied: whether the output matrix of the model is its embedding.

    Raises:
        UserError: the adapter is not a LoRA, does something else than adding a product to
            weights, or does not fit the model.
    """

    def __init__(self, base: HFReader, folder: Path, *, tied: bool) -> None:
        self.folder, self.shapes, self.dtypes = base.folder, base.shapes, base.dtypes
        self._base = base
        self._config = adapter_config(folder)
        self._adapter = HFReader(folder, FILES)
        self._products: dict[str, tuple[str, str]] = {}
        self._whole: dict[str, str] = {}
        self._sort()
        shared = {"model.embed_tokens.weight", "lm_head.weight"} & {*self._products, *self._whole}
        if tied and shared:
            raise UserError(
                f"{folder}: changes {', '.join(sorted(shared))} of a model that uses one matrix "
                f"for both ends (tie_word_embeddings); {MERGE}"
            )

    def read(self, name: str) -> Tensor:
        """Read one tensor in the dtype of the model, merged.

        Raises:
            UserError: a file is damaged.
        """
        weight = self._base.read(name)
        if name in self._whole:
            weight = self._adapter.read(self._whole[name]).to(weight.dtype)
        if name not in self._products:
            return weight
        first, second = (self._adapter.read(part).float() for part in self._products[name])
        product = (second @ first) * self._scaling(name.removesuffix(".weight"), len(first))
        if self._products[name][0].endswith(EMBEDDING[0]):
            product = product.T.to(weight.dtype)  # PEFT rounds an embedding's twice
        return (weight.float() + product).to(weight.dtype)

    def drop(self, name: str) -> None:
        """Forget a tensor that the model does not need."""
        self._base.drop(name)

    def _sort(self) -> None:
        """Say for each tensor of the adapter what it does to which one of the model."""
        odd = []
        for key, shape in self._adapter.shapes.items():
            name = key.removeprefix(PREFIX)
            pair = next((pair for pair in (LINEAR, EMBEDDING) if name.endswith(pair)), None)
            end = next((end for end in (*(pair or ()), *TRAINED_WHOLE) if name.endswith(end)), "")
            module = name.removesuffix(end)
            target = module + (".bias" if end.endswith(".bias") else ".weight")
            if name == key or not end or target not in self.shapes:
                odd.append(key)
            elif pair is None:
                self._require_shape(key, shape, self.shapes[target])
                self._whole[target] = key
            else:
                factors = tuple(PREFIX + module + part for part in pair)
                self._products[target] = factors
                self._require_factors(factors, target)
        if odd:
            more = f" and {len(odd) - 3} more" if len(odd) > 3 else ""
            raise UserError(
                f"{self._adapter.folder}: {', '.join(odd[:3])}{more} belong to no weight of "
                f"{self.folder}; is that the model that the adapter was trained on?"
            )

    def _require_factors(self, factors: tuple[str, str], target: str) -> None:
        found = [self._adapter.shapes.get(name) for name in factors]
        if None in found:
            lost = factors[found.index(None)]
            raise UserError(f"{self._adapter.folder}: {lost} is missing; save the adapter again")
        first, second = found
        product = (second[0], first[1]) if len(first) == len(second) == 2 else ()
        if factors[0].endswith(EMBEDDING[0]):
            product = product[::-1]
        fits = product and second[1] == first[0]
        self._require_shape(factors[0], product if fits else (), self.shapes[target])

    def _require_shape(self, key: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
        if tuple(found) != tuple(wanted):
            raise UserError(
                f"{self._adapter.folder}: {key} does not fit the model's {wanted} at {self.folder};"
                " the adapter is of another model, or of one whose vocabulary was changed"
            )

    def _scaling(self, module: str, rank: int) -> float:
        """What multiplies the product of a module's factors."""
        alpha = self._config["lora_alpha"]
        for pattern, own in self._config["alpha_pattern"].items():
            if re.fullmatch(rf"(?:.*\.)?(?:{pattern})", module):
                alpha = own
                break
        return alpha / (math.sqrt(rank) if self._config.get("use_rslora") else rank)


def adapter_config(folder: Path) -> dict[str, Any]:
    """Read the adapter_config.json of a LoRA.

    Args:
        folder: of the adapter.

    Returns:
        Its content, with ``lora_alpha`` and ``alpha_pattern`` checked.

    Raises:
        UserError: there is none, or it asks for more than a product added to weights.
    """
    if not folder.is_dir():
        raise UserError(f"--adapter {folder}: no such folder")
    path = folder / CONFIG
    config = read_json_object(path)
    if config.get("peft_type") != "LORA":
        raise UserError(f"{path}: peft_type is {config.get('peft_type')!r}, not 'LORA'; {MERGE}")
    known = READ | ANSWERED | OF_TRAINING
    more = [name for name, value in config.items() if value and name not in known]
    if config.get("init_lora_weights", True) not in PLAIN_STARTS:
        more.append("init_lora_weights")  # such as PiSSA: it also changed the base model
    if more:
        said = ", ".join(f"{name} {json.dumps(config[name])[:40]}" for name in more)
        raise UserError(f"{path}: {said} changes more than B A added to weights; {MERGE}")
    patterns = config.get("alpha_pattern") or {}
    alphas = [config.get("lora_alpha"), *(patterns.values() if isinstance(patterns, dict) else [0])]
    if not all(isinstance(a, int | float) and not isinstance(a, bool) and a > 0 for a in alphas):
        raise UserError(f"{path}: lora_alpha and alpha_pattern must hold positive numbers")
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise UserError(f"{path}: alpha_pattern {pattern!r} is no expression") from error
    return config | {"alpha_pattern": patterns}
