# SPDX-License-Identifier: Apache-2.0
"""Whether Transformer Engine can be used here; where it cannot, nothing gets to see it.

megatron-core takes an installed package for a working one, in a dozen places and at import: without
a driver (on a login node) importing it is a traceback then, and with a cuDNN that does not fit, the
first layer is.
"""

import importlib
import importlib.util
import os
import sys

from e2_common.errors import brief

NAME = "transformer_engine"
MODULES = (NAME, "transformer_engine_torch")
HIDE = "E2_WITHOUT_TRANSFORMER_ENGINE"  # a variable of the environment; 1 counts it as absent

_reason: str | None = None


def settle(on_cpu: bool) -> None:
    """Hide the package if it cannot be used; call before importing anything of ``megatron``.

    Args:
        on_cpu: there is no CUDA device, or none is used; then the package is not even imported.
    """
    global _reason
    if _reason is not None or importlib.util.find_spec(NAME) is None:
        return
    if os.environ.get(HIDE) == "1":
        _reason = f"{HIDE}=1 says otherwise"
    elif on_cpu:
        _reason = "needs a CUDA device"
    else:
        try:
            _try_attention()
        except Exception as error:  # a shared library can fail in any way
            _reason = f"{NAME} is installed but does not work: {brief(error)}"
    if _reason:
        for name in [name for name in sys.modules if name.partition(".")[0] in MODULES]:
            del sys.modules[name]
        # How Python says that a module cannot be imported.
        sys.modules |= dict.fromkeys(MODULES)


def reason() -> str | None:
    """Why the package was hidden; None if it was not, or is not installed."""
    return _reason


def _try_attention() -> None:
    """Run its attention once, forwards and backwards: what needs a driver, cuDNN and a kernel."""
    import torch  # before the package, which wants torch's libraries

    pytorch = importlib.import_module(f"{NAME}.pytorch")
    with torch.cuda.device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count()):
        attend = pytorch.DotProductAttention(
            1, 64, attention_dropout=0.0, attn_mask_type="causal", qkv_format="sbhd"
        )
        states = torch.zeros(
            (64, 1, 1, 64), dtype=torch.bfloat16, device="cuda", requires_grad=True
        )
        attend(states, states, states).sum().backward()
        torch.cuda.synchronize()
