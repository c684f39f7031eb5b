# SPDX-License-Identifier: Apache-2.0
"""A position method is one class: choices, refusals, help, training, export and plots follow."""

import json

import pytest

from tests.distributed.corpus import make_corpus
from tests.distributed.world import TINY_MODEL, TINY_TRAINING
from tests.helpers.commands import refused_by, run_command
from tests.helpers.quick_python import quick_python

METHOD = '''
import importlib, sys
from e2_llm import PositionMethod, register

@register
class Strided(PositionMethod):
    """Every second position of the extended window."""

    name, title, help = "strided", "strided positions (a test)", "every second position"
    reads = ("factor", "frequencies")

    def tokens(self, draw, length, device=None, joints=()):
        return 2 * super().tokens(draw, length, device, joints)

if __name__ == "__main__":
    importlib.import_module(sys.argv.pop(1)).main()
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one_class")
    (folder / "mine.py").write_text(METHOD)
    return folder


def run(folder, module, *arguments, code=0):
    """Run a command in a process that knows the class; returns what it prints."""
    words = [folder / "mine.py", module, *arguments]
    more = {"COLUMNS": 1000, "PYTHON": quick_python()}
    done = run_command(*words, code=code, timeout=250, **more)
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def trained(folder):
    """The command line of a run that saved two iterations, and what it said."""
    command = [*TINY_MODEL, *TINY_TRAINING, *make_corpus(folder), "--train-iters", 2]
    command += ["--position-method", "strided", "--e2-factor", 4, "--e2-frequencies", "yarn"]
    command += ["--save", folder / "checkpoint", "--save-interval", 2]
    return command, run(folder, "pretrain_e2", *command)


def test_it_trains(trained):
    _, output = trained
    assert "> positions: strided, L = 64, R = 64" in output
    assert "iteration        2/       2" in output


def test_its_flags_are_its_own(folder, trained):
    command, _ = trained
    assert "strided: every second position" in run(folder, "pretrain_e2", "--help")
    refused = run(folder, "pretrain_e2", *command, "--e2-keep-first", 2, code=2)
    assert "--e2-keep-first is only for --position-method e2, not strided" in refused
    refused = run(folder, "pretrain_e2", *command, "--e2-factor", 1, code=2)
    assert "--position-method strided needs --e2-factor above 1" in refused
    resumed = [*command, "--load", folder / "checkpoint", "--e2-factor", 8]
    assert "--e2-factor 4.0 there, 8.0 here" in run(folder, "pretrain_e2", *resumed, code=2)


def test_it_exports(folder, trained):
    export = ("--load", folder / "checkpoint", "--save")
    run(folder, "e2_tools.commands.convert_megatron_to_hf", *export, folder / "hf")
    config = json.loads((folder / "hf" / "config.json").read_text())
    assert config["e2_llm"]["method"] == "strided"
    assert config["rope_parameters"]["rope_type"] == "yarn"
    assert (config["rope_parameters"]["factor"], config["max_position_embeddings"]) == (4.0, 256)
    assert "| method | strided positions (a test) |" in (folder / "hf" / "README.md").read_text()
    window = ("e2_tools.commands.set_window", folder / "hf", "--window", 512)
    assert "one factor (strided)" in run(folder, *window, code=2)


def test_it_is_drawn(folder):
    picture = folder / "positions.png"
    plot = ("--output", picture, "--method", "strided", "--factor", 4, "--base-window", 64)
    run(folder, "e2_tools.commands.plot_positions", *plot)
    assert picture.stat().st_size > 0


def test_without_the_class_its_checkpoint_is_refused(folder, trained):
    again = ("--load", folder / "checkpoint", "--save", folder / "again")
    words = ["tools/convert_megatron_to_hf.py", *again]
    done = run_command(*words, code=2, PYTHON=quick_python())
    refused_by(done, "--position-method strided: no such method; there are e2,")
    assert not (folder / "again").exists()
