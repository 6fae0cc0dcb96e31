"""The nodes of a run against one another, as a table or as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from harness.terminal.text import narrowed, print_table

if TYPE_CHECKING:
    import pandas as pd

    from harness.analyse.fleet import OfNode, OfRun


@dataclass(frozen=True, kw_only=True)
class Nodes:
    """The nodes of a run that had several."""

    of: OfRun

    def document(self) -> dict[str, Any]:
        """Return them as plain JSON."""
        fleet = self.of.fleet
        rows = [
            {**row, "set_aside": self.of.aside.get(row["node"]), "lost": row["node"] in self.of.lost}
            for row in fleet.records()
        ]
        return {"nodes": rows, "settings": fleet.settings, "spread": fleet.spread, "told": self.of.sentences()}

    def print(self) -> None:
        """Print a row a node, the slowest first, and what stands out."""
        troubled = bool(self.of.aside or self.of.lost)
        columns = [("node", "left"), ("trials", "right"), ("epoch time", "right"), ("98 % interval", "right")]
        columns += [("against the median", "left"), ("warned", "right")] + ([("", "left")] if troubled else [])
        lines = [self._line(one, troubled=troubled) for one in self.of.fleet.nodes]
        shown, cells, _ = narrowed(columns, lines, ["98 % interval", "warned"])
        typer.echo("")
        print_table(shown, cells, title="nodes  (epoch time over the median of the nodes, over all settings)")
        for sentence in self.of.sentences():
            typer.echo(sentence)

    def _line(self, one: OfNode, *, troubled: bool) -> list[str]:
        interval = "–" if one.low is None or one.high is None else f"{one.low:.3f} to {one.high:.3f}"
        line = [one.node, f"{one.trials}/{one.trials + one.failed}", "–" if one.ratio is None else f"{one.ratio:.3f}"]
        line += [interval, one.verdict, str(one.warned or "")]
        state = "set aside" if one.node in self.of.aside else "lost" if one.node in self.of.lost else ""
        return line + ([state] if troubled else [])


def nodes_of(run: Mapping[str, Any], trials: pd.DataFrame, epochs: pd.DataFrame) -> Nodes | None:
    """Return the nodes of a run against one another; None where there is nothing to compare. `run` is its run.json."""
    from harness.analyse.fleet import of_run

    found = of_run(run, trials, epochs)
    return None if found is None else Nodes(of=found)
