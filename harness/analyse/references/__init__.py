"""Published values beside measured ones: which were reproduced, which were missed and by how much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd

from harness.analyse.references.conclusions import alike, direction
from harness.analyse.references.judged import Judged as Judged
from harness.analyse.references.judged import Verdict as Verdict
from harness.analyse.references.recorded import Recorded
from harness.analyse.references.recorded import plain_settings as plain_settings
from harness.analyse.references.values import beside
from harness.domain.applied import Applied, check_paths, holds, joined
from harness.domain.errors import SuiteError
from harness.domain.expression import Expression
from harness.domain.paths import read
from harness.domain.reference import Alike, AnyReference, Direction, Reference


def judge(
    references: Sequence[Applied],
    trials: pd.DataFrame,
    epochs: pd.DataFrame,
    nodes: pd.DataFrame,
    *,
    axes: Mapping[str, str] | None = None,
    target: Mapping[str, Any] | None = None,
    unfinished: bool = False,
) -> list[Judged]:
    """Return the references with their verdicts, in order, given the tables of one run.

    `axes` are the columns of `trials` that hold the axes' values, by path; `target` (``metric`` with ``at_least`` or
    ``at_most``) is what times to the target are measured to; `unfinished` says that some of the run's trials are not
    recorded yet.
    """
    concerned = trials["setting_id"].isin([one for each in references for group in each.groups for one in group])
    trials = trials[concerned]
    epochs = epochs[epochs["trial_id"].isin(trials["trial_id"])]
    recorded = Recorded(trials, epochs, nodes, axes or {}, target, unfinished)
    found: list[Judged] = []
    for one in references:
        if isinstance(one.reference, Direction):
            found.append(direction(one.reference, one.groups, recorded))
        elif isinstance(one.reference, Alike):
            found += alike(one.reference, one.groups, recorded)
        else:
            found += beside(one.reference, one.groups, recorded)
    return found


def find(references: Sequence[AnyReference], trials: pd.DataFrame) -> list[Applied]:
    """Return references with the settings among those of `trials` that they hold for.

    Raises:
        SuiteError: for a path that none of the settings has.
    """
    settings, seeds, ids = plain_settings(trials), trials["seed"].tolist(), trials["setting_id"].tolist()
    reads = [partial(read, plain) for plain in settings]
    found = []
    for reference in references:
        groups: list[tuple[str, ...]] = []
        for where in reference.conditions:
            condition = Expression(where)
            kind = type(reference).__name__.lower()
            try:
                check_paths(condition, reads, settings[0])
                met = [row for row, one in enumerate(reads) if holds(condition, one, seeds[row])]
            except SuiteError as error:
                raise SuiteError(f"{kind} {reference.name!r}: {error}") from None
            if isinstance(reference, Direction):
                groups.append(tuple(dict.fromkeys(ids[row] for row in met)))
            else:
                over = reference.over if isinstance(reference, Reference) else ()
                groups += joined(over, [(settings[row], ids[row]) for row in met])
        found.append(Applied(reference=reference, groups=tuple(groups)))
    return found
