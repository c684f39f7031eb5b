# SPDX-License-Identifier: Apache-2.0
"""Convert a Hugging Face model into a Megatron torch_dist checkpoint, to start training from.

Llama 1, 2, 3, SmolLM2, SmolLM3, Mistral, Qwen2, Qwen2.5, Qwen3. Runs on a CPU, without torchrun,
tensor by tensor. The checkpoint holds no layout: it loads at any tensor, pipeline and virtual
pipeline parallel size, with or without Transformer Engine.
"""

import argparse
from pathlib import Path

from e2_common.errors import exit_on_user_error
from e2_tools.arguments import command_parser


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add(
        "--hf-model",
        type=Path,
        required=True,
        help="folder with config.json and weights: safetensors or .bin, one file or sharded",
    )
    add(
        "--adapter",
        type=Path,
        metavar="DIR",
        help="folder of a LoRA of PEFT, merged into the weights as they are read",
    )
    add("--save", type=Path, help="folder to write; must not exist or be empty")
    add(
        "--dtype",
        choices=("fp32", "bf16", "fp16"),
        help="of the weights; as they are by default",
    )
    add(
        "--print-args",
        action="store_true",
        help="print the Megatron arguments that match the model, ready to paste into a launch "
        "script; without --save nothing else is done",
    )
    add(
        "--rope-scaling",
        choices=("original", "keep"),
        help="for a model whose RoPE is scaled by llama3 or yarn already. original: undo it, L is "
        "the window before it. keep: train and serve at that fixed factor. A linear factor needs "
        "no choice: E2's scale multiplies it",
    )
    add(
        "--full-attention",
        action="store_true",
        help="convert a sliding-window model as full attention; L is then at most its sliding "
        "window",
    )
    add(
        "--base-window",
        type=int,
        metavar="L",
        help="window that the model serves with the RoPE it has, in tokens, where its files leave "
        "that open or are wrong",
    )
    add(
        "--check",
        action="store_true",
        help="afterwards compare the fp32 logits of both models on 4 prompts; needs memory for "
        "the whole model in fp32",
    )
    return parser


@exit_on_user_error
def main() -> None:
    """Parse the command line, then convert."""
    args = build_parser().parse_args()
    # Imported late: torch takes seconds, --help should not.
    from e2_tools.checkpoint.import_hf import ImportOptions, import_model

    import_model(ImportOptions(**vars(args)))
