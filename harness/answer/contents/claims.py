"""What was published, beside what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from harness.answer import published
from harness.answer.tables import Tables

if TYPE_CHECKING:
    from harness.analyse.references import Judged
    from harness.report.content import Figure


def judged_references(tables: Tables) -> list[Judged]:
    """Return the references that were recorded with the runs, with their verdicts."""
    from harness.analyse.frames import owners
    from harness.analyse.references import judge

    gathered, found = tables.recorded, []
    for folder, run in zip(gathered.results.folders, gathered.runs, strict=True):
        known = published.recorded_with(folder, run)
        if not known:
            continue
        trials = gathered.trials[gathered.trials["run_id"] == run.get("run_id")]
        epochs = gathered.epochs[owners(trials, gathered.epochs) >= 0]
        every = int((gathered.results.trials["run_id"] == run.get("run_id")).sum())
        found += judge(
            known, trials, epochs, gathered.results.nodes, axes=gathered.naming, target=run.get("target"),
            unfinished=every < int(run.get("trials") or 0),
        )  # fmt: skip
    return found


def published_figure(judged: Sequence[Judged]) -> Iterator[Figure]:
    from harness.report.content import Figure, Grid

    if not judged:
        return
    lines = [published.line(row) for row in judged]
    names = [name for name in lines[0] if name != "arm" or len({line["arm"] for line in lines}) > 1]
    yield Figure(
        id="published",
        title="Published beside measured",
        text="What was measured is the median of the repeats ± their standard deviation.",
        grid=Grid(
            headings=tuple(names),
            rows=tuple(tuple(line[name] for name in names) for line in lines),
            numeric=frozenset({"published", "measured", "repeats"}),
        ),
        notes=tuple(published.sources(judged)),
    )
