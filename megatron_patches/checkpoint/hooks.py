# SPDX-License-Identifier: Apache-2.0
"""What a run does around Megatron's loading and saving: checksums, a clean folder, a full disk.

Megatron has no hook there, so its functions are wrapped in place.
"""

from typing import Any

from e2_common.disk.checkpoint_folder import empty
from e2_common.disk.room import free_if_full
from e2_common.errors import UserError
from megatron_patches.checkpoint.extra_states import keep_own
from megatron_patches.checkpoint.optimizer_state import let_sgd_load
from megatron_patches.checkpoint.schedule import rates_of_this_run
from megatron_patches.checkpoint.starting_point import check_sums
from megatron_patches.runtime.replace import replace

_installed = False


def install() -> None:
    """Wrap loading and saving, once; call before ``megatron.training.pretrain``."""
    global _installed
    if _installed:
        return
    _installed = True
    check_sums_before_loading()
    load_into_the_optimizer_of_this_run()
    load_layers_of_another_make()
    empty_the_folder_before_saving()
    name_a_full_disk()


def check_sums_before_loading() -> None:
    """Do not load a checkpoint with flipped bits.

    torch stores a CRC-32 beside every tensor and ignores it on reading. Megatron's
    --verify-integrity has one rank hash all files while the others wait, at every save and every
    load, and refuses checkpoints that were not saved with it.
    """
    import megatron.training.training as training

    def load_checkpoint(*args: Any, **kwargs: Any) -> Any:
        arguments = training.get_args()
        if not arguments.skip_checksums:
            check_sums(arguments)
        return original(*args, **kwargs)

    original = replace(training, "load_checkpoint", load_checkpoint)


def load_into_the_optimizer_of_this_run() -> None:
    """Let a resumed run change its learning rate (``schedule``), or be one of SGD.

    For the latter see ``optimizer_state``.
    """
    import megatron.training.training as training

    def load_checkpoint(model: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        let_sgd_load(optimizer)
        with rates_of_this_run(training.get_args(), optimizer):
            return original(model, optimizer, *args, **kwargs)

    original = replace(training, "load_checkpoint", load_checkpoint)


def load_layers_of_another_make() -> None:
    """Load local layers' weights into Transformer Engine's layers, and the other way round."""
    from megatron.core import dist_checkpointing

    def load(state: Any, folder: str, *args: Any, **kwargs: Any) -> Any:
        keep_own(state, folder)
        return original(state, folder, *args, **kwargs)

    original = replace(dist_checkpointing, "load", load)


def empty_the_folder_before_saving() -> None:
    """Do not save into a folder that holds an older checkpoint of the same iteration.

    It is there when a run was set back and comes to that iteration again. Megatron overwrites its
    files in place: ended in the middle, the folder holds the old index and some new files, and
    loads as if it were whole.
    """
    import torch.distributed as dist
    from megatron.core import dist_checkpointing

    def save(state: Any, folder: str, *args: Any, **kwargs: Any) -> Any:
        if dist.get_rank() == 0:
            empty(folder)
        dist.barrier()
        return original(state, folder, *args, **kwargs)

    original = replace(dist_checkpointing, "save", save)


def name_a_full_disk() -> None:
    """Say of a save that the disk has no room for that it is that.

    torch's writer may say no more of it than "unexpected pos 704 vs 598".
    """
    from megatron.core import dist_checkpointing
    from torch.distributed.checkpoint import CheckpointException

    def save(state: Any, folder: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(state, folder, *args, **kwargs)
        except (Exception, CheckpointException) as error:  # the latter is no Exception
            free = free_if_full(folder)
            if free is not None:
                raise UserError(
                    f"--save: {folder}: No space left on device ({free / 2**20:.1f} MiB are free); "
                    "make room and start again, the run goes on from the checkpoint before"
                ) from error
            raise

    original = replace(dist_checkpointing, "save", save)
