# SPDX-License-Identifier: Apache-2.0
"""The model configuration, and the rotary module that takes draws."""
