# SPDX-License-Identifier: Apache-2.0
"""Runs NVIDIA/RULER's own scripts, in a process of its own: they change logging and seeds.

    python tests/helpers/ruler_reference.py RULER DATA < jobs.json > samples.json

RULER is a checkout. DATA has ``tokenizer`` (a Hugging Face folder) and what RULER's downloads would
bring: PaulGrahamEssays.json, english_words.json, squad.json and hotpotqa.json. A job is
``[task, window, seed, samples, before, behind]``, the last two a model's template around the
question, and gives ``[[prompt, answers], ...]``. A job of
``["scores", [[answer, references, metric], ...]]`` gives scores.
"""

import contextlib
import functools
import importlib.util
import json
import logging
import random
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from unittest import mock

import numpy as np
import yaml


class Scripts:
    """The scripts, copied to where they find their data."""

    def __init__(self, ruler: Path, data: Path, copy: Path) -> None:
        shutil.copytree(ruler / "scripts", copy / "scripts")
        self.scripts, self.data = copy / "scripts", data
        self.folder = self.scripts / "data" / "synthetic"
        for file in data.glob("*.json"):
            shutil.copy(file, self.folder / "json" / file.name)
        sys.modules["tenacity"] = mock.MagicMock()  # for tokenizers of the network
        # What the scripts import from beside them.
        tokenizers = sys.modules["tokenizer"] = self.load(self.folder.parent / "tokenizer.py")
        tokenizers.select_tokenizer = functools.cache(tokenizers.select_tokenizer)
        constants = sys.modules["constants"] = self.load(self.folder / "constants.py")
        self.families = constants.TASKS
        self.tasks = yaml.safe_load((self.scripts / "synthetic.yaml").read_text())
        self.needles = functools.cache(self._needles)
        self.keys: list[str] | None = None

    def load(self, script: Path, argv: Sequence[str] = ()) -> ModuleType:
        """Run a script up to its main, with these words as its command line."""
        spec = importlib.util.spec_from_file_location("script", script)
        module = importlib.util.module_from_spec(spec)
        with mock.patch.object(sys, "argv", [str(script), *argv]):
            spec.loader.exec_module(module)
        logging.disable(logging.CRITICAL)
        return module

    def command_line(
        self, task: str, window: int, seed: int, count: int, before: str = "", behind: str = ""
    ) -> list[str]:
        """What prepare.py gives to the script of a task."""
        config = self.tasks[task]
        family = self.families[config["task"]]
        words = {
            "save_dir": ".",
            "save_name": task,
            "tokenizer_path": self.data / "tokenizer",
            "tokenizer_type": "hf",
            "max_seq_length": window,
            "tokens_to_generate": family["tokens_to_generate"],
            "num_samples": count,
            "random_seed": seed,
            **config["args"],
            "template": before + family["template"] + behind + family["answer_prefix"],
        }
        return [str(word) for name, value in words.items() for word in (f"--{name}", value)]

    def _needles(self, haystack: str) -> ModuleType:
        """niah.py, once for each haystack, with the six million keys of the first."""
        task = next(t for t, c in self.tasks.items() if c["args"].get("type_haystack") == haystack)
        script, argv = self.folder / "niah.py", self.command_line(task, 4096, 0, 1)
        if self.keys is None:
            module = self.load(script, argv)
            self.keys = module.words
        else:
            with mock.patch("wonderwords.random_word._get_words_from_text_file", return_value=[]):
                module = self.load(script, argv)
            module.words = self.keys
        return module

    def samples(
        self, task: str, window: int, seed: int, count: int, *around: str
    ) -> list[tuple[str, list[str]]]:
        """The samples that the script of a task writes."""
        config = self.tasks[task]
        argv = self.command_line(task, window, seed, count, *around)
        script = self.folder / f"{config['task']}.py"
        lines: list[dict] = []
        if config["task"] == "niah":
            module = self.needles(config["args"]["type_haystack"])
            module.args = module.parser.parse_args(argv)
            random.seed(seed)
            np.random.seed(seed)
            module.args.num_needle_k = max(module.args.num_needle_k, module.args.num_needle_q)
            module.tqdm = iter
            lines = module.generate_samples(count, window, Path())
        else:
            module = self.load(script, argv)
            module.tqdm = iter
            module.args.save_dir = self.data / "unused"
            module.write_manifest = lambda _, written: lines.extend(written)
            with mock.patch.object(Path, "mkdir"):
                module.main()
        return [(line["input"] + line["answer_prefix"], line["outputs"]) for line in lines]

    def scores(self, jobs: list) -> list[float]:
        """What evaluate.py makes of answers, each as a task of one sample."""
        unused = mock.MagicMock()
        absent = dict.fromkeys(("nltk", "pandas", "nemo"), unused)
        absent["nemo.collections.asr.parts.utils.manifest_utils"] = unused
        with mock.patch.dict(sys.modules, absent):
            script = self.load(self.scripts / "eval" / "evaluate.py", ["--data_dir", "."])
        metrics = self.load(self.scripts / "eval" / "synthetic" / "constants.py")
        return [
            getattr(metrics, metric)([script.postprocess_pred(answer, {})], [references])
            for answer, references, metric in jobs
        ]


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr), tempfile.TemporaryDirectory() as folder:
        scripts = Scripts(Path(sys.argv[1]), Path(sys.argv[2]), Path(folder))
        made = [
            scripts.scores(job[1]) if job[0] == "scores" else scripts.samples(*job)
            for job in json.load(sys.stdin)
        ]
    json.dump(made, sys.stdout)
