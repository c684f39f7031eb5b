# SPDX-License-Identifier: Apache-2.0
"""OpenAI's MRCR: the i-th of several alike texts in a long conversation, word by word."""
