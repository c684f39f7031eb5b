# SPDX-License-Identifier: Apache-2.0
"""What the commands do, a folder a concept; ``cli`` and ``commands`` are their faces."""
