# SPDX-License-Identifier: Apache-2.0
"""Arguments, what is refused, and what a run says of itself before it starts."""
