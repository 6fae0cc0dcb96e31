"""What more devices and nodes brought to the trainings of a run, as tables or as JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import typer

from harness.domain.design import CONFIDENCE
from harness.terminal.text import narrowed, print_table, significant

if TYPE_CHECKING:
    import pandas as pd

_Resource = Literal["devices", "nodes"]
_INTERVAL: Final = f"{100 * CONFIDENCE:g} % interval"
_RESOURCES: Final[tuple[_Resource, ...]] = ("devices", "nodes")


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """The tables of `harness.analyse.scaling` for a run whose trainings were split over several counts."""

    rows: list[dict[str, Any]]  # with ``resource``, ``weak`` and ``batch``: that of a step, or of each of the resource
    virtual: int | None  # cores that the devices were made of at least; None where they were GPUs, or there was one

    def document(self) -> list[dict[str, Any]]:
        """Return the rows as plain JSON."""
        return [{name: _plain(value) for name, value in row.items()} for row in self.rows]

    def print(self) -> None:
        """Print a table for each resource."""
        for resource in dict.fromkeys(row["resource"] for row in self.rows):
            rows = [row for row in self.rows if row["resource"] == resource]
            apart = len({(row["weak"], row["batch"]) for row in rows}) < len({row["group"] for row in rows})
            columns = [("batch", "left"), *([("arm", "left")] if apart else []), (resource, "right")]
            columns += [("samples/s", "right"), ("speed-up", "right"), (_INTERVAL, "right")]
            columns += [("efficiency", "right"), ("serial", "right"), ("Amdahl", "right"), ("trials", "right")]
            arms = [set(str(row["arm"]).split(",")) for row in rows]
            shared = set.intersection(*arms)
            lines = [_line(row, arm=arm - shared if apart else None) for row, arm in zip(rows, arms, strict=True)]
            shown, cells, _ = narrowed(columns, lines, ["trials", _INTERVAL])
            typer.echo("")
            print_table(shown, cells, title=f"scaling over {resource}  (throughput over that of the fewest)")
        if any(not row["weak"] for row in self.rows):
            typer.echo(
                "serial: what of the work does not get quicker, by this row alone (Karp and Flatt); Amdahl: his curve"
            )
        if self.virtual is not None:
            cores = "1 core" if self.virtual == 1 else f"{self.virtual} cores"
            typer.echo(
                f"the devices are virtual ones that share {cores} of a node: more of them compute no faster than these"
            )


def scaling_of(trials: pd.DataFrame, epochs: pd.DataFrame) -> Scaling | None:
    """Return what more devices and nodes brought; None where no training ran on several counts of either."""
    from harness.analyse.frames import floats

    if any(name not in trials.columns for name in (*_RESOURCES, "setting", "batch_size")):
        return None
    rows: list[dict[str, Any]] = []
    for resource in _RESOURCES:
        if trials[resource].nunique() > 1:
            for weak in (False, True):
                rows += _rows(trials, epochs, resource, weak=weak)
    if not rows:
        return None
    split = trials[(floats(trials, "devices") > 1) & (floats(trials, "gpus") == 0)]
    return Scaling(rows=rows, virtual=None if split.empty else math.ceil(float(floats(split, "cpus").min())))


def _rows(trials: pd.DataFrame, epochs: pd.DataFrame, resource: _Resource, *, weak: bool) -> list[dict[str, Any]]:
    from harness.analyse.scaling import scaling

    batches = dict(zip(trials["setting_id"].astype(str), trials["batch_size"], strict=True))
    found = []
    for row in scaling(trials, epochs, resource=resource, weak=weak).to_dict("records"):
        batch = row["batch_each"] if weak else batches[str(row["setting_id"])]
        group = (weak, batch, str(row["setting_id"]), row["arm"])
        found.append(
            {**{str(name): value for name, value in row.items()}, "weak": weak, "batch": batch, "group": group}
        )
    return found


def _line(row: dict[str, Any], *, arm: set[str] | None) -> list[str]:
    """Return a row's cells; `arm`: what of its arm not all rows share, None where that is not to be shown."""
    one = row["resource"].removesuffix("s")
    batch = f"{row['batch']:g} a {one}" if row["weak"] else f"{row['batch']:g} in all"
    low, high = row["low"], row["high"]
    interval = "–" if math.isnan(low) or math.isnan(high) else f"{significant(low)} to {significant(high)}"
    return [
        batch,
        *([] if arm is None else [",".join(sorted(arm))]),
        f"{row['count']:g}",
        f"{row['samples_per_s']:,.0f}",
        f"{row['speedup']:.2f}",
        interval,
        f"{row['efficiency']:.0%}",
        "–" if math.isnan(row["serial_fraction"]) else f"{row['serial_fraction']:.1%}",
        "–" if math.isnan(row["amdahl_speedup"]) else f"{row['amdahl_speedup']:.2f}",
        str(row["n"]),
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "Infinity"
    return list(value) if isinstance(value, tuple) else value
