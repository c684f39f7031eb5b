# SPDX-License-Identifier: Apache-2.0
"""The ground of all packages: errors, files, progress, a model's sizes, what lies on disk."""
