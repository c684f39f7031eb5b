# SPDX-License-Identifier: Apache-2.0
"""For tests that run inside a torchrun world; elsewhere nothing of this folder is collected."""

import importlib.util
import os
import shutil
import tempfile

import pytest

IN_WORLD = "E2_INSIDE_WORLD" in os.environ
if not IN_WORLD:
    collect_ignore_glob = ["test_*.py"]
else:
    from megatron_patches.runtime import cpu as cpu_runtime
    from megatron_patches.runtime import fixes

    cpu_runtime.install()
    fixes.keep_results_of_saves_in_process()
    if importlib.util.find_spec("liger_kernel"):
        from tests.helpers.triton_interpreter import prepare

        prepare()


@pytest.fixture(scope="session", params=[1, 2], ids=["tp1", "tp2"])
def model_parallel(request):
    """Tensor-parallel groups over the world of two ranks; yields their size."""
    import torch
    from megatron.core import parallel_state, tensor_parallel
    from megatron.training.training import destroy_global_memory_buffer

    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")
    parallel_state.initialize_model_parallel(tensor_model_parallel_size=request.param)
    tensor_parallel.model_parallel_cuda_manual_seed(1)
    yield request.param
    parallel_state.destroy_model_parallel()
    destroy_global_memory_buffer()
    # Every group keeps threads; those of a hundred tests would bring the machine down.
    world = torch.distributed.group.WORLD
    for group in list(torch.distributed.distributed_c10d._world.pg_map):
        if group is not world:
            torch.distributed.destroy_process_group(group)


@pytest.fixture
def folder():
    """One for all ranks; needs ``model_parallel`` before it."""
    import torch

    name = [tempfile.mkdtemp()]
    mine = name[0]
    torch.distributed.broadcast_object_list(name, src=0)
    yield name[0]
    torch.distributed.barrier()
    shutil.rmtree(mine)
