"""The nodes of one run against one another: which ones are slow, set aside or lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from harness.answer.charts import Sheet
from harness.answer.tables import Tables
from harness.domain.duration import significant
from harness.domain.naming import plural

if TYPE_CHECKING:
    from harness.analyse.fleet import OfNode, OfRun
    from harness.report.content import Figure

_NODES: Final = 100


def fleet_of(tables: Tables, sheet: Sheet) -> Iterator[Figure]:
    """Yield a chart and a table of the nodes of a single run, the slowest first; nothing where it had one node."""
    import pandas as pd

    from harness.analyse.fleet import of_run
    from harness.report.content import Figure, Grid

    gathered = tables.gathered
    nodes = of_run(gathered.runs[0], gathered.trials, gathered.epochs) if len(gathered.runs) == 1 else None
    if nodes is None:
        return
    found = nodes.fleet
    rows = tuple(_row(one, nodes) for one in found.nodes[:_NODES])
    left = len(found.nodes) - len(rows)
    told = nodes.sentences()
    told += [f"{node} was lost in the course of the run: {why}" for node, why in nodes.lost.items()]
    yield Figure(
        id="nodes",
        title="Nodes side by side",
        text=(
            "Each node's epoch time over the median of the nodes, in "
            f"{plural(found.settings, 'setting')} that at least two of them ran, with its 98 % interval."
        ),
        specs={"": sheet.strip(pd.DataFrame(found.records()))} if found.settings else {},
        by_setting=False,
        grid=Grid(
            headings=("node", "trials", "epoch time, ratio", "by setting", "against the median", "warned", "state"),
            rows=rows,
            numeric=frozenset({"trials", "epoch time, ratio", "by setting", "warned"}),
        ),
        notes=(*told, *([f"{plural(left, 'more node')} not listed here."] if left else [])),
    )


def _row(one: OfNode, nodes: OfRun) -> tuple[str, ...]:
    state = "set aside" if one.node in nodes.aside else "lost" if one.node in nodes.lost else "–"
    return (
        one.node, f"{one.trials}/{one.trials + one.failed}", _ratio(one.ratio) + _span(one.low, one.high),
        "–" if one.least == one.most else f"{_ratio(one.least)} to {_ratio(one.most)}", one.verdict,
        str(one.warned or "–"), state,
    )  # fmt: skip


def _ratio(value: float | None) -> str:
    return "–" if value is None else significant(value)


def _span(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" ({significant(low)} to {significant(high)})"
