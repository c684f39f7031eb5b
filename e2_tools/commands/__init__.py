# SPDX-License-Identifier: Apache-2.0
"""The command line of every tool, one module each; ``main`` is what runs."""
