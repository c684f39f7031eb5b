# SPDX-License-Identifier: Apache-2.0
"""Export a Megatron torch_dist checkpoint of a Llama as a Hugging Face directory.

Runs on a CPU, without torchrun. The result is a plain LlamaForCausalLM whose window is one
number, see tools/set_window.py.
"""

import argparse
from pathlib import Path

from e2_common.errors import exit_on_user_error
from e2_tools.arguments import command_parser


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = command_parser(__doc__)
    parser.add_argument(
        "--load", type=Path, required=True, help="a Megatron save folder, or an iter_* folder of it"
    )
    parser.add_argument(
        "--save", type=Path, required=True, help="folder to write; must not exist or be empty"
    )
    parser.add_argument("--iteration", type=int, help="which iteration; the latest by default")
    parser.add_argument(
        "--hf-model",
        type=Path,
        help="folder of the Hugging Face model that training started from: its config.json is "
        "checked against the checkpoint, what is understood of it kept, its tokenizer carried over",
    )
    parser.add_argument(
        "--tokenizer",
        type=Path,
        help="folder of the tokenizer to carry over; by default that of --hf-model, or of training",
    )
    parser.add_argument(
        "--window",
        type=int,
        help="window to serve, in tokens: the RoPE factor becomes max(1, window / L). "
        "By default L; for a model trained at one fixed scale g, g * L",
    )
    parser.add_argument(
        "--dtype", choices=("fp32", "bf16", "fp16"), help="of the weights; as trained by default"
    )
    parser.add_argument(
        "--max-shard-size", default="5GB", help="of one safetensors file (%(default)s)"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="afterwards verify that every written tensor equals the checkpoint's, that "
        "transformers loads the folder with no missing or unexpected tensor, and that on 4 prompts "
        "its fp32 logits equal those of Megatron's own model; needs memory for the model in fp32",
    )
    return parser


@exit_on_user_error
def main() -> None:
    """Parse the command line, then export."""
    args = build_parser().parse_args()
    # Imported late: torch takes seconds, --help should not.
    from e2_tools.checkpoint.export import ExportOptions, export

    export(ExportOptions(**vars(args)))
