"""All that a report shows, as plain values: `page` turns it into one HTML file and knows nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

Value = float | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """A column of the table of settings."""

    text: str
    numeric: bool = True
    help: str = ""  # shown while the mouse rests on it


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What stands in a column, what the column is sorted by (None: always last), and what explains it."""

    text: str
    sort: Value = None
    help: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A setting, in one way of executing it and on one kind of hardware where there are several."""

    key: str  # unique on the page, of letters, digits, "-", "_" and "."
    label: str
    whole: str = ""  # the label in full, where it had to be shortened
    axes: tuple[str, ...]  # its value of each of `Content.axes`, as text
    cells: tuple[Cell, ...]  # of each of `Content.headings`


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """What rows can be chosen by: a name and its values in order, as text."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """A choice above a figure, such as what its horizontal axis shows: the values with their names for people.

    It chooses between specifications, or between rows, where `field` names the column that then has to have the value.
    """

    name: str
    title: str
    choices: tuple[tuple[str, str], ...]
    field: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A small table of text; columns named in `numeric` are set flush right."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A section of the page: a chart, a small table, or both.

    `specs` is one Vega-Lite specification for each combination of the values of those controls that have no field,
    joined by spaces ("" where there is none). They name their data, whose rows are in `Content.datasets`; rows with a
    ``key`` are drawn only for the settings that are chosen on the page.
    """

    id: str
    title: str
    text: str = ""
    specs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    controls: tuple[Control, ...] = ()
    by_setting: bool = True  # whether its rows are chosen by the settings that the page shows
    most: int = 25  # settings that are drawn, by rank
    grid: Grid | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """A warning that trials carry, and which."""

    name: str
    count: int
    meaning: str
    remedy: str
    trials: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Trials that did not complete for one and the same reason."""

    status: str
    reason: str
    count: int
    trials: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One run: what was asked for, how, and with what."""

    title: str
    facts: tuple[tuple[str, str], ...]
    command: str
    suite_path: str
    suite_text: str


@dataclass(frozen=True, kw_only=True)
class Content:
    """A report. Figures stand in the order given; what is empty is left out of the page."""

    title: str
    question: str
    answer: str
    answer_details: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()  # what a reader must know first, as that a run still goes on
    facts: tuple[tuple[str, str], ...] = ()  # a few numbers about the whole: name, value
    headings: tuple[Heading, ...]
    rows: tuple[Row, ...]  # in order of rank
    axes: tuple[Axis, ...] = ()
    ranked_by: str = ""
    figures: tuple[Figure, ...] = ()
    datasets: Mapping[str, pd.DataFrame] = field(default_factory=dict)  # by name
    warnings: tuple[Warned, ...] = ()
    unjudged: tuple[str, ...] = ()  # sentences: what could not be judged, and why
    discarded: str = ""
    trust: tuple[str, ...] = ()  # sentences: drift, the noise floor
    failures: tuple[Failure, ...] = ()
    nodes: Grid | None = None
    packages: Grid | None = None
    sources: tuple[Source, ...] = ()
    meanings: tuple[tuple[str, str], ...] = ()  # term, definition
    made: str = ""  # when, and by what
