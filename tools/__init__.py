# SPDX-License-Identifier: Apache-2.0
"""Commands around training: data, conversion, evaluation, plots. One script a command."""
