# SPDX-License-Identifier: Apache-2.0
"""Are they the same model? Logits of a Megatron checkpoint against those of a Hugging Face one.

For both directions of conversion. Both run in fp32 on the CPU, one after the other. Where the two
store their weights in different types, both are rounded to both types first, so that a conversion
which also rounds is compared like any other.
"""

import gc
import math
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from e2_common.disk.checkpoint_folder import find_iteration
from e2_common.disk.torch_dist_reader import TorchDistReader
from e2_common.errors import UserError, brief
from e2_common.hf_tokenizer import load_hf_tokenizer
from e2_llm.exported import Exported
from e2_llm.window import Config, rope_parameters, rule_of
from e2_tools.checkpoint.config_keys import understood
from e2_tools.checkpoint.config_types import read_config
from e2_tools.checkpoint.families import family_of_config
from e2_tools.checkpoint.hf_config import complete_config
from e2_tools.checkpoint.megatron_logits import EMBEDDING, is_weight, megatron_logits
from e2_tools.checkpoint.tokenizer import find_tokenizer

PROMPTS = (
    "The quick brown fox jumps over the lazy dog, and nobody in the village knows why it does so "
    "every morning before the sun has come up behind the hills.",
    "def mean(values: list[float]) -> float:\n    return sum(values) / len(values)  # not empty",
    "人类的语言模型从大量的文本中学习，然后预测下一个词。今天的天气很好，我们去公园散步吧。",
    "3.14159265358979, 2.71828182845904, 1.41421356237309; 1 1 2 3 5 8 13 21 34 55 89 144 233 377",
)
LONGEST = 64  # tokens of a prompt
TOLERANCE = 1e-3  # of the largest logit, or of 1 where that is larger
# Bytes of memory per parameter: one model in fp32, and what loading it holds besides.
BYTES = 4 * 1.2


class UncheckedError(UserError):
    """There was nothing to compare with; a finished conversion is unchecked, not wrong."""


class TooLittleMemory(UncheckedError):
    """The comparison does not fit into memory; nothing but the logits is then unchecked."""


def compare_logits(
    megatron: Path, hf: Path, vocab: int | None = None, adapter: Path | None = None
) -> float:
    """Compare the fp32 logits of two models on 4 prompts, and print one line.

    Prompts are text if ``hf`` holds a tokenizer, else pseudo-random tokens; at most 64 tokens
    each. Positions are those that ``config.json`` serves.

    Args:
        megatron: a Megatron save folder, or one iteration of it.
        hf: folder of the Hugging Face model.
        vocab: true size of the vocabulary, in tokens; by default that of ``config.json``.
        adapter: folder of a LoRA that PEFT is to merge into the Hugging Face model, if any.

    Returns:
        The largest absolute difference.

    Raises:
        UserError: it is above 1e-3 (times the largest logit, where that is above 1), or logits
            are not finite.
        TooLittleMemory: the memory that is free does not hold the model in fp32.
        UncheckedError: transformers cannot load the Hugging Face model.
    """
    config = complete_config(hf / "config.json")
    reader = TorchDistReader(find_iteration(megatron))
    require_memory(_parameters(reader))
    tokens, lengths = prompts(hf, vocab or config["vocab_size"], config["max_position_embeddings"])
    stored = reader.tensors[EMBEDDING].properties.dtype
    theirs, served = hf_logits(hf, tokens, stored, adapter)
    scale, rule = serving_scale(config), rule_of(config)
    ours = megatron_logits(reader.folder, tokens, scale, rule, dtype=served)
    width = vocab or theirs.size(-1)
    real = torch.arange(tokens.size(1)) < lengths[:, None]  # [4, s], not padding
    return _judge(ours[real][:, :width], theirs[real][:, :width])


def _judge(ours: Tensor, theirs: Tensor) -> float:
    """Compare Megatron's logits [tokens, vocabulary] with transformers'."""
    if ours.shape != theirs.shape:
        raise UserError(
            f"--check: Megatron has logits for {ours.size(1)} tokens, transformers for "
            f"{theirs.size(1)}"
        )
    for logits, where in ((theirs, "transformers"), (ours, "Megatron")):
        if not logits.isfinite().all():
            raise UserError(
                f"--check: the model's logits are not finite in {where}; did its training diverge?"
            )
    difference, largest = (ours - theirs).abs().max().item(), theirs.abs().max().item()
    allowed = TOLERANCE * max(1.0, largest)
    found = f"largest difference of fp32 logits {difference:.1e} (largest logit {largest:.1f})"
    if difference > allowed:
        raise UserError(
            f"--check: the model in Megatron is not the one in transformers: {found}, "
            f"allowed is {allowed:.1e}"
        )
    print(f"check: {len(PROMPTS)} prompts, {len(ours)} tokens, {found}", flush=True)
    return difference


def prompts(folder: Path, vocab: int, window: int) -> tuple[Tensor, Tensor]:
    """Four prompts, cut to 64 tokens and to the window.

    Args:
        folder: that may hold a tokenizer.
        vocab: size of the vocabulary; larger ids are left out.
        window: in tokens.

    Returns:
        int64 tokens [4, s], filled up with 0 at the end, and the true lengths [4].
    """
    longest = min(LONGEST, window)
    found = [ids[:longest] for ids in _tokenized(folder, vocab)]
    if not found or not all(found):
        generator = torch.Generator().manual_seed(1)
        found = torch.randint(vocab, (len(PROMPTS), longest), generator=generator).tolist()
    lengths = torch.tensor([len(ids) for ids in found])
    rows = [torch.tensor(ids) for ids in found]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), lengths


def _tokenized(folder: Path, vocab: int) -> list[list[int]]:
    if find_tokenizer(None, folder, None) is None:
        return []
    try:
        tokenizer = load_hf_tokenizer(folder)
    except UserError:  # it may need a package; any tokens will do
        return []
    return [[number for number in tokenizer.encode(text) if number < vocab] for text in PROMPTS]


def hf_logits(
    folder: Path, tokens: Tensor, dtype: torch.dtype, adapter: Path | None = None
) -> tuple[Tensor, torch.dtype]:
    """Run tokens [4, s] through a Hugging Face model in fp32, as the type it is served in rounds.

    Args:
        folder: of the model.
        tokens: int64 [b, s].
        dtype: to which weights are rounded as well.
        adapter: folder of a LoRA that PEFT merges into it, if any.

    Returns:
        Logits fp32 [b, s, vocabulary], and the type in which the model is served.

    Raises:
        UncheckedError: transformers cannot load it.
        UserError: transformers misses or does not expect a tensor.
    """
    model = load_hf(folder)
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    served = model.dtype
    model.float()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.to(dtype))
        logits = model(tokens).logits
    del model
    gc.collect()
    return logits, served


def load_hf(folder: Path) -> Any:
    """Load a model on the CPU, of which no tensor may be missing.

    Its configuration is what is understood of config.json: no code, kernel or quantisation.

    Raises:
        UncheckedError: transformers cannot load it.
        UserError: it misses or does not expect a tensor.
    """
    from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING

    raw = read_config(folder / "config.json")
    kind = CONFIG_MAPPING[raw["model_type"]]
    kept = understood(raw, family_of_config(raw, folder / "config.json"))
    if (kept.get("pad_token_id") or 0) >= (kept.get("vocab_size") or math.inf):
        kept["pad_token_id"] = None  # which only a training reads
    try:
        config = kind.from_dict(kept)
        model, info = MODEL_FOR_CAUSAL_LM_MAPPING[kind].from_pretrained(
            folder,
            config=config,
            dtype="auto",
            output_loading_info=True,
            local_files_only=True,
        )
    except Exception as error:  # transformers raises about anything here
        raise UncheckedError(
            f"--check: the logits are unchecked: transformers cannot load the model "
            f"({brief(error)})"
        ) from error
    for name in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info.get(name):
            raise UserError(f"--check: transformers reports {name}: {sorted(info[name])}")
    return model.eval()


def require_peft() -> None:
    """Check that a LoRA can be compared with what PEFT makes of it.

    Raises:
        UserError: PEFT is not installed.
    """
    if find_spec("peft") is None:
        raise UserError("--check with --adapter compares with PEFT's own merge: pip install peft")


def serving_scale(config: Config) -> float | None:
    """The scale g of an exported model; None for any other, which Megatron has as it is."""
    if Exported.from_config(config) is None:
        return None
    return rope_parameters(config)["factor"]


def require_memory(parameters: int) -> None:
    """Check that a model of so many parameters fits into memory in fp32.

    Raises:
        TooLittleMemory: it does not; says how much is missing.
    """
    free, needed = free_memory(), parameters * BYTES
    if free is not None and free < needed:
        raise TooLittleMemory(
            f"--check: the logits are unchecked: in fp32 the model needs {needed / 1e9:.1f} GB of "
            f"memory, {free / 1e9:.1f} GB are free, {(needed - free) / 1e9:.1f} GB too little; "
            "everything else is done"
        )


def free_memory() -> int | None:
    """Bytes of memory that programs can still get; None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        sizes = dict(line.split(":", 1) for line in lines)
        return int(sizes["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    except (OSError, ValueError):
        return None


def _parameters(reader: TorchDistReader) -> int:
    return sum(math.prod(info.size) for name, info in reader.tensors.items() if is_weight(name))
