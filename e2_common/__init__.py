# SPDX-License-Identifier: Apache-2.0
"""The ground that every package stands on: errors, files, progress, what lies on disk."""
