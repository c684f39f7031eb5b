# SPDX-License-Identifier: Apache-2.0
"""The ground that every package stands on: errors, files, progress, a model's sizes, what lies on disk."""
