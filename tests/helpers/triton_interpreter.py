# SPDX-License-Identifier: Apache-2.0
"""Lets Liger's kernels run under Triton's interpreter, which needs three stand-ins.

``TRITON_INTERPRET=1`` must be in the environment before Triton is imported. The interpreter then
hands a kernel's float arguments over as Python numbers, where a compiled kernel sees fp32 scalars,
knows nothing of CUDA's libdevice, from which Liger takes the reciprocal square root, and turns
scalars, which it keeps as arrays of one element, into integers in a way that numpy 2.5 refuses.
"""

import os

import numpy as np


def prepare():
    """Install the stand-ins; call once, before a kernel is launched."""
    assert os.environ.get("TRITON_INTERPRET") == "1"
    import liger_kernel.ops.rms_norm as liger_norm
    import triton.language as tl
    from triton.runtime import interpreter

    convert = interpreter._implicit_cvt

    def with_floats(argument):
        if isinstance(argument, float):
            handle = interpreter.TensorHandle(np.array([argument], np.float32), tl.float32)
            return tl.tensor(handle, tl.float32)
        return convert(argument)

    patch_tensor = interpreter._patch_lang_tensor

    def with_index(tensor, scope):
        patch_tensor(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._implicit_cvt = with_floats
    interpreter._patch_lang_tensor = with_index
    liger_norm.rsqrt = lambda value: tl.math.rsqrt(value)  # looked up when it is interpreted
