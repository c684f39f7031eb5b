# SPDX-License-Identifier: Apache-2.0
"""Plan a training run: memory of a GPU by part, whether it fits, speed, hours and cost.

    python tools/plan_memory.py --model llama2-7b --gpu A100-80GB --gpus 16 --tp 2
    python tools/plan_memory.py --model llama2-13b --gpu A100-80GB --gpus 16 --suggest
    python tools/plan_memory.py --model my-model --gpu H100 --gpus 8 --windows 4096 8192 16384
    python tools/plan_memory.py --model llama2-7b --gpu-memory-gib 23.5 --engine transformers \\
        --lora 16 --gradient-checkpointing

Nothing is built and no GPU is needed. Weights, gradients and optimizer states are exact;
activations are those of this project's layers; workspace and overhead are estimates. The time is
an estimate too, see docs/scaling.md. Of --engine transformers the memory is planned, see
docs/transformers.md.
"""

import argparse
import math
from dataclasses import replace
from pathlib import Path

from e2_common.errors import UserError, exit_on_user_error
from e2_common.files import atomic_file
from e2_common.json_file import write_json
from e2_common.outputs import OutputFile
from e2_common.training_time.gpus import GPUS, Gpu
from e2_common.training_time.layout import RECOMPUTE, Layout
from e2_common.training_time.step_time import COMPUTE_MFU
from e2_tools.arguments import check_counts, check_png, command_parser
from e2_tools.planning.models import MODELS, Model, find_model
from e2_tools.planning.plan import Plan, make_plan
from e2_tools.planning.run import KERNELS, SHARDING, Run, check
from e2_tools.planning.suggest import suggestions
from e2_tools.planning.table import by_window, ranking, report
from e2_tools.planning.transformers_plan import TuningPlan, check_engine, tuning_plan
from e2_tools.tuning.lora_arguments import add_lora

SCHEMA = "e2-llm/plan/1"


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = command_parser(__doc__)
    group = parser.add_argument_group("model and GPUs")
    add = group.add_argument
    add(
        "--model",
        required=True,
        metavar="M",
        help=f"a Hugging Face directory, or {', '.join(MODELS)}",
    )
    add("--gpu", choices=GPUS, help="their memory and speed")
    add("--gpus", type=int, metavar="N", help="in all (transformers: 1 where not given)")
    add("--gpus-per-node", type=int, default=8, metavar="N", help="(default: 8)")
    add("--gpu-memory-gib", type=float, metavar="G", help="(default: what torch sees of --gpu)")
    group = parser.add_argument_group("engine")
    add = group.add_argument
    add(
        "--engine",
        choices=("megatron", "transformers"),
        default="megatron",
        help="pretrain_e2.py or train_e2_hf.py (default: megatron)",
    )
    add("--gradient-checkpointing", action="store_true", help="of transformers")
    add_lora(group)
    group = parser.add_argument_group("layout")
    add = group.add_argument
    add("--tp", type=int, default=1, metavar="N", help="tensor-parallel size (default: 1)")
    add("--pp", type=int, default=1, metavar="N", help="pipeline stages (default: 1)")
    add("--vpp", type=int, default=1, metavar="N", help="model chunks of a stage (default: 1)")
    add("--cp", type=int, default=1, metavar="N", help="context-parallel size (default: 1)")
    add(
        "--sequence-parallel",
        action=argparse.BooleanOptionalAction,
        help="(default: with --tp above 1, as the recipes do)",
    )
    add(
        "--sharding",
        choices=SHARDING,
        default="distributed-optimizer",
        help="of the optimizer's state over data parallel; zero-2 is DeepSpeed's, with "
        "its buckets and transformers' loss, for comparison (default: distributed-optimizer)",
    )
    add("--recompute", choices=RECOMPUTE, default="none", help="of activations (default: none)")
    group = parser.add_argument_group("step and run")
    add = group.add_argument
    add("--micro-batch-size", type=int, default=1, metavar="N", help="(default: 1)")
    add("--global-batch-size", type=int, default=16, metavar="N", help="(default: 16, the paper's)")
    add("--seq-length", type=int, metavar="R", help="(default: the model's window)")
    add("--train-iters", type=int, default=30000, metavar="N", help="(default: 30000, the paper's)")
    group = parser.add_argument_group("what is kept")
    add = group.add_argument
    add("--precision", choices=("bf16", "fp32"), default="bf16", help="(default: bf16)")
    add(
        "--kernels",
        choices=KERNELS,
        default="gpu",
        help="transformer-engine; gpu: this project without it; cpu: nothing fused (default: gpu)",
    )
    add(
        "--attention",
        choices=("flash", "materialised"),
        default="flash",
        help="flash attention and SDPA keep no score matrix (default: flash)",
    )
    add("--gradients", choices=("fp32", "bf16"), default="fp32", help="(default: fp32)")
    add("--precision-aware-optimizer", action="store_true", help="Transformer Engine's AdamW")
    add("--adam-states", choices=("fp32", "bf16"), default="fp32", help="(default: fp32)")
    add("--fused-adam", action="store_true", help="the optimizer's step makes no temporaries")
    add(
        "--make-vocab-size-divisible-by",
        type=int,
        metavar="N",
        help="times TP: the padding (default: what convert_hf_to_megatron.py prints)",
    )
    add(
        "--overhead-gib",
        type=float,
        default=3.0,
        metavar="G",
        help="CUDA context, NCCL, libraries' workspaces, fragmentation; assumed (default: 3)",
    )
    group = parser.add_argument_group("time and money")
    add = group.add_argument
    add(
        "--mfu",
        type=float,
        metavar="M",
        help="share of the peak that model FLOPs reach, attention counted causal, all losses "
        f"included (default: {COMPUTE_MFU:g} while computing, less the layout's losses)",
    )
    add("--price-per-gpu-hour", type=float, metavar="P", help="for the cost of the run")
    group = parser.add_argument_group("output")
    add = group.add_argument
    add("--suggest", action="store_true", help="list the layouts that fit, the fastest first")
    add("--top", type=int, default=12, metavar="N", help="of --suggest (default: 12)")
    add("--windows", type=int, nargs="+", metavar="R", help="a table over these --seq-length")
    add("--json", type=OutputFile, metavar="FILE", help="everything, also as JSON")
    add("--plot", type=OutputFile, metavar="FILE.png", help="bytes by part; of --windows by window")
    return parser


@exit_on_user_error
def main(arguments: list[str] | None = None) -> None:
    """Plan what the command line asks for."""
    parser = build_parser()
    args = parser.parse_args(arguments)
    _check(args, parser)
    model = find_model(args.model)
    gpu = _gpu(args)
    if args.engine == "transformers":
        plans = [tuning_plan(args, model, gpu, window) for window in _windows(args, model)]
        print(by_window(plans) if args.windows else plans[0].report())
    elif args.suggest:
        plans = _suggest(args, model, gpu)
        print(ranking(plans[: args.top]))
        if len(plans) > args.top:
            print(f"and {len(plans) - args.top} more (--top)")
    else:
        plans = [_plan(args, model, gpu, window) for window in _windows(args, model)]
        print(by_window(plans) if args.windows else report(plans[0]))
    if args.json:
        _write_json(args.json, plans, args.model)
    if args.plot:
        from e2_tools.planning.plots import draw_by_window, draw_parts
        from e2_tools.plotting import save_png  # matplotlib is slow to import

        figure = draw_by_window({"": plans}) if args.windows else draw_parts(plans[: args.top])
        save_png(figure, args.plot)


def _windows(args: argparse.Namespace, model: Model) -> list[int]:
    return args.windows or [args.seq_length or model.window]


def _gpu(args: argparse.Namespace) -> Gpu:
    memory = args.gpu_memory_gib and int(args.gpu_memory_gib * 2**30)
    if args.gpu is None:  # whose speed nobody asks for
        return Gpu("GPU", (), 0, memory, 0, 0, "")
    return replace(GPUS[args.gpu], memory=memory) if memory else GPUS[args.gpu]


def _check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    check_engine(args, parser)
    if args.engine == "transformers":
        args.gpus = 1 if args.gpus is None else args.gpus
        if args.gpu is None and args.gpu_memory_gib is None:
            raise UserError("--gpu or --gpu-memory-gib is needed: the memory that there is")
    elif args.gpu is None or args.gpus is None:
        raise UserError("--gpu and --gpus are needed: their memory and speed, and how many")
    check_counts(args, ("gpus", "gpus_per_node", "global_batch_size", "train_iters", "top"))
    check_counts(args, ("micro_batch_size", "seq_length"))
    if any(window < 1 for window in args.windows or ()):
        raise UserError(f"--windows {min(args.windows)}: must be at least 1")
    if args.gpu_memory_gib is not None and not 0 < args.gpu_memory_gib < math.inf:
        raise UserError(f"--gpu-memory-gib {args.gpu_memory_gib:g}: must be above 0")
    if not 0 <= args.overhead_gib < math.inf:
        raise UserError(f"--overhead-gib {args.overhead_gib:g}: must not be negative")
    if args.mfu is not None and not 0 < args.mfu < 1:
        raise UserError(f"--mfu {args.mfu}: is a share of the peak, between 0 and 1")
    if args.suggest and args.windows:
        raise UserError("--windows: a table of one layout; drop --suggest")
    for flag, path in {"--json": args.json, "--plot": args.plot}.items():
        if path and path.is_dir():
            raise UserError(f"{flag} {path}: is a folder; name a file")
    if args.plot:
        check_png("--plot", args.plot)


def _run(args: argparse.Namespace, layout: Layout) -> Run:
    return Run(
        layout=layout,
        precision=args.precision,
        sharding=args.sharding,
        kernels=KERNELS[args.kernels],
        flash=args.attention == "flash",
        precision_aware=args.precision_aware_optimizer,
        gradients=args.gradients,
        states=args.adam_states,
        fused_adam=args.fused_adam or args.precision_aware_optimizer,
        overhead=int(args.overhead_gib * 2**30),
    )


def _plan(args: argparse.Namespace, model: Model, gpu: Gpu, window: int) -> Plan:
    ranks = max(1, args.tp) * max(1, args.pp) * max(1, args.cp)
    if args.gpus % ranks:
        raise UserError(f"--gpus {args.gpus}: is no multiple of --tp x --pp x --cp = {ranks}")
    data = args.gpus // ranks
    samples = max(1, args.micro_batch_size) * data
    if args.global_batch_size % samples:
        raise UserError(
            f"--global-batch-size {args.global_batch_size}: is no multiple of {samples}, the "
            "micro-batch times the data-parallel size"
        )
    sequence_parallel = args.sequence_parallel
    layout = Layout(
        tensor=args.tp,
        pipeline=args.pp,
        virtual=args.vpp,
        context=args.cp,
        data=data,
        sequence_parallel=args.tp > 1 if sequence_parallel is None else sequence_parallel,
        recompute=args.recompute,
        micro_batch=args.micro_batch_size,
        micro_batches=args.global_batch_size // samples,
        window=window,
        gpus_per_node=args.gpus_per_node,
    )
    run = _run(args, layout)
    check(run, model)
    padded = model.padded(args.tp, args.make_vocab_size_divisible_by)
    return make_plan(padded, run, gpu, args.train_iters, args.mfu, args.price_per_gpu_hour)


def _suggest(args: argparse.Namespace, model: Model, gpu: Gpu) -> list[Plan]:
    layout = Layout(
        context=args.cp,
        window=args.seq_length or model.window,
        gpus_per_node=args.gpus_per_node,
    )
    plans = suggestions(
        model,
        _run(args, layout),
        gpu,
        args.gpus,
        args.global_batch_size,
        args.train_iters,
        args.price_per_gpu_hour,
        args.mfu,
    )
    if not plans:
        raise UserError(
            f"--suggest: no layout of {model.name} fits {args.gpus} x {gpu.name}; take more GPUs, "
            "or --precision-aware-optimizer --adam-states bf16"
        )
    return plans


def _write_json(path: Path, plans: list[Plan] | list[TuningPlan], model: str) -> None:
    from e2_common.provenance import provenance  # imports torch

    origin = provenance(Path(model) if model not in MODELS else None)
    content = {
        "schema": SCHEMA,
        "plans": [plan.record() for plan in plans],
        "provenance": origin,
    }
    with atomic_file(path, "--json") as temporary:
        write_json(temporary, content)
