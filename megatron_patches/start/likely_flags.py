# SPDX-License-Identifier: Apache-2.0
"""Which flags an exception of Megatron is about, read from the source lines that it came through.

Of every frame of Megatron in a traceback the names are collected that its failing expression
depends on: what it reads, what was assigned to that in the same function or in the constructor of
its object, the conditions under which all that happened, and from there on what the caller passed.
The innermost frame in which one of these names is a flag of the command line says which.
"""

import argparse
import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Sequence
from types import FrameType, TracebackType

_ASSIGNMENTS = (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.NamedExpr)
_CONDITIONS = (ast.If, ast.While, ast.IfExp)
_REFUSALS = (ast.Raise, ast.Assert)
_PLACE = ("lineno", "end_lineno", "col_offset", "end_col_offset")
_MOST = 4  # flags that are named


class Flags:
    """The flags of a command line.

    Args:
        parser: knows all flags.
        argv: words of the command line.
    """

    def __init__(self, parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
        self.names = {
            action.dest: next(option for option in action.option_strings if option[:2] == "--")
            for action in reversed(parser._actions)
            if any(option.startswith("--") for option in action.option_strings)
        }
        self.typed: dict[str, str] = {}  # destination -> the words of the command line
        words: list[str] = []
        dests = {
            option: action.dest for action in parser._actions for option in action.option_strings
        }
        for word in argv:
            words = [word] if word.startswith("--") else [*words, word]
            if words and (dest := dests.get(words[0].partition("=")[0])):
                self.typed[dest] = " ".join(words)

    def of(self, names: set[str]) -> list[str]:
        """The typed flags among ``names``, as typed; odd values first."""
        found = [dest for dest in self.typed if dest in names]
        found.sort(key=lambda dest: (not _is_odd(self.typed[dest]), dest))
        return [self.typed[dest] for dest in found[:_MOST]]

    def like(self, names: set[str]) -> list[str]:
        """The typed flags that one of ``names`` is the beginning of."""
        return [
            words
            for dest, words in self.typed.items()
            if any("_" in name and dest.startswith(name) for name in names)
        ][:_MOST]

    def with_value_in(self, message: str) -> list[str]:
        """The typed flag with a negative value that a message shows, if it is the only one."""
        numbers = [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", message)]
        shown = [
            words
            for words in self.typed.values()
            if (value := _value(words)) is not None and value < 0 and value in numbers
        ]
        return shown if len(shown) == 1 else []

    def in_message(self, message: str) -> list[str]:
        """The flags that a message calls by name, typed or not; a name of one word is a word."""
        words = {word.strip("-").replace("-", "_") for word in re.findall(r"[\w-]+", message)}
        dests = [dest for dest in self.names if dest in words and "_" in dest]
        return [self.typed.get(dest, self.names[dest]) for dest in sorted(dests)[:_MOST]]


def likely_flags(flags: Flags, message: str, trace: TracebackType, inside: str) -> list[str]:
    """The flags, as typed, that an exception is likely about; the innermost frame decides.

    Args:
        flags: of the command line.
        message: of the exception.
        trace: its traceback.
        inside: only frames of files below this folder are read.
    """
    named = flags.in_message(message) or flags.with_value_in(message)
    if named:
        return named
    passed: list[str] = []
    met: list[set[str]] = []
    functions = [_Function(step) for step in _innermost_first(trace) if _is_within(step, inside)]
    for function in functions:
        names = function.reads(passed, innermost=function is functions[0])
        found = flags.of(names)
        if found:
            return found
        met.append(names)
        code = function.frame.f_code
        parameters = code.co_varnames[: code.co_argcount]
        passed = [name if name in names else "" for name in parameters if name != "self"]
    # Nothing was passed: under which conditions were they called?
    conditions = [function.conditions() for function in functions]
    found = next(filter(None, map(flags.of, conditions)), [])
    return found or next(filter(None, map(flags.like, met + conditions)), [])


def read_directly(flags: Flags, trace: TracebackType, inside: str) -> list[str]:
    """The flags that the innermost statement of Megatron itself reads; of a refusal, its cause."""
    for step in _innermost_first(trace):
        if _is_within(step, inside):
            function = _Function(step)
            names = _names(*function.failing())
            return flags.of(names | function.conditions() if refuses(trace) else names)
    return []


def refuses(trace: TracebackType) -> bool:
    """Whether the innermost statement raises or asserts, so that the exception is meant."""
    return isinstance(_Function(next(_innermost_first(trace))).statement(), _REFUSALS)


def _innermost_first(trace: TracebackType | None) -> Iterator[TracebackType]:
    frames = []
    while trace is not None:
        frames.append(trace)
        trace = trace.tb_next
    yield from reversed(frames)


def _is_within(step: TracebackType, folder: str) -> bool:
    return step.tb_frame.f_code.co_filename.startswith(folder)


def _value(words: str) -> float | None:
    """The number that a flag was given."""
    _, _, value = words.replace("=", " ", 1).partition(" ")
    try:
        return float(value)
    except ValueError:
        return None


def _is_odd(words: str) -> bool:
    """Whether a typed value is zero or negative."""
    value = _value(words)
    return value is not None and value <= 0


class _Function:
    """The source of the function of a frame."""

    def __init__(self, step: TracebackType) -> None:
        self.frame: FrameType = step.tb_frame
        code = self.frame.f_code
        try:
            lines, first = inspect.getsourcelines(code)
            self.tree: ast.AST = ast.parse(textwrap.dedent("".join(lines)))
        except (OSError, SyntaxError):
            lines, first, self.tree = [], 1, ast.Module([], [])
        self.line = step.tb_lineno - max(first, 1) + 1
        # Where exactly the failing expression stands: its lines and, of UTF-8, its columns.
        margin = len(lines[0]) - len(lines[0].lstrip()) if lines else 0
        place = list(code.co_positions())[step.tb_lasti // 2] if step.tb_lasti >= 0 else (None,) * 4
        begin, end, left, right = (number or 0 for number in place)
        above = max(first, 1) - 1
        self.place = (begin - above, end - above, left - margin, right - margin)
        self.parents = {
            child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)
        }

    def statement(self) -> ast.stmt | None:
        """The innermost statement of the failing line."""
        found = [
            node
            for node in ast.walk(self.tree)
            if isinstance(node, ast.stmt) and node.lineno <= self.line <= (node.end_lineno or 0)
        ]
        return max(found, key=lambda node: node.lineno, default=None)

    def failing(self) -> list[ast.AST]:
        """What failed: an expression, or the whole of a refusal, or the head of a statement."""
        statement = self.statement()
        if statement is None or isinstance(statement, _REFUSALS):
            return [] if statement is None else [statement]
        for node in ast.walk(statement):
            place = [getattr(node, name, None) for name in _PLACE]
            if tuple(place) == self.place and not isinstance(node, ast.stmt):
                return [node]
        match statement:
            case ast.If(test=head) | ast.While(test=head) | ast.For(iter=head):
                return [head]
            case ast.With(items=items):
                return list(items)
            case ast.FunctionDef():
                return []
        return [statement]

    def reads(self, passed: Sequence[str], innermost: bool) -> set[str]:
        """All names that the failing expression depends on.

        Args:
            passed: the callee's parameters, empty where they do not matter there.
            innermost: the whole expression matters, not only what it passes.
        """
        failing = self.failing()
        seeds = _names(*failing) if innermost else _passed(failing, passed)
        return self._closure(seeds) | (self._around(*failing) if innermost else set())

    def conditions(self) -> set[str]:
        """The names in the conditions around what failed, and what they depend on."""
        return self._closure(self._around(*self.failing()))

    def _closure(self, names: set[str]) -> set[str]:
        """``names``, and the names that their values come from."""
        assignments = [*_assignments(self.tree), *self._of_the_object()]
        known: set[str] = set()
        while names - known:
            known |= names
            names = set(known)
            for targets, value, node in assignments:
                if targets & known:
                    names |= _names(value) | self._around(node)
        return known

    def _around(self, *nodes: ast.AST) -> set[str]:
        names: set[str] = set()
        for node in nodes:
            while node in self.parents:
                node = self.parents[node]
                if isinstance(node, _CONDITIONS):
                    names |= _names(node.test)
        return names

    def _of_the_object(self) -> list[tuple[set[str], ast.AST, ast.AST]]:
        """The assignments of the constructors of the object whose method this is."""
        instance = self.frame.f_locals.get("self")
        if instance is None or self.frame.f_code.co_name == "__init__":
            return []
        found = []
        for kind in type(instance).__mro__:
            if not kind.__module__.startswith("megatron.") or "__init__" not in vars(kind):
                continue
            try:
                source = inspect.getsource(vars(kind)["__init__"])
            except (OSError, TypeError):
                continue
            found += _assignments(ast.parse(textwrap.dedent(source)))
        return found


def _assignments(tree: ast.AST) -> list[tuple[set[str], ast.AST, ast.AST]]:
    """Every assignment: the names that are set, the value, the node."""
    found: list[tuple[set[str], ast.AST, ast.AST]] = []
    for node in ast.walk(tree):
        if isinstance(node, _ASSIGNMENTS) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found.append((set().union(*map(_set_names, targets)), node.value, node))
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            found.append((_set_names(node.optional_vars), node.context_expr, node))
        elif isinstance(node, ast.For):
            found.append((_set_names(node.target), node.iter, node))
    return found


def _set_names(target: ast.AST) -> set[str]:
    """The names that an assignment sets: of ``a.b`` b, of ``a[b]`` a, of a tuple all."""
    if isinstance(target, ast.Tuple | ast.List):
        return set().union(*map(_set_names, target.elts))
    if isinstance(target, ast.Subscript | ast.Starred):
        return _set_names(target.value)
    if isinstance(target, ast.Attribute):
        return {target.attr}
    return {target.id} if isinstance(target, ast.Name) else set()


def _names(*nodes: ast.AST) -> set[str]:
    """Variables, attributes, and texts as in ``getattr(args, "name")``."""
    names = set()
    for node in (child for root in nodes for child in ast.walk(root)):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name):
                names.add(name)
            case ast.Constant(value=str(text)) if text.isidentifier():
                names.add(text)
    return names - {"self", "args", "config"}


def _passed(nodes: list[ast.AST], parameters: Sequence[str]) -> set[str]:
    """The names in what a call passes as ``parameters``, by keyword or by place; of ``**`` all."""
    names: set[str] = set()
    for call in (node for root in nodes for node in ast.walk(root)):
        if not isinstance(call, ast.Call):
            continue
        for keyword in call.keywords:
            if keyword.arg is None or keyword.arg in parameters:
                names |= _names(keyword.value)
        for argument, parameter in zip(call.args, parameters, strict=False):
            if parameter:
                names |= _names(argument)
    return names
