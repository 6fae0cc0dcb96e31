"""The nodes of a run against one another, as a table or as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from harness.terminal.text import narrowed, print_table

if TYPE_CHECKING:
    import pandas as pd

    from harness.analyse.fleet import Fleet, OfNode


@dataclass(frozen=True, kw_only=True)
class Nodes:
    """The nodes of a run that had several."""

    fleet: Fleet
    aside: Mapping[str, str]  # why a node was set aside
    lost: frozenset[str]  # nodes that were lost in its course

    def document(self) -> dict[str, Any]:
        """Return them as plain JSON."""
        rows = [
            {**row, "set_aside": self.aside.get(row["node"]), "lost": row["node"] in self.lost}
            for row in self.fleet.records()
        ]
        return {"nodes": rows, "settings": self.fleet.settings, "spread": self.fleet.spread, "told": self._told()}

    def print(self) -> None:
        """Print a row a node, the slowest first, and what stands out."""
        troubled = bool(self.aside or self.lost)
        columns = [("node", "left"), ("trials", "right"), ("epoch time", "right"), ("98 % interval", "right")]
        columns += [("against the median", "left"), ("warned", "right")] + ([("", "left")] if troubled else [])
        lines = [self._line(one, troubled=troubled) for one in self.fleet.nodes]
        shown, cells, _ = narrowed(columns, lines, ["98 % interval", "warned"])
        typer.echo("")
        print_table(shown, cells, title="nodes  (epoch time over the median of the nodes, over all settings)")
        for sentence in self._told():
            typer.echo(sentence)

    def _line(self, one: OfNode, *, troubled: bool) -> list[str]:
        interval = "–" if one.low is None or one.high is None else f"{one.low:.3f} to {one.high:.3f}"
        line = [one.node, f"{one.trials}/{one.trials + one.failed}", "–" if one.ratio is None else f"{one.ratio:.3f}"]
        line += [interval, one.verdict, str(one.warned or "")]
        state = "set aside" if one.node in self.aside else "lost" if one.node in self.lost else ""
        return line + ([state] if troubled else [])

    def _told(self) -> list[str]:
        return [*self.fleet.sentences(), *(f"{node} was set aside: {why}" for node, why in self.aside.items())]


def nodes_of(run: Mapping[str, Any], trials: pd.DataFrame, epochs: pd.DataFrame) -> Nodes | None:
    """Return the nodes of a run against one another; None where it had one alone. `run` is its run.json."""
    aside = {str(one["node"]): str(one.get("why") or "") for one in run.get("set_aside") or ()}
    lost = frozenset(str(one["node"]) for one in run.get("lost_nodes") or ())
    meant = (name for names in (run.get("every_node") or {}).values() for name in names)
    known = list(dict.fromkeys([*map(str, meant), *aside, *sorted(lost)]))
    if len({*known, *trials["node"].dropna().map(str)}) < 2:
        return None
    from harness.analyse.fleet import fleet

    return Nodes(fleet=fleet(trials, epochs, known=known), aside=aside, lost=lost)
