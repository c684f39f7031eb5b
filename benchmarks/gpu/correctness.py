# SPDX-License-Identifier: Apache-2.0
"""Loss and gradients of every kernel that can run, against Megatron's own layers in fp32.

The reference shares nothing of ours but the angles: stock local layers, Megatron's attention, norm
and rotation. A model of two layers gets the same (bf16-rounded) weights and tokens under each
kernel, in bf16 on a GPU and in fp32 on a CPU. A kernel passes if its error is at most ``MARGIN``
times that of the plain kernels in the same precision, or at rounding level. E2's angles themselves
are compared with Megatron's interpolation, which knows g but no t.
"""

import argparse
import contextlib
import io
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from megatron.core import parallel_state
from megatron.core.models.common.embeddings.rotary_pos_embedding import RotaryEmbedding
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.tensor_parallel.random import model_parallel_cuda_manual_seed
from megatron.core.utils import unwrap_model
from megatron.training.argument_utils import gpt_config_from_args
from torch import Tensor

from benchmarks.gpu.megatron_runs import STOCK, end_run, megatron_arguments
from e2_common.errors import UserError, brief
from e2_llm.config import E2Config
from e2_llm.methods import method_for
from e2_llm.sampler import Draw
from e2_tools.planning.models import Model
from megatron_patches.kernels import adamw
from megatron_patches.kernels.registry import PARTS, PLAIN
from megatron_patches.model.build import model_config
from megatron_patches.model.rotary import E2RotaryEmbedding
from megatron_patches.start.arguments import parse_arguments

LAYERS = 2
MARGIN = 1.5
FLOOR = {torch.float32: 2e-5, torch.bfloat16: 1e-3}  # of relative errors
Gradients = dict[str, Tensor]


def check(
    model: Model,
    options: argparse.Namespace,
    on_cpu: bool,
    keep: Callable[[dict[str, Any]], None],
) -> list[dict[str, Any]]:
    """Compare every kernel that can run here.

    Args:
        model: its sizes and window; two layers are built.
        options: with ``micro_batch_size`` (at least 2 is used), ``micro_batches``, ``seed`` and
            ``parts``, whose kernels are checked, None for all.
        on_cpu: whether the CPU runtime is installed.
        keep: called with ``correctness``, the rows so far, after each.

    Returns:
        A row for each: ``part``, ``kernel``, ``loss_error`` and ``gradient_error`` (relative to
        the reference; the latter the norm of the difference of all gradients), ``passed``; or
        ``skipped`` with the reason; or ``failed`` with what it raised.
    """
    samples = max(2, options.micro_batch_size)
    options = argparse.Namespace(
        **{**vars(options), "micro_batch_size": samples, "micro_batches": 1}
    )
    case = _Case(model, options, on_cpu)
    shared, apart = [Draw(5.0, 3 * model.window)], [Draw(2.0, model.window // 2), Draw(7.0, 11)]
    rows = []
    for name, draws in (("one draw", shared), ("a draw per sample", apart)):
        reference = case.run([*STOCK], draws, torch.float32, stock=True)
        plain = case.run(_flags(PLAIN), draws, case.dtype)
        baseline = _errors(plain, reference)
        rows.append({"part": "all", "kernel": "plain", "draws": name, **baseline, "passed": True})
        for part, kernel in _kernels(options.parts):
            if draws is apart and part != "rope":
                continue
            keep({"correctness": rows})
            row = {"part": part, "kernel": kernel, "draws": name}
            try:
                result = case.run(_flags(PLAIN | {part: kernel}), draws, case.dtype)
            except UserError as error:
                rows.append({**row, "skipped": str(error)})
                continue
            except Exception as error:  # a kernel can fail in any way; the others are checked
                rows.append({**row, "failed": brief(error), "passed": False})
                continue
            errors = _errors(result, reference)
            passed = all(
                errors[key] <= max(MARGIN * baseline[key], FLOOR[case.dtype]) for key in errors
            )
            rows.append({**row, **errors, "passed": passed})
    rows += case.e2_against_plain_positions()
    rows += list(_adamw_rows())
    keep({"correctness": rows})
    return rows


def _kernels(parts: list[str] | None) -> Iterator[tuple[str, str]]:
    """The kernels of these parts but the plain ones and AdamW's, which no model is needed for."""
    for part in PARTS:
        if part.name != "adamw" and (parts is None or part.name in parts):
            for kernel in part.kernels[:-1]:
                yield part.name, kernel.name


def _flags(names: dict[str, str]) -> list[str]:
    """The command line of a choice; attention and norm go together in Transformer Engine."""
    names = {name: kernel for name, kernel in names.items() if name != "adamw"}
    if "te" in (names["attention"], names["norm"], names["swiglu"], names["weight_gradients"]):
        names |= {"attention": "te", "norm": "te"}
    return [
        word
        for name, kernel in names.items()
        for word in (f"--kernel-{name.replace('_', '-')}", kernel)
    ]


class _Case:
    """One model, one batch; run under different kernels."""

    def __init__(self, model: Model, options: argparse.Namespace, on_cpu: bool) -> None:
        self.on_cpu = on_cpu
        self.dtype = torch.float32 if on_cpu else torch.bfloat16
        self.arguments = megatron_arguments(model, LAYERS, options)
        self.window, self.theta = model.window, 10000.0
        self.seed = options.seed
        size = (options.micro_batch_size, model.window + 1)
        generator = torch.Generator().manual_seed(options.seed)
        self.tokens = torch.randint(model.sizes.vocab, size, generator=generator)
        self.weights: dict[str, Tensor] = {}

    def run(
        self, flags: list[str], draws: list[Draw], dtype: torch.dtype, stock: bool = False
    ) -> tuple[float, Gradients]:
        """Mean loss of the batch and the gradient of every weight, fp32 on the device."""
        with self._model(flags, dtype, stock) as model:
            config = E2Config(base_window=self.window, train_window=self.window)
            rotary = E2RotaryEmbedding(model.rotary_pos_emb, method_for(config), self.theta)
            rotary.set_draws(draws)
            model.rotary_pos_emb = rotary
            return self._loss_and_gradients(model, stock)

    def e2_against_plain_positions(self) -> Iterator[dict[str, Any]]:
        """E2 at g and t = 0 against Megatron's own module with that interpolation factor.

        In fp32: Megatron computes its frequencies on the device, whose powers may differ in the
        last place. That is 2e-6 of the gradients in fp32, but 7e-3 in bf16, which rounds the
        cosines.
        """
        dtype = torch.float32
        for scale in (1.0, 5.0):
            ours = self.run(_flags(PLAIN), [Draw(scale, 0)], dtype)
            with self._model(_flags(PLAIN), dtype, False) as model:
                model.rotary_pos_emb = RotaryEmbedding(
                    kv_channels=2 * len(model.rotary_pos_emb.inv_freq),
                    rotary_percent=1.0,
                    seq_len_interpolation_factor=scale if scale != 1 else None,
                )
                theirs = self._loss_and_gradients(model, False)
            errors = _errors(ours, theirs)
            yield {
                "part": "positions",
                "kernel": f"E2 at g = {scale:g}, t = 0",
                "draws": "against Megatron's RoPE",
                **errors,
                "passed": all(error <= FLOOR[dtype] for error in errors.values()),
            }

    @contextlib.contextmanager
    def _model(
        self, flags: list[str], dtype: torch.dtype, stock: bool
    ) -> Iterator[torch.nn.Module]:
        """Build it as training does, without the optimizer, and give it the weights."""
        arguments = [word for word in self.arguments if word != "--bf16"]
        sys.argv[1:] = [*arguments, *flags, *(["--bf16"] if dtype is torch.bfloat16 else [])]
        talk = io.StringIO()
        try:
            with contextlib.redirect_stdout(talk), contextlib.redirect_stderr(talk):
                args, config = parse_arguments(self.on_cpu)
                if not torch.distributed.is_initialized():
                    backend = "gloo" if self.on_cpu else "nccl"
                    torch.distributed.init_process_group(backend)
                parallel_state.initialize_model_parallel()
                model_parallel_cuda_manual_seed(self.seed)
                settings = model_config(args, config)
                if stock:
                    settings = gpt_config_from_args(args)
                builder = settings.get_builder_cls()(settings)
                groups = ProcessGroupCollection.use_mpu_process_groups()
                (model,) = builder.build_distributed_models(groups, wrap_with_ddp=False)
            # In bf16 Megatron wraps it, to convert what goes in and out.
            model = unwrap_model(model).to(dtype)
            self._give_weights(model)
            yield model
        finally:
            end_run()

    def _give_weights(self, model: torch.nn.Module) -> None:
        """The same in every model: those of the first, rounded to bf16."""
        for name, parameter in _by_role(model):
            if name not in self.weights:
                self.weights[name] = parameter.detach().bfloat16()
            with torch.no_grad():
                parameter.copy_(self.weights[name])
            # What Megatron's DDP would bring; fused weight gradients are written there.
            parameter.main_grad = torch.zeros_like(parameter, dtype=torch.float32)

    def _loss_and_gradients(self, model: torch.nn.Module, stock: bool) -> tuple[float, Gradients]:
        device = torch.cuda.current_device()
        tokens = self.tokens[:, :-1].to(device)
        labels = self.tokens[:, 1:].to(device)
        ids = torch.arange(self.window, device=device)[None].expand_as(tokens)
        mask = None
        if stock:  # true where attention is forbidden
            ones = torch.ones(self.window, self.window, dtype=torch.bool, device=device)
            mask = ones.triu(1)[None, None]
        losses = model.train()(tokens, ids, mask, labels=labels)
        loss = losses.float().mean()
        loss.backward()
        gradients = {}
        for name, parameter in _by_role(model):
            gradient = parameter.main_grad
            if parameter.grad is not None:
                gradient = gradient + parameter.grad.float()
            gradients[name] = gradient.detach()
        return loss.item(), gradients


def _by_role(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """Parameters under names that Transformer Engine's layers and the local ones share."""
    fused = {
        "self_attention.linear_qkv.layer_norm_weight": "input_layernorm.weight",
        "mlp.linear_fc1.layer_norm_weight": "pre_mlp_layernorm.weight",
    }
    for name, parameter in model.named_parameters():
        for theirs, local in fused.items():
            name = name.replace(theirs, local)
        yield name, parameter


def _errors(
    result: tuple[float, Gradients], reference: tuple[float, Gradients]
) -> dict[str, float]:
    (loss, gradients), (true_loss, true_gradients) = result, reference
    if gradients.keys() != true_gradients.keys():
        different = gradients.keys() ^ true_gradients.keys()
        raise RuntimeError(f"the models do not have the same parameters: {sorted(different)[:4]}")
    squares = sum(float((gradients[k] - true_gradients[k]).square().sum()) for k in gradients)
    scale = sum(float(true.square().sum()) for true in true_gradients.values())
    return {
        "loss_error": abs(loss - true_loss) / abs(true_loss),
        "gradient_error": (squares / scale) ** 0.5,
    }


def _adamw_rows() -> Iterator[dict[str, Any]]:
    """Ten steps of each AdamW of torch against the formula in fp64."""
    device = torch.cuda.current_device()
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(1000, generator=generator)
    gradients = [torch.randn(1000, generator=generator) for _ in range(10)]
    lr, first, second, eps, decay = 1e-2, 0.9, 0.95, 1e-8, 0.1
    weight = start.double()
    mean, square = torch.zeros_like(weight), torch.zeros_like(weight)
    for count, gradient in enumerate(gradients, 1):
        weight = weight * (1 - lr * decay)
        mean = first * mean + (1 - first) * gradient
        square = second * square + (1 - second) * gradient.double() ** 2
        root = (square / (1 - second**count)).sqrt() + eps
        weight = weight - lr * mean / (1 - first**count) / root
    for name in adamw.SETTINGS:
        parameter = torch.nn.Parameter(start.clone().to(device))
        optimizer = torch.optim.AdamW(
            [parameter], lr=lr, betas=(first, second), eps=eps, weight_decay=decay
        )
        adamw.select(optimizer, name)
        for gradient in gradients:
            parameter.grad = gradient.clone().to(device)
            optimizer.step()
        error = float((parameter.detach().cpu() - weight).norm() / weight.norm())
        row = {"part": "adamw", "kernel": name, "draws": "10 steps in fp64"}
        yield {**row, "loss_error": 0.0, "gradient_error": error, "passed": error < 1e-6}


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    lines = [
        "| part | kernel | draws | error of the loss | of the gradients | |",
        "| --- | --- | --- | ---: | ---: | --- |",
    ]
    for row in rows:
        head = f"| {row['part']} | {row['kernel']} | {row['draws']} |"
        if "skipped" in row:
            lines.append(f"{head} | | not here |")
            continue
        if "failed" in row:
            lines.append(f"{head} | | FAILED: {row['failed']} |")
            continue
        verdict = "passed" if row["passed"] else "FAILED"
        lines.append(f"{head} {row['loss_error']:.1e} | {row['gradient_error']:.1e} | {verdict} |")
    return "\n".join(lines)
