# SPDX-License-Identifier: Apache-2.0
"""Writes docs/cost.md: what published recipes spend on a longer window, in FLOPs of one model.

    python -m benchmarks.recipe_cost            # shows it
    python -m benchmarks.recipe_cost --write    # writes it

Tokens and windows are the recipes' own. The FLOPs are those of Llama-2-7B on these tokens with full
causal attention, by the function that ``tools/plan_memory.py`` uses.
"""

from dataclasses import dataclass
from pathlib import Path

from e2_common.errors import exit_on_user_error
from e2_common.files import atomic_file
from e2_tools.arguments import command_parser
from e2_tools.planning.models import MODELS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cost.md"


@dataclass(frozen=True)
class Recipe:
    """The extension stage of a published recipe.

    Attributes:
        name: of the model or method, with the window that it serves.
        positions: what it does to RoPE.
        stages: pairs of tokens in billions and window in 1,024 tokens.
        evidence: the test sets of its authors.
        source: name and address of where the tokens and windows stand.
        bound: whether the FLOPs are an upper bound: packed documents or a smaller model.
    """

    name: str
    positions: str
    stages: tuple[tuple[float, int], ...]
    evidence: str
    source: tuple[str, str]
    bound: bool = False

    def flops(self) -> float:
        """Of Llama-2-7B on the tokens of all stages, in units of 1e20."""
        model = MODELS["llama2-7b"].sizes
        return sum(tokens * 1e9 * model.flops(k * 1024) for tokens, k in self.stages) / 1e20

    def row(self, number: int = 0) -> str:
        """The recipe as a row of the table; ``number`` is that of its address."""
        stages = " + ".join(f"{tokens:g} × {k}k" for tokens, k in self.stages)
        flops = f"{'≤ ' * self.bound}{two_digits(self.flops())}e20"
        cells = (
            self.name,
            self.positions,
            stages,
            flops,
            self.evidence,
            f"[{self.source[0]}][{number}]",
        )
        return f"| {' | '.join(cells)} |"


def two_digits(value: float) -> str:
    """A number as well as it is known."""
    return f"{float(f'{value:.1e}'):g}"


GITHUB, ARXIV = "https://github.com", "https://arxiv.org/abs"
RECIPES = (
    Recipe(
        *("PoSE", "two chunks; any rule", ((0.13, 2),), "passkey, perplexity"),
        ("train scripts", f"{GITHUB}/dwzhu-pku/PoSE"),
    ),
    Recipe(
        *("CREAM", "three chunks; linear", ((0.13, 4),), "LongChat-Lines, needle, LongBench"),
        ("train scripts", f"{GITHUB}/bigai-nlco/cream"),
    ),
    Recipe(
        *("GeNE, 64k", "the scale is drawn", ((0.63, 16),), "passkey, perplexity"),
        ("configuration", f"{GITHUB}/LhLi-QED/GeNE"),
    ),
    Recipe(
        *("EndPrompt, 64k", "linear 8; the end far away", ((1.0, 8),), "RULER, LongBench"),
        ("train script", f"{GITHUB}/clx1415926/EndPrompt"),
    ),
    Recipe(
        *("**E2-LLM, 4k to 80k**", "scale and offset drawn", ((1.97, 4),)),
        *("LongBench, perplexity", ("section 4.1", f"{ARXIV}/2401.06951")),
    ),
    Recipe(
        *("DroPE, Llama-2-7B", "none", ((10.5, 4),), "needle, RULER, LongBench"),
        ("configuration", f"{GITHUB}/SakanaAI/DroPE"),
    ),
    Recipe(
        *("LongRoPE2, Llama-3-8B, 128k", "searched factors", ((9.4, 128),), "RULER, needle"),
        *(("run.sh", f"{GITHUB}/microsoft/nnscaler"), True),
    ),
    Recipe(
        *("OLMo 3 7B, 64k", "YaRN 8 on full-attention layers", ((50, 64),), "RULER, HELMET"),
        *(("7B script", f"{GITHUB}/allenai/OLMo-core"), True),
    ),
    Recipe(
        *("SmolLM3-3B, 64k", "larger base, some without", ((47, 32), (52, 64))),
        *("RULER, HELMET", ("settings", f"{GITHUB}/huggingface/smollm"), True),
    ),
    Recipe(
        *("ProLong-8B, 512k", "larger base", ((20, 64), (20, 512)), "HELMET"),
        *(("README", f"{GITHUB}/princeton-nlp/ProLong"), True),
    ),
    Recipe(
        *("DeepSeek-V3, 128k", "YaRN 40", ((63, 32), (63, 128)), "needle"),
        *(("section 4.3", f"{ARXIV}/2412.19437"), True),
    ),
    Recipe(
        *("Llama 3.1, 128k", "rescaled, in six stages", ((800, 128),), "needle, InfiniteBench"),
        *(("section 3.4.2", f"{ARXIV}/2407.21783"), True),
    ),
)

TEXT = """# What a longer window costs

    python -m benchmarks.recipe_cost --write

The usual way to a long window trains at that window. The table shows the extension stage of
published recipes: billions of tokens × window, and the FLOPs of **Llama-2-7B on these tokens with
full causal attention**. They make the rows comparable and nothing more. A smaller model, masked
documents, windowed attention or windows that grow cost less: `≤` marks such rows.

| recipe | positions | tokens × window | FLOPs, as a 7B | its authors' tests | source |
| --- | --- | --- | ---: | --- | --- |
{rows}

The rows that train at 32k and beyond have {least} to {most} times the FLOPs of the paper's E2-LLM,
which saw windows of 4k. They also need context parallelism.

## What is not shown

- **Fewer FLOPs do not mean equal quality.** The strong recipes are judged by RULER and HELMET.
  Nobody has shown E2-LLM on either; the paper has LongBench and perplexity.
- **We have run no 7B.** Our own evidence is of [small models](comparison.md).
- The strong recipes choose their data, too: mostly short texts, and long ones from books and code.
  None of that is in the table.
- Their models have seen long texts. A model that is tuned on short windows learns to read far
  positions, and nothing about what long texts are like.
- Architecture counts. [OlmPool](https://allenai.org/blog/olmpool) extends 26 models of 7B alike.
  Normalisation, grouped queries, a short window of pre-training and sliding windows each cost a
  little; three of them together cost up to 47 %. Qwen2 and Qwen3 have some of the four.

{links}
"""


def page() -> str:
    """The page."""
    ours = next(recipe for recipe in RECIPES if "E2-LLM" in recipe.name).flops()
    long = [
        recipe.flops() / ours
        for recipe in RECIPES
        if min(window for _, window in recipe.stages) >= 32
    ]
    rows = "\n".join(recipe.row(number) for number, recipe in enumerate(RECIPES, 1))
    links = "\n".join(f"[{number}]: {recipe.source[1]}" for number, recipe in enumerate(RECIPES, 1))
    return TEXT.format(
        rows=rows, links=links, least=two_digits(min(long)), most=two_digits(max(long))
    )


@exit_on_user_error
def main() -> None:
    """Show or write the page."""
    parser = command_parser(__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    if not parser.parse_args().write:
        print(page(), end="")
        return
    with atomic_file(PAGE) as temporary:
        temporary.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
