# SPDX-License-Identifier: Apache-2.0
"""Lets Megatron parse many command lines in a process without reading its source each time."""


def remember_docstrings() -> None:
    """Keep what it reads of a class: for every command line it reads the source of 39 of them.

    That is a second, a quarter of what a run of a tiny model takes.
    """
    from megatron.training.argument_utils import ArgumentGroupFactory

    read, known = ArgumentGroupFactory._get_field_docstrings, {}

    def remembered(self, kind):
        if kind not in known:
            known[kind] = read(self, kind)
        return dict(known[kind])

    ArgumentGroupFactory._get_field_docstrings = remembered
