# SPDX-License-Identifier: Apache-2.0
"""Under which conditions results were measured, in words for pictures, captions and tables."""

from typing import Any

from e2_tools.evaluation.result_file import Results

FEW = 5  # scales and windows that are all named
OWN_ROPE = "own RoPE"
COUNTED = ("documents", "scored tokens", "key tokens", "trials a cell", "runs")
# How pages and pictures call a test, by the middle of its schema.
TESTS = {
    "perplexity": "Perplexity",
    "passkey": "Passkey",
    "needle": "Needle",
    "recall": "Span recall",
    "ruler": "RULER",
    "babilong": "BABILong",
    "mrcr": "MRCR",
}


def test_name(results: Results) -> str:
    """Return how pages and pictures call the test of a result file."""
    return TESTS.get(str(results.get("schema")).split("/")[1:2][0], "")


def told_scale(scale: float | None) -> str:
    """Return a scale in words: g, or the model's own RoPE."""
    return OWN_ROPE if scale is None else f"g = {scale:g}"


def told_scales(results: Results) -> str:
    """Return the scales of a result file's windows, the smallest window first; "" if unknown."""
    rows = sorted(results["results"], key=lambda row: row["window"])
    scales = list(dict.fromkeys(row["scale"] for row in rows if "scale" in row))
    numbers = [f"{scale:g}" for scale in scales if scale is not None]
    told = f"g = {listed(numbers)}" if numbers else ""
    return ", ".join(filter(None, (told, OWN_ROPE if None in scales else "")))


def told_windows(results: Results) -> str:
    """Return the windows of a result file in words."""
    return listed([f"{window:,}" for window in sorted({r["window"] for r in results["results"]})])


def listed(values: list[str]) -> str:
    """Return a few values, or the first and the last of many."""
    return f"{values[0]} … {values[-1]}" if len(values) > FEW else ", ".join(values)


def conditions(results: Results) -> dict[str, str]:
    """Return what a result file's numbers depend on besides model, window and scale.

    Returns:
        what -> its value in words, in the order to tell them in; what the file does not say is
        left out.
    """
    return _perplexity(results) if test_name(results) == "Perplexity" else _questions(results)


def _perplexity(results: Results) -> dict[str, str]:
    documents = (results.get("data") or {}).get("documents")
    tokens = [row["tokens"] for row in results["results"] if "tokens" in row]
    found = {
        "protocol": results.get("protocol"),
        "stride": results.get("stride"),
        "documents": documents,
        "scored tokens": _between(tokens),
        "key tokens": (results.get("key_tokens") or {}).get("scored"),
        "dtype": results.get("dtype"),
    }
    return _told(found)


def _questions(results: Results) -> dict[str, str]:
    test, haystack, sentences = test_name(results), results.get("haystack"), None
    if isinstance(haystack, dict):
        sentences = haystack.get("sentences")
        haystack = haystack.get("path") or haystack.get("file")
    found = {
        "trials a cell": results.get("trials"),
        "haystack": haystack if test in ("Needle", "RULER") else None,
        "sentences by": sentences,
        "values": results.get("values"),
        "among": results.get("among"),
        "chat template": "yes" if results.get("chat") else None,
        "dtype": results.get("dtype"),
    }
    return _told(found)


def _told(found: dict[str, Any]) -> dict[str, str]:
    return {
        what: f"{value:,}" if isinstance(value, int) else str(value)
        for what, value in found.items()
        if value is not None
    }


def _between(numbers: list[int]) -> str | None:
    if not numbers:
        return None
    return " … ".join(f"{number:,}" for number in sorted({min(numbers), max(numbers)}))


def in_words(found: dict[str, str]) -> str:
    """Return conditions as one line."""
    phrases = (f"{v} {name}" if name in COUNTED else f"{name} {v}" for name, v in found.items())
    return ", ".join(phrases).replace("chat template yes", "chat template")


def conditions_of_all(files: list[Results]) -> str:
    """Return the conditions of several files in one line; where they differ, all values."""
    each = [conditions(results) for results in files]
    names = list(dict.fromkeys(name for found in each for name in found))
    values = {name: dict.fromkeys(found.get(name, "-") for found in each) for name in names}
    return in_words({name: " / ".join(found) for name, found in values.items()})
