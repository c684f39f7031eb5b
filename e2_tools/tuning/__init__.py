# SPDX-License-Identifier: Apache-2.0
"""Training on transformers, from the command line to a Hugging Face folder."""
