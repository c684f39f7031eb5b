# SPDX-License-Identifier: Apache-2.0
"""What is wrong with one record, and not with the run."""

from e2_common.errors import UserError

STOP, SKIP = "stop", "skip"  # what a run does about it


class BrokenRecord(UserError):
    """A record that is not what it should be; its text names file and line."""
