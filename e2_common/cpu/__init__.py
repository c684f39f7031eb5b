# SPDX-License-Identifier: Apache-2.0
"""What makes CPUs fast where torch by itself is not."""
