# SPDX-License-Identifier: Apache-2.0
"""Authors' repositories: where they are cloned, at which commit they are read, and how they run.

Their functions run as they stand in the clone. Only the names that are asked for are executed, so
that nothing of what their files import has to be installed; what the functions themselves use is
handed to them.
"""

import __future__

import ast
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# Every name in this table is a folder of --repositories.
COMMITS = {
    "PoSE": ("dwzhu-pku/PoSE", "a3d4ba8bd38e6615ba778d9a1061e380c8e69647"),
    "CREAM": ("bigai-nlco/CREAM", "1d15c73556b4b9f3ad180e2e173831ac203ba94c"),
    "randomized_positional_encodings": (
        "google-deepmind/randomized_positional_encodings",
        "e8c64749d8cad7772dc7ade75b32ef9b2b29b466",
    ),
    "EndPrompt": ("clx1415926/EndPrompt", "9a76e4e59eb44865d570aa570c0b3eacedd472db"),
    "GeNE": ("LhLi-QED/GeNE", "cd27b1858ba333e05817a6ed5f3e6d0cb12ff8c9"),
    "CLEX": ("DAMO-NLP-SG/CLEX", "023709d923ea9492ba82a6e8341d8c02f77e34e8"),
    "yarn": ("jquesnelle/yarn", "995db5b575e75230b3384d658f8b944c9662f775"),
    "gpt-oss": ("openai/gpt-oss", "7b583341fe16729127f6d5b94a7b09ccae97e1a1"),
    "llama-models": ("meta-llama/llama-models", "a9c89c471f793423afd4cc3ca8671d6e56fe64cb"),
    "LongRoPE": ("microsoft/LongRoPE", "c9e56aa54007c328399677232a489feec446e4b8"),
    "nnscaler": ("microsoft/nnscaler", "1585c15d4ca99e23a410c90f9bad2664125524d4"),
    "CoPE": ("hrlics/CoPE", "ed52ba5e2d80aaea7577144109c572e93e84e537"),
    "DroPE": ("SakanaAI/DroPE", "260a8bb9f4fda0673266ddfee7668915aade8b33"),
}


class MissingClone(Exception):
    """There is no clone of that name, or it lacks the commit; the message says what to do."""


@dataclass(frozen=True)
class Clone:
    """A repository, read at one commit whatever is checked out.

    Attributes:
        folder: of the clone, bare or not.
        repository: owner/name.
        commit: in full.
    """

    folder: Path
    repository: str
    commit: str

    @classmethod
    def within(cls, folder: Path, name: str) -> "Clone":
        """The clone of a name of :data:`COMMITS`.

        Raises:
            MissingClone: it is not there, or lacks the commit.
        """
        clone = cls(folder / name, *COMMITS[name])
        if not clone.folder.is_dir():
            raise MissingClone(f"no clone {clone.folder}")
        # Asked for by its own name: a folder inside another repository is no clone.
        if not any((clone.folder / it).exists() for it in (".git", "HEAD")):
            raise MissingClone(f"{clone.folder} is no git repository")
        if clone._git("cat-file", "-e", f"{clone.commit}^{{commit}}").returncode:
            raise MissingClone(f"{clone.folder} has no commit {clone.commit[:7]}; fetch it")
        return clone

    def read(self, path: str) -> str:
        """A file's text at the commit.

        Raises:
            MissingClone: the file cannot be read.
        """
        shown = self._git("show", f"{self.commit}:{path}")
        if shown.returncode:
            raise MissingClone(f"{self.folder}: {path} cannot be read: {shown.stderr.strip()}")
        return shown.stdout

    def run(self, path: str, *names: str, **given: Any) -> SimpleNamespace:
        """Execute functions and classes of a file, and nothing else of it.

        Args:
            path: of the file in the repository.
            names: of what is wanted; what these use of the file itself is named too.
            given: what they use from elsewhere, by the names that the file has for it.

        Raises:
            MissingClone: the file cannot be read or lacks a name.
        """
        tree = ast.parse(self.read(path))
        kinds = ast.FunctionDef | ast.ClassDef
        tree.body = [it for it in tree.body if isinstance(it, kinds) and it.name in names]
        lacks = set(names) - {it.name for it in tree.body}
        if lacks:
            raise MissingClone(f"{self.folder}: {path} has no {', '.join(sorted(lacks))}")
        # Their annotations name modules that nobody needs here: they stay text.
        flags = __future__.annotations.compiler_flag
        space = {"__name__": f"{self.folder.name}:{path}", **given}
        exec(compile(tree, f"{self.folder}/{path}", "exec", flags, dont_inherit=True), space)
        return SimpleNamespace(**{name: space[name] for name in names})

    def _git(self, *words: str) -> "subprocess.CompletedProcess[str]":
        command = ["git", "-C", str(self.folder), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)
