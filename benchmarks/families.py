# SPDX-License-Identifier: Apache-2.0
"""Every family through the whole way, as a table in docs/families.md.

    pip install --no-deps --target old transformers==4.57.6 tokenizers==0.22.1 huggingface-hub<1
    python -m benchmarks.families --packages 4.57.6=old [--write]

A tiny random model of each family is converted to Megatron and back, and the bytes are compared. It
is tuned for two steps by E2, linear and with YaRN, and exported at four times its window. Each
export is compared with the trained checkpoint in Megatron, and read by every version of
transformers named by --packages, beside the one that is installed: the largest difference of
logits is shown.
"""

import dataclasses
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks import marked
from e2_common.errors import UserError, exit_on_user_error
from e2_common.progress import progress_bar
from e2_tools.arguments import command_parser
from tests.helpers.families import FAMILIES, SIZES

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "families.md"
BEGIN, END = "<!-- families: python -m benchmarks.families -->", "<!-- end of families -->"
TITLES = {
    "llama": "Llama",
    "llama3": "Llama 3.1, own scaling kept",
    "linear": "Llama, own linear factor 2",
    "smollm2": "SmolLM2: tied, wide heads",
    "mistral": "Mistral, full attention",
    "qwen2": "Qwen2, Qwen2.5",
    "qwen3": "Qwen3",
    "smollm3": "SmolLM3: layers without RoPE",
}
RULES = ("linear", "yarn")
SCALE, WINDOW = 4, SIZES["max_position_embeddings"]
# Of weights of 0.2, so of logits of some units; what is above is another model.
SAME = 1e-4
READ = """
import sys, torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], torch_dtype=torch.float32).eval()
tokens = torch.arange(int(sys.argv[3]))[None] * 7 % 250
with torch.no_grad():
    torch.save(model(tokens).logits, sys.argv[2])
"""


@dataclasses.dataclass
class Row:
    """What was found of one family; differences are of logits."""

    title: str
    bytes_equal: bool
    converted: float
    exported: dict[str, float]
    read: dict[str, dict[str, float | None]]


@exit_on_user_error
def main() -> None:
    """Run all of it, print the table or write it."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add("--packages", nargs="+", default=[], metavar="V=DIR", help="other versions of transformers")
    add("--families", nargs="+", choices=TITLES, default=list(TITLES), help="(default: all)")
    add("--write", action="store_true", help="write the page")
    args = parser.parse_args()
    versions = dict(word.partition("=")[::2] for word in args.packages)
    for version, folder in versions.items():
        if not (Path(folder) / "transformers").is_dir():
            raise UserError(f"--packages {version}={folder}: holds no package transformers")
    with tempfile.TemporaryDirectory() as name:
        text = table(measure(Path(name), args.families, versions), versions)
    if args.write:
        marked.write(PAGE, BEGIN, END, text)
    print(text)


def measure(folder: Path, names: list[str], versions: dict[str, str]) -> list[Row]:
    """Convert, tune, export and read every family."""
    from e2_tools.checkpoint.export import ExportOptions, export
    from e2_tools.checkpoint.import_hf import ImportOptions, import_model
    from tests.helpers.families import make_model

    for name in names:
        make_model(name).save_pretrained(folder / name)
        options = ImportOptions(folder / name, folder / f"{name}-m", **FAMILIES[name][2])
        import_model(options)
    tune(folder, names)
    rows = []
    for name in progress_bar(len(names), "family", iterable=names):
        back = folder / f"{name}-back"
        export(ExportOptions(load=folder / f"{name}-m", hf_model=folder / name, save=back))
        row = Row(
            TITLES[name], same_bytes(folder / name, back), compared(folder / f"{name}-m", back),
            {}, {},
        )  # fmt: skip
        for rule in rules_of(name):
            tuned, served = folder / f"{name}-{rule}", folder / f"{name}-{rule}-hf"
            window = None if name == "llama3" else SCALE * WINDOW
            export(ExportOptions(tuned, served, hf_model=folder / name, window=window))
            row.exported[rule] = compared(tuned, served)
            ours = logits(served, folder / "logits")
            for version, packages in versions.items():
                other = logits(served, folder / "logits", packages)
                found = None if other is None else (other - ours).abs().max().item()
                row.read.setdefault(version, {})[rule] = found
        rows.append(row)
    return rows


def rules_of(name: str) -> tuple[str, ...]:
    """The rules by which a family is tuned; a scaling that is kept is the only one."""
    return ("llama3",) if name == "llama3" else RULES


def tune(folder: Path, names: list[str]) -> None:
    """Two steps of E2 from every converted model, one rank."""
    from tests.distributed.corpus import make_corpus
    from tests.distributed.world import TINY_TRAINING, run_world

    runs = []
    for name in names:
        start = folder / f"{name}-m"
        common = [*TINY_TRAINING, *make_corpus(folder), "--train-iters", "2", "--seq-length", "32"]
        common += ["--use-checkpoint-args", "--pretrained-checkpoint", str(start)]
        common += ["--no-use-tokenizer-model-from-checkpoint-args", "--save-interval", "2"]
        for rule in rules_of(name):
            method = ["--e2-recipe", "best", "--e2-frequencies", rule, "--e2-max-scale", "8"]
            if rule == "llama3":
                method = ["--position-method", "llama3", "--e2-factor", "4"]
            save = str(folder / f"{name}-{rule}")
            runs.append((f"{name}/{rule}", [*common, *method, "--load", save, "--save", save]))
    run_world(1, runs, folder / "world", timeout=60 + 30 * len(runs))


def compared(megatron: Path, hf: Path) -> float:
    """The largest difference of logits in Megatron and in transformers."""
    from e2_tools.checkpoint.compare_logits import compare_logits

    return compare_logits(megatron, hf)


def same_bytes(one: Path, other: Path) -> bool:
    """Whether two folders hold the same tensors."""
    from safetensors.torch import load_file

    first, second = (load_file(folder / "model.safetensors") for folder in (one, other))
    return first.keys() == second.keys() and all(
        tensor.dtype == second[name].dtype and torch.equal(tensor, second[name])
        for name, tensor in first.items()
    )


def logits(model: Path, output: Path, packages: str = "") -> torch.Tensor | None:
    """Logits [1, s, v] of a window of tokens by a version of transformers; None if it cannot."""
    code = f"import sys; sys.path[:0] = {[packages] if packages else []!r}\n{READ}"
    command = [sys.executable, "-c", code, str(model), str(output), str(SCALE * WINDOW)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    return torch.load(output) if run.returncode == 0 else None


def table(rows: list[Row], versions: dict[str, str]) -> str:
    """The table as Markdown."""
    head = ["family", "bytes", "converted", *(f"E2 {rule}" for rule in RULES)]
    head += [f"{version} {rule}" for version in versions for rule in RULES]
    lines = [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
    for row in rows:
        cells = [row.title, "equal" if row.bytes_equal else "**differ**", shown(row.converted)]
        for found in (row.exported, *(row.read[version] for version in versions)):
            if "llama3" in found:  # of one rule
                cells += [shown(found["llama3"]), ""]
            else:
                cells += [shown(found[rule]) for rule in RULES]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def shown(difference: float | None) -> str:
    """A difference of logits for the table."""
    if difference is None:
        return "**no**"
    if difference == 0:
        return "0"
    return f"{difference:.0e}" if difference < SAME else f"**{difference:.2g}**"


if __name__ == "__main__":
    main()
