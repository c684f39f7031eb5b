# SPDX-License-Identifier: Apache-2.0
"""A plain loop on transformers: what Megatron's runs of the tiny model are compared with."""

from argparse import Namespace

import torch

from e2_llm.arguments import config_from_args
from e2_llm.sampler import sample_indices
from e2_tools.evaluation.model import read_model
from e2_tools.tuning.arguments import build_parser
from e2_tools.tuning.data import open_data
from transformers_patches import WindowCollator, install
from transformers_patches.collator import IGNORED

PER_TOKEN = "--calculate-per-token-loss"
BATCH, LEARNING_RATE, SEED = 8, 1e-3, 1234  # of TINY_TRAINING, and Megatron's own seed


def arguments(model, flags):
    """The arguments that ``train_e2_hf.py`` would have of a run with Megatron's ``flags``."""
    parser = build_parser()
    known = {option for action in parser._actions for option in action.option_strings}
    words, taken = [], False
    for word in flags:
        if word.startswith("--"):
            taken = word in known
        if taken:
            words.append(word)
    given = ["--model", model, "--save", "unused", *words]
    return parser.parse_args(list(map(str, given)))


def train(model, flags, tokenizer):
    """Losses, draws of each micro-batch and the model after a run with Megatron's ``flags``."""
    args = arguments(model, flags)
    network = read_model(model, torch.float32)
    args.max_position_embeddings = network.config.max_position_embeddings
    args.padded_vocab_size = network.config.vocab_size
    config = config_from_args(args)
    iterations, size = args.train_iters, args.micro_batch_size
    data = open_data(args, config, tokenizer)
    samples = data.windows(config.train_window, iterations * BATCH, 0)[0]
    positions, collate = install(network, config, SEED), WindowCollator()
    decayed = [parameter for parameter in network.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in network.parameters() if parameter.dim() == 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE)
    result = Namespace(losses=[], draws=[], model=network.train(), positions=positions)
    for iteration in range(iterations):
        consumed = iteration * BATCH
        batches = [
            collate([samples[index] for index in sample_indices(consumed, number, size, 0, 1)])
            for number in range(BATCH // size)
        ]
        counts = [int((batch["shift_labels"] != IGNORED).sum()) for batch in batches]
        total = 0.0
        for number, (batch, count) in enumerate(zip(batches, counts, strict=True)):
            draws = positions.set_samples(sample_indices(consumed, number, size, 0, 1), consumed)
            result.draws.append([consumed, [list(draw) for draw in draws]])
            loss = network(**batch).loss
            # Megatron reports the loss of a token, and by default trains every micro-batch alike.
            share = count / sum(counts) if PER_TOKEN in flags else size / BATCH
            (loss * share).backward()
            total += loss.item() * count
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        result.losses.append(total / sum(counts))
    return result
