# SPDX-License-Identifier: Apache-2.0
"""Every command where nobody reads it, where it may not write, and when it is told to end."""

import json
import os
import random
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.distributed.corpus import write_dataset
from tests.helpers.commands import run_command
from tests.helpers.tiny_llama import make_tiny_llama
from tests.tools.forked_commands import HOW
from tests.tools.test_light import COMMANDS
from tests.tools.test_outputs_of_commands import PARSERS, actions_of, is_output, value_of

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
ROUNDS = 1  # moments at which each signal is sent
# What an argument of this name is given, if it is required; others of text get a file of no use.
INPUTS = {
    **dict.fromkeys(("model", "hf_model", "tokenizer_model"), "model"),
    **dict.fromkeys(("data", "input", "text"), "text.jsonl"),
    **dict.fromkeys(("prompt_file",), "prompt.txt"),
    **dict.fromkeys(("prefix", "datasets"), "words"),
    **{"windows": "256", "window": "512", "max_new_tokens": "4", "tokenizer_type": None},
}
# What makes the work short, of the commands that have it.
SHORT = {"trials": "1", "num_samples": "1", "stride": "128", "tasks": "niah_single_1"}
DONE = {0, 2}
ENDED = {130, 143}  # the latter show_progress.py's


@pytest.fixture(scope="module")
def inputs():
    """A folder that everybody may read."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        source = folder / "in"
        source.mkdir()
        make_tiny_llama(source / "model")
        record = {"text": "a few words " * 30, "article": "long .", "abstract": "short ."}
        record |= {"meta": {}, "messages": [{"role": "user", "content": "a"}]}
        record["messages"].append({"role": "assistant", "content": "b"})
        (source / "text.jsonl").write_text((json.dumps(record) + "\n") * 300)
        write_dataset(source / "words", [[5, 6, 7]] * 20)
        (source / "prompt.txt").write_text("a few words")
        (source / "other").write_text("{}")
        yield folder


def line_of(name):
    """A command line of the parser of this name that names what its arguments are called for."""
    _, more = PARSERS[name]
    words, last = [], []
    for action in actions_of(name):
        if is_output(action) and (action.required or "output" in action.dest):
            words += [action.option_strings[0], f"out/{action.metavar or 'folder'}"]
        elif action.required and action.dest not in ("command", "corpus"):
            value = INPUTS.get(action.dest) or value_of(action, "other")
            if action.dest in ("output_prefix", "save"):
                value = "out/made"
            words += [action.option_strings[0], value] if action.option_strings else []
            last += [] if action.option_strings else [value]
        elif action.dest in SHORT:
            words += [action.option_strings[0], SHORT[action.dest]]
    return [*more[:1], *words, *last]


LINES = list(PARSERS)


def cases_of(folder, hows, seconds=None):
    """A case of every command in each of these surroundings, each in a folder of its own."""
    draw, cases = random.Random(0), []
    for name in LINES:
        for how in hows:
            place = Path(tempfile.mkdtemp(dir=folder))
            shutil.copytree(folder / "in", place, dirs_exist_ok=True)
            place.chmod(0o755)
            for made in ("out", "tmp"):
                (place / made).mkdir()
            after = draw.uniform(0, seconds[name]) if seconds else 0
            case = {"command": name.split()[0], "argv": line_of(name), "folder": str(place)}
            cases.append(case | {"how": how, "after": after})
    return cases


def contents(folder):
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def outcomes(cases):
    """Run them; of each (case, exit code, stderr, seconds, files before, files after)."""
    before = [contents(case["folder"]) for case in cases]
    run = run_command(
        "-m", "tests.tools.forked_commands", stdin=json.dumps(cases), timeout=3000, PYTHONPATH="."
    )
    ended = json.loads(run.stdout.splitlines()[-1])
    for case, (code, told, seconds), files in zip(cases, ended, before, strict=True):
        yield case, code, told, seconds, files, contents(case["folder"])


def wrong(case, code, told, before, after):
    """What is wrong with how a case ended, if anything is."""
    wanted = DONE | ({141} if case["how"] == "reader_gone" else set())
    if case["how"] in SIGNALS:
        wanted = wanted | ENDED
    made = [str(path.relative_to(case["folder"])) for path in after.keys() - before.keys()]
    litter = [name for name in made if not name.startswith("out/") or ".tmp" in name]
    if code not in wanted:
        return f"exit code {code}"
    if "Traceback" in told or "Exception ignored" in told:
        return "a traceback"
    if code == 2 and told.splitlines()[-1:] and "error: " not in told:
        return "no reason"
    if litter:
        return f"litter: {litter}"
    # What is printed last is of work that is done.
    if case["how"] in ("reader_gone", "full"):
        code = 0
    if code != 0 and made:
        return f"half made: {made}"
    lost = [
        path.name for path in before if path not in after or (code and after[path] != before[path])
    ]
    return f"changed: {lost}" if lost else None


def _all_may_read_python():
    """Whether another user can import what Python itself consists of."""
    return all(os.stat(each).st_mode & 0o001 for each in Path(os.__file__).parents)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_every_command_in_odd_surroundings_and_ended_at_any_moment(inputs):
    plain = list(outcomes(cases_of(inputs, ["plain"])))
    seconds = {name: case[3] for name, case in zip(LINES, plain, strict=True)}
    # Enough of them do their work to the end.
    done = {name for name, case in zip(LINES, plain, strict=True) if case[1] == 0}
    print(
        sorted(done),
        {name: case[2][-200:] for name, case in zip(LINES, plain, strict=True) if case[1]},
    )
    hows = [how for how in HOW if how != "plain" and (how != "nobody" or _all_may_read_python())]
    odd = outcomes(cases_of(inputs, hows))
    ended = outcomes(cases_of(inputs, SIGNALS * ROUNDS, seconds))
    found = []
    for case, code, told, _, before, after in (*plain, *odd, *ended):
        if why := wrong(case, code, told, before, after):
            found.append(
                f"{case['command']} {case['argv'][:1]}, {case['how']}: {why}\n{told[-700:]}"
            )
    assert not found, "\n\n".join(found)
    assert len(done) >= len(COMMANDS) // 2, sorted(done)


@pytest.mark.slow
def test_help_without_docstrings_and_in_ascii():
    """Under `python -OO` the text of --help is missing, and nothing else."""
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(f'e2_tools.commands.{name}').build_parser().format_help()\n"
    )
    for environment in ({"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}):
        run_command("-OO", "-c", code, *COMMANDS, **environment)
