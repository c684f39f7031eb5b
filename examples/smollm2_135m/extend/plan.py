# SPDX-License-Identifier: Apache-2.0
"""What the experiment consists of: arms that are trained, columns that are compared, cells."""

from collections.abc import Iterator
from dataclasses import dataclass

from e2_common.errors import UserError

# Arm -> what its training adds to the common arguments.
ARMS = {
    "best": ["--position-method", "e2", "--e2-recipe", "best"],
    "paper": ["--position-method", "e2", "--e2-recipe", "paper"],
    "control": ["--position-method", "none"],
}
BASE = "base"  # the model before any training
ASKED_ONCE = ("perplexity", "multikey")  # all of their questions by one command


@dataclass(frozen=True)
class Column:
    """A model and how it is served.

    Attributes:
        name: of its files.
        label: of its row or column in tables.
        model: an arm, or :data:`BASE`.
        serving: arguments of the evaluations beyond L.
    """

    name: str
    label: str
    model: str
    serving: tuple[str, ...] = ()


AS_IT_IS = ("--scale", "none")
COLUMNS = (
    Column("base", "as it is", BASE, AS_IT_IS),
    Column("linear", "untuned, linear", BASE, ("--frequencies", "linear")),
    Column("yarn", "untuned, YaRN", BASE, ("--frequencies", "yarn")),
    Column("control", "tuned without E2", "control", AS_IT_IS),
    Column("control_yarn", "tuned without E2, YaRN", "control", ("--frequencies", "yarn")),
    Column("paper", "E2, recipe paper", "paper"),
    Column("best", "E2, recipe best", "best"),
)


@dataclass(frozen=True)
class Cell:
    """A model asked one thing at one window: the smallest piece that is skipped or run.

    Attributes:
        test: ``perplexity``, a haystack of the needle, ``noise`` or ``book``, or ``multikey``.
        window: in tokens.
        column: whose model and serving it takes.
        trial: of the needle, its seed.
    """

    test: str
    window: int
    column: Column
    trial: int = 0

    @property
    def name(self) -> str:
        """Of its result file, without the ending; a perplexity's lacks the number of books."""
        trial = "" if self.test in ASKED_ONCE else f"-{self.trial}"
        return f"{self.test}-{self.column.name}-{self.window}{trial}"


def columns_of(names: str, arms: list[str]) -> list[Column]:
    """Return the columns of ``--columns`` whose models are there.

    Args:
        names: as one word; nothing means all.
        arms: that are trained.

    Raises:
        UserError: there is no such column, or its arm is not trained.
    """
    there = {column.name: column for column in COLUMNS if column.model in {BASE, *arms}}
    for name in names.split():
        if name not in there:
            raise UserError(f"--columns {name}: choose from {' '.join(there)} (of these --arms)")
    return [
        column for column in there.values() if not names.split() or column.name in names.split()
    ]


def arms_of(names: str) -> list[str]:
    """Return the arms of ``--arms``, in that order.

    Raises:
        UserError: there is no such arm.
    """
    for name in names.split():
        if name not in ARMS:
            raise UserError(f"--arms {name}: choose from {' '.join(ARMS)}")
    return list(dict.fromkeys(names.split()))


def served_as(column: Column, window: int, base_window: int) -> Column:
    """Return the column whose cell a column takes at a window.

    Up to L a model that was not trained by E2 is served at g = 1 by every rule, which leaves it as
    it is: it is asked once.
    """
    if window > base_window or column.model not in (BASE, "control"):
        return column
    return next(each for each in COLUMNS if each.model == column.model)


def cells(
    columns: list[Column], windows: list[int], tests: list[str], trials: int, base_window: int
) -> Iterator[Cell]:
    """Yield the cells in the order in which they are run: window by window, as given.

    Args:
        columns: to compare.
        windows: in tokens.
        tests: ``perplexity`` and haystacks.
        trials: questions of the needle at every depth.
        base_window: L, in tokens.
    """
    for window in windows:
        served = dict.fromkeys(served_as(column, window, base_window) for column in columns)
        for test in tests:
            for trial in range(1 if test in ASKED_ONCE else trials):
                yield from (Cell(test, window, column, trial) for column in served)


@dataclass(frozen=True)
class Speed:
    """First estimates in seconds of a process, corrected by what steps take.

    Attributes:
        forward: A and B of A W + B W^2, a forward pass of W tokens.
        token: C and D of C + D W, a new token behind W others.
        start: until a command has loaded its model.
        tokens_a_second: of training.
    """

    forward: tuple[float, float]
    token: tuple[float, float]
    start: float
    tokens_a_second: float

    def seconds_of(self, cell: Cell, books: int, questions: int) -> float:
        """Estimate the seconds of a cell."""
        window = cell.window
        forward = self.forward[0] * window + self.forward[1] * window**2
        if cell.test == "perplexity":
            return self.start + books * forward
        return self.start + questions * (
            forward + ANSWER * (self.token[0] + self.token[1] * window)
        )


ANSWER = 128  # tokens
SPEEDS = {
    # A pilot on two calm cores of an AMD EPYC with AVX512-BF16. A busy machine needed more
    # processor time: 1.4-fold for a pass of 16k.
    "cpu": Speed((2.0e-3, 4.0e-7), (0.05, 6.0e-6), 20.0, 200.0),
    # An H100 that three trainings or twelve evaluations share; answers by arithmetic.
    "cuda": Speed((4.0e-5, 8.0e-10), (0.03, 2.0e-7), 5.0, 25_000.0),
}
