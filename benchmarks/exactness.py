# SPDX-License-Identifier: Apache-2.0
"""Every position method on every parallel layout, from one checkpoint: do the losses agree?

    python benchmarks/exactness.py --output docs/exactness.md [--methods e2 yarn] [--steps 10]

Trains a tiny Llama (4 layers, fp32) in one torchrun world of four CPU ranks and writes a table of
the largest relative difference of any step's loss from TP1's (data parallel only).
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from megatron_patches.errors import exit_on_user_error
from tests.distributed.layouts import LAYOUTS, METHOD_FLAGS, RECOMPUTE
from tests.distributed.world import TINY_MODEL, TINY_TRAINING, run_world
from tools.files import atomic_file


@exit_on_user_error
def main() -> None:
    """Run the grid and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="Markdown file to write")
    parser.add_argument("--methods", nargs="+", choices=METHOD_FLAGS, default=list(METHOD_FLAGS))
    parser.add_argument("--steps", type=int, default=10, help="training steps of each run")
    args = parser.parse_args()
    from tests.distributed.corpus import make_corpus

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = folder / "start"
        common = [*TINY_MODEL, *TINY_TRAINING, *make_corpus(folder)]
        runs = [
            ("start", [*common, "--position-method", "none", "--save", str(start)]
             + ["--save-interval", "10"])
        ]  # fmt: skip
        tune = [*common, "--finetune", "--load", str(start), "--no-load-optim", "--no-load-rng"]
        tune += ["--train-iters", str(args.steps)]
        grid = {
            (layout, recompute): [*flags, *(RECOMPUTE if recompute else [])]
            for layout, flags in LAYOUTS.items()
            for recompute in (False, True)
        }
        for method in args.methods:
            for (layout, recompute), flags in grid.items():
                run = f"{method}/{layout}/{recompute}"
                runs.append((run, [*tune, *METHOD_FLAGS[method], *flags]))
        results = run_world(4, runs, folder / "world", timeout=60 + 20 * len(runs))
    lines = [
        "| method | " + " | ".join(f"{layout}{' + recompute' * r}" for layout, r in grid) + " |",
        "| --- |" + " ---: |" * len(grid),
    ]
    for method in args.methods:
        reference = results[f"{method}/TP1/False"]["losses"]
        cells = []
        for layout, recompute in grid:
            losses = results[f"{method}/{layout}/{recompute}"]["losses"]
            worst = max(abs(a / b - 1) for a, b in zip(losses, reference, strict=True))
            cells.append(f"{worst:.1e}" if losses is not reference else "0")
        lines.append(f"| `{' '.join(METHOD_FLAGS[method])}` | " + " | ".join(cells) + " |")
    command = f"python benchmarks/exactness.py --output docs/exactness.md --steps {args.steps}"
    text = PAGE.format(command=command, steps=args.steps, table="\n".join(lines))
    with atomic_file(args.output) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(text)


PAGE = """# Exactness under parallelism

Every method trains {steps} steps from one checkpoint on every layout. The table shows the largest
relative difference of a step's loss from the first column's. A tiny Llama (4 layers, hidden size
64, grouped queries), fp32, global batch 8, four ranks on CPU and gloo; what tensor and pipeline
parallelism leave over is data parallel.

    {command}

{table}
"""

if __name__ == "__main__":
    main()
