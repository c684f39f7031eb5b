# SPDX-License-Identifier: Apache-2.0
"""Split a document into sentences with NLTK's pretrained Punkt model."""

from collections.abc import Callable
from typing import Any

from e2_common.errors import UserError, on_one_line

LANGUAGE = "english"
# Megatron cuts a document into pieces of this many characters before it splits sentences, which
# ends a sentence at each cut; the same cut here keeps the output the same.
PIECE_CHARACTERS = 1_000_000


def load_punkt(flag: str, instead: str = "") -> Any:
    """Return NLTK's ``PunktTokenizer`` of the language.

    Args:
        flag: that asks for it, for messages.
        instead: what else the user may do, for the message about missing data.

    Raises:
        UserError: NLTK's data for the language is not installed.
    """
    from nltk.tokenize.punkt import PunktTokenizer

    resource = f"tokenizers/punkt_tab/{LANGUAGE}"
    try:
        return PunktTokenizer(LANGUAGE)
    except LookupError as error:
        raise UserError(
            f"{flag}: NLTK's {resource} is not installed; set NLTK_DATA to a folder "
            f"that holds it (python -m nltk.downloader -d FOLDER punkt_tab){instead}"
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(
            f"{flag}: NLTK's {resource} cannot be read ({on_one_line(error)}); "
            "set NLTK_DATA to a folder that holds a whole copy"
        ) from error


def load_splitter() -> Callable[[str], list[str]]:
    """Return a function from a text to its sentences.

    Raises:
        UserError: NLTK's data for the language is not installed.
    """
    punkt = load_punkt("--split-sentences")

    def split(text: str) -> list[str]:
        starts = range(0, len(text), PIECE_CHARACTERS)
        return [s for i in starts for s in punkt.tokenize(text[i : i + PIECE_CHARACTERS])]

    return split
