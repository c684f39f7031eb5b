# SPDX-License-Identifier: Apache-2.0
"""Whose results a page shows: one name and one look for each checkpoint, on the whole page."""

import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

from e2_tools.evaluation.conditions import TESTS, told_scale
from e2_tools.evaluation.result_file import Results
from e2_tools.evaluation.short import SCHEMA as SHORT
from e2_tools.plotting import Looks
from e2_tools.reporting.collect import Result, Run, kind_of
from e2_tools.reporting.page import Cell

_OF_ONE = (*TESTS, "longbench", "attention")  # middles of schemas: files of a single checkpoint
_SERVED = "served-"  # begins the names of copies that short.sh makes
_ITSELF = "served alike: this compares it with itself."


class Page(NamedTuple):
    """What all sections of a page share.

    Attributes:
        run: what was found; the label of every result is the name of its checkpoint, and
            ``own_label`` what its file calls it.
        names: of the checkpoints, in the order of columns and colours.
        looks: of the names, so that a checkpoint has one colour everywhere.
        seeds: perplexities of one label are one run under several seeds.
    """

    run: Run
    names: list[str]
    looks: Looks
    seeds: bool

    def of(self, kind: str) -> list[Result]:
        """Return the results of a kind, in the order of the names."""
        found = self.run.results.get(kind, [])
        return sorted(found, key=lambda each: _place(self.names, each.content.get("label")))

    def number(self, path: Path) -> int:
        """Return the number by which the page names a result file."""
        return 1 + [each.path for each in all_results(self.run)].index(path)

    def file(self, path: Path) -> str:
        """Return how the page calls a file."""
        return str(path.relative_to(self.run.folder))

    def head(self, name: str, *small: str, sources: tuple[int, ...] = ()) -> Cell:
        """Return a cell with a checkpoint's name and colour."""
        return Cell(name, tuple(filter(None, small)), self.looks.of(name)["color"], sources)


def all_results(run: Run) -> list[Result]:
    """Return the results of all kinds, in the order of their numbers."""
    return [each for results in run.results.values() for each in results]


def page_of(run: Run, order: list[str] | None = None, *, seeds: bool = False) -> Page:
    """Name the checkpoints of a run.

    A label that several models have gets the model's path behind it, and one that stands for a
    model served at several scales or by several rules gets these.

    Args:
        run: what was found.
        order: names or labels in the order of columns, the others behind; by default those whose
            config does not say that they were trained by a position method stand before those that
            were.
        seeds: labels are left as they are: each is several models.
    """
    own = [each.content for each in all_results(run) if _is_of_one(each.content)]
    named = run._replace(
        results={
            kind: [
                Result(
                    path,
                    content
                    | {"label": _name(path, content, own, seeds=seeds)}
                    | {"own_label": content.get("label")},
                )
                for path, content in results
            ]
            for kind, results in run.results.items()
        }
    )
    columns = [each.content for each in all_results(named) if _is_of_one(each.content)]
    columns.sort(key=_is_trained)
    names = [content["label"] for content in columns]
    of_names = {content["label"]: _model(content) for content in columns}
    for _, content in named.results.get(kind_of(SHORT), []):
        both = [_name_side(content, each, of_names) for each in ("before", "after")]
        # Which of them was before is known here.
        names = [both[0], *names, both[1]] if both[0] not in names[:1] else [*names, both[1]]
    names = list(dict.fromkeys(names))
    labels = {content["label"]: content["own_label"] for content in columns}
    for wanted in order or []:
        if wanted not in {*names, *labels.values()}:
            told = f"no result has this name; there are {', '.join(names)}"
            print(f"note: --order {wanted}: {told}", file=sys.stderr)
    names.sort(key=lambda name: min(_place(order or [], n) for n in (name, labels.get(name))))
    return Page(named, names, Looks(names), seeds)


def told_training(page: Page, name: str) -> str:
    """Return what the results say of how a checkpoint was trained, in a few words."""
    for _, content in all_results(page.run):
        block = _trained_by(content) if content.get("label") == name else None
        if block:
            parts = [str(block.get("method"))]
            parts += [f"R {block['train_window']:,}"] if block.get("train_window") else []
            parts += [f"g to {block['max_scale']:g}"] if block.get("max_scale") else []
            parts += [f"{block['iteration']:,} iterations"] if block.get("iteration") else []
            return ", ".join(parts if parts[0] != "none" else ["no position method", *parts[1:]])
    return ""


def model_of(page: Page, name: str) -> str | None:
    """Return the folder of a checkpoint's model; None if no result says it."""
    found = [
        _model(content) for _, content in all_results(page.run) if content.get("label") == name
    ]
    return next(filter(None, found), None)


def doubts(page: Page) -> list[str]:
    """Return what should be known of the names before columns are compared, a sentence each."""
    if page.seeds:
        return []
    served: dict[tuple[Any, ...], dict[str, None]] = {}
    for _, content in all_results(page.run):
        if _is_of_one(content) and (model := _model(content)):
            key = (model, *_served(content))
            served.setdefault(key, {})[content["label"]] = None
    found = [
        f"{' and '.join(names)} are one model, {key[0]}, {_ITSELF}"
        for key, names in served.items()
        if len(names) > 1
    ]
    found += _other_weights(page)
    for kind, results in page.run.results.items():
        precisions = [_precision(each.content) for each in results if _is_of_one(each.content)]
        if told := sorted({*precisions} - {None}):
            test = TESTS.get(kind.rpartition("/")[2], kind.rpartition("/")[2].capitalize())
            found += [f"{test} was measured in {' and in '.join(told)}."] * (len(told) > 1)
    for path, content in page.run.results.get(kind_of(SHORT), []):
        before, after = (
            [
                (content.get(each) or {}).get(name)
                for name in ("model", "max_length", "scale", "dtype")
            ]
            for each in ("before", "after")
        )
        if before == after and before[0]:
            found.append(
                f"{page.file(path)}: before and after are one model, {before[0]}, {_ITSELF}"
            )
    return found


def _other_weights(page: Page) -> list[str]:
    """Checkpoints whose files were measured with unlike weights, as a folder may hold in turn."""
    of_name: dict[str, dict[str, list[int]]] = {}
    for number, (_, content) in enumerate(all_results(page.run), 1):
        if _is_of_one(content) and (weights := _weights(content)):
            of_name.setdefault(content["label"], {}).setdefault(weights, []).append(number)
    return [
        f"{name} is several models: its folder held other weights when these were measured: "
        + " – ".join("".join(f"[{number}]" for number in numbers) for numbers in groups.values())
        for name, groups in of_name.items()
        if len(groups) > 1
    ]


def _is_of_one(content: Results) -> bool:
    return str(content.get("schema")).split("/")[1:2][0] in _OF_ONE


def _name(path: Path, content: Results, others: list[Results], *, seeds: bool) -> str:
    model = _model(content)
    if not content.get("label") and not _is_of_one(content):  # such as a list of key tokens
        return ""
    if not content.get("label"):  # an older LongBench summary
        return Path(model).name if model else path.resolve().parent.name
    label = str(content["label"])
    if seeds or not _is_of_one(content):
        return label
    alike = [each for each in others if each.get("label") == content["label"]]
    if len(_distinct({_model(each) for each in alike} - {None})) > 1 and model:
        label = f"{label} ({model})"
        alike = [each for each in alike if _same_folder(_model(each), model)]
    scales, rules = (dict.fromkeys(each) for each in zip(*map(_served, alike), strict=True))
    scale, rule = _served(content)
    if len(scales.keys() - {None}) > 1 and scale is not None:
        label += f", {_told_mode(scale)}"
    if len(rules.keys() - {None}) > 1 and rule is not None:
        label += f", {rule}"
    return label


def _name_side(content: Results, side: str, models: dict[str, str | None]) -> str:
    """Name a side of a file of short tasks, and write the name into it.

    It is the checkpoint of its model, whatever its label; a checkpoint of its label, but of another
    model, is another. A copy that was made to be served at a window has no name of its own.
    """
    of_side = content.get(side)
    if not isinstance(of_side, dict):  # who reads the file says so
        return "?"
    label, model = str(of_side.get("label")), _model(of_side)
    same = [name for name, other in models.items() if _same_folder(model, other)]
    if label not in same and model and not Path(model).name.startswith(_SERVED):
        if len(same) == 1:
            (label,) = same
        elif models.get(label):
            label = f"{label} ({model})"
    content[side] = {**of_side, "label": label}
    return label


def _told_mode(mode: Any) -> str:
    if isinstance(mode, int | float):
        return told_scale(mode)
    return {"auto": "g by window", "none": told_scale(None)}.get(str(mode), str(mode))


def _model(content: Results) -> str | None:
    """The folder of the evaluated model, as the file has it."""
    found = content.get("model") or (content.get("predictions") or {}).get("model")
    return os.path.normpath(found) if isinstance(found, str) and found else None


def _served(content: Results) -> tuple[Any, Any]:
    """How the model was served: which scale was asked for, and the rule of its frequencies."""
    predictions = content.get("predictions") or {}
    scale = content.get("scale_mode", predictions.get("scale"))
    return scale, content.get("frequencies")


def _weights(content: Results) -> str | None:
    return content.get("weights") or (content.get("predictions") or {}).get("weights")


def _precision(content: Results) -> str | None:
    return content.get("dtype") or (content.get("predictions") or {}).get("dtype")


def _same_folder(one: str | None, other: str | None) -> bool:
    """Whether two paths may name one folder: one of them may be relative to a folder above."""
    if one is None or other is None:
        return False
    short, long = sorted((Path(one).parts, Path(other).parts), key=len)
    return long[-len(short) :] == short and (not Path(*short).is_absolute() or short == long)


def _distinct(models: set[str]) -> list[str]:
    found: list[str] = []
    for model in sorted(models, key=len, reverse=True):
        if not any(_same_folder(model, each) for each in found):
            found.append(model)
    return found


def _trained_by(content: Results) -> dict[str, Any] | None:
    config = (content.get("provenance") or {}).get("model_config") or {}
    block = config.get("e2_llm")
    return block if isinstance(block, dict) else None


def _is_trained(content: Results) -> bool:
    block = _trained_by(content)
    return bool(block) and block.get("method") != "none"


def _place(order: list[str], name: str | None) -> int:
    return order.index(name) if name in order else len(order)
