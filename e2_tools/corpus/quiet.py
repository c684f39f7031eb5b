# SPDX-License-Identifier: Apache-2.0
"""Import Megatron-core on a machine without a GPU without a screenful of warnings."""

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator

from megatron_patches.runtime import transformer_engine


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
    """Silence what Megatron and its dependencies say while they are imported.

    They warn of the absence of CUDA, Transformer Engine and Apex, none of which this work needs.
    """
    # Each worker tokenises one document at a time: threads inside it would only compete.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch  # noqa: F401  (its import resets the loggers, so it comes before them)

        for name in ("torch.utils.cpp_extension", "transformers", "megatron"):
            logging.getLogger(name).setLevel(logging.ERROR)
        transformer_engine.settle(on_cpu=True)
        yield
