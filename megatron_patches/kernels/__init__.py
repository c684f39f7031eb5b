# SPDX-License-Identifier: Apache-2.0
"""Which kernel computes each part of a training step: chosen in one place, named once at start.

``registry`` lists the parts and their kernels, best first; ``facts`` gathers what decides;
``choice`` makes the flags and picks; ``install`` puts the chosen ones into Megatron. The other
modules are kernels or fit somebody else's to Megatron. Nothing optional is imported before it is
chosen.
"""
