# SPDX-License-Identifier: Apache-2.0
"""What this project adds to Megatron, and what it changes in it. Importing this changes nothing.

- ``start``       Megatron's arguments with ours, what is refused, what a run says of itself
- ``data``        datasets, the blend of a run, loss masks beside a dataset, documents apart
- ``model``       the model's configuration: layer spec, rotary module (``pre_wrap_hooks``)
- ``training``    the forward step, a loss per window, TensorBoard's statistics of the draws
- ``checkpoint``  which checkpoint a run starts from, whether it is whole and of the same model
- ``kernels``     what computes each part of a step, by the layer spec or by names rebound
- ``runtime``     defects of Megatron, and Megatron on a machine without CUDA

Names of Megatron are changed in place by ``runtime``, ``kernels.install`` and ``checkpoint.hooks``
alone, each with its reason, and through ``runtime.replace``, which fails when a name is gone. The
method itself is ``e2_llm``, which knows nothing of Megatron.
"""
