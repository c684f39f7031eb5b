# SPDX-License-Identifier: Apache-2.0
"""How other programs serve an exported model at the window that its config.json states.

The rules are those of vLLM 0.33.0, sglang 0.5.23 and llama.cpp's converter, read in their sources.
vLLM 0.32.0 and llama.cpp v0.5.0 were run, by benchmarks/engine.py.
"""

from e2_llm.frequencies import spelling
from e2_llm.frequencies.rule import LISTS
from e2_llm.window import Config, base_window, rope_parameters

# The versions of transformers whose logits are compared with an export's.
COMPARED = ("4.57.6", "5.23.0")
# Families of which llama.cpp's converter writes linear and llama3 scaling into the GGUF file.
CARRIED = ("llama", "mistral")


def serving_notes(config: Config) -> str:
    """The section of the model card, as Markdown.

    Args:
        config: of the exported model, at the window to serve.
    """
    window = config["max_position_embeddings"]
    return _SECTION.format(
        window=window,
        llama_cpp=_llama_cpp(config),
        oldest=COMPARED[0],
        compared=" and ".join(COMPARED),
        older=_older(config),
    )


def _llama_cpp(config: Config) -> str:
    """Its flags; where the file from its converter holds the scaling, they only set the window."""
    window, rope = config["max_position_embeddings"], spelling.read(config["rope_parameters"])
    factor, kind = rope_parameters(config)["factor"], rope["rope_type"]
    flags = f"`-c {window}`"
    if kind == "default" or (kind == "linear" and rope["factor"] == 1):
        return flags
    if kind == "yarn":
        flags = f"`-c {window} --rope-scaling yarn --rope-scale {factor:g}"
        return f"{flags} --yarn-orig-ctx {base_window(config)}`"
    if kind == LISTS:
        return "no flags: it has none for a factor of every frequency"
    if config["model_type"] in CARRIED:
        return f"{flags}; the GGUF file holds the scaling, so no other flag of RoPE"
    if kind == "linear":
        total = rope["factor"]  # of the model before E2, too
        return f"`-c {window} --rope-scaling linear --rope-freq-scale {1 / total:g}`"
    return "no flags: its converter does not write this scaling for this family"


def _older(config: Config) -> str:
    """What older versions of transformers read otherwise, by their source."""
    kind = config["rope_parameters"]["rope_type"]
    if kind == "yarn":
        return "Up to 4.48.3 they take W for L in YaRN, and so read another model."
    if kind == "llama3" and config["model_type"] == "mistral":
        return "4.46.3 and older do not scale a Mistral at all, and so read another model."
    if kind == "llama3":
        return "4.43 is the first that knows this scaling."
    return "They were not compared."


_SECTION = """# Served by other programs

| program | what serves {window:,} tokens |
|---|---|
| transformers ≥ {oldest} | nothing more |
| vLLM | `--max-model-len {window}` |
| sglang | `--context-length {window}` |
| llama.cpp | {llama_cpp} |

Logits are compared with transformers {compared}. Use no older one. {older}
"""
