# SPDX-License-Identifier: Apache-2.0
"""Extra states of Transformer Engine's modules that a checkpoint does not hold.

Its modules keep the scaling factors of fp8 beside their weights, under ``_extra_state``. A
checkpoint of other layers, or of another version, has none for some of them (a norm outside a
linear layer, above all), and Megatron then refuses to load it for a missing key. Without fp8 they
are empty, and those that a module was built with are as good.
"""

from typing import Any

from torch.distributed.checkpoint import FileSystemReader


def keep_own(state: dict[str, Any], folder: str) -> None:
    """Let modules keep the extra states that a checkpoint does not hold.

    Args:
        state: sharded, of the model and the optimizer that are to be loaded; changed in place.
        folder: the checkpoint, of the format torch_dist.
    """
    from megatron.core.dist_checkpointing.dict_utils import dict_list_map_inplace
    from megatron.core.dist_checkpointing.mapping import LocalNonpersistentObject, ShardedObject

    stored = FileSystemReader(folder).read_metadata().state_dict_metadata

    def own(value: Any) -> Any:
        is_extra = isinstance(value, ShardedObject) and value.key.endswith("_extra_state")
        if is_extra and value.unique_key not in stored:
            return LocalNonpersistentObject(value.data)
        return value

    dict_list_map_inplace(own, state)
