# SPDX-License-Identifier: Apache-2.0
"""What this project adds to Megatron, and what it changes in it. Importing this changes nothing.

Added, through Megatron's own extension points:

- ``rotary``      the rotary module of a built model is replaced (``pre_wrap_hooks``)
- ``kernels``     what computes each part of a step: a core attention on
                  scaled_dot_product_attention and an RMSNorm that allows sequence parallel, by
                  the layer spec; the others by names of Megatron that ``kernels.install`` rebinds
- ``temperature`` self-attention with YaRN's factor, by the layer spec and only with YaRN
- ``draw_statistics`` TensorBoard's histograms and loss by scale (``finalize_model_grads_func``)
- ``training``    the forward step; ``validation`` a loss per window; ``data`` the datasets

Changed in place, each with its reason, and failing loudly when the name is gone:

- ``fixes``        no ``make`` for the dataset helpers; distributed optimizer on torch's AdamW;
                 help texts with a bare %
- ``cpu_runtime``  CUDA devices become CPU ones; only without a CUDA device

The method itself (``config``, ``sampler``, ``positions``, ``frequencies``, ``methods``,
``schedule``) knows nothing of Megatron.
"""
