"""The warnings that trials carry, for people and for programs: how many of each, on which trials, and what could not
be judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from harness.domain.doubts import DOUBTS
from harness.domain.naming import place_and_seed
from harness.terminal.text import plural, printable

if TYPE_CHECKING:
    import pandas as pd

_NAMED = 3  # trials that are named for each warning
_REASONS = 6  # that are shown
_UNREAD = "no such reading fell into them"

# The readings that a warning is judged by, as telemetry names them, and of which devices.
_READINGS = {
    "throttled": (("gpu", "gpu_throttle_mask"),),
    "contended": (("core", "cpu_percent"), ("harness", "user_cpu_s")),
    "stolen": (("core", "steal_percent"),),
    "swapped": (("host", "swap_in_bytes"), ("host", "swap_out_bytes")),
}
_SOURCES = {"host", "processes", "nvidia"}  # of readings, which stand there where they fail as a whole
_PARTLY = "less than half of their time was read, of shorter ones less than half of the second around them"
# Why the others could not be judged: they look at what the worker itself observed.
_UNSEEN = {
    "few_cores": "the worker's cores are not known",
    "clock_drift": "the worker could not compare the clocks",
    "recompiled": "its back end does not tell when it compiles, as torch, or tells it to workers alone (--inline)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubted:
    """One trial with its warnings."""

    trial_id: str
    setting_id: str
    arm: str
    seed: int
    status: str
    label: str  # its place in the grid, for people
    warnings: tuple[str, ...] | None  # None: not judged
    unjudged: tuple[str, ...]  # warnings that could not be judged

    def record(self) -> dict[str, Any]:
        """Return the trial as plain JSON."""
        return {
            "trial_id": self.trial_id,
            "setting_id": self.setting_id,
            "arm": self.arm,
            "seed": self.seed,
            "status": self.status,
            "warnings": None if self.warnings is None else list(self.warnings),
            "unjudged": list(self.unjudged),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """What --discard left out."""

    names: tuple[str, ...]
    trials: tuple[Doubted, ...]
    of: int  # trials that there were
    unjudged: int  # that were kept although one of the warnings could not be judged
    settings: int  # settings that have no trial left

    def record(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {
            "warnings": list(self.names),
            "trials": [one.record() for one in self.trials],
            "of": self.of,
            "unjudged_and_kept": self.unjudged,
            "settings_without_trials": self.settings,
        }


@dataclass(frozen=True, kw_only=True)
class Doubts:
    """The warnings of the trials that a table is made of."""

    trials: tuple[Doubted, ...]
    unread: Mapping[tuple[str, str], Mapping[str, str]]  # why readings lack, by trial (id, arm) and warning
    left_out: LeftOut | None = None

    def counts(self, setting_id: str, arm: str) -> dict[str, int]:
        """Return how many trials of a setting carry each warning, in the order of `DOUBTS`."""
        found = self._counted.get((setting_id, arm), Counter())
        return {name: found[name] for name in _in_order(found)}

    def cell(self, setting_id: str, arm: str) -> str:
        """Return the same for a table: ``2 contended, 1 noisy``."""
        return ", ".join(f"{count} {name}" for name, count in self.counts(setting_id, arm).items())

    @property
    def any(self) -> bool:
        """Whether a trial carries a warning."""
        return bool(self._counted)

    @cached_property
    def _counted(self) -> dict[tuple[str, str], Counter[str]]:
        """How many trials carry each warning, by setting and arm."""
        found: dict[tuple[str, str], Counter[str]] = {}
        for one in self.trials:
            if one.warnings:
                found.setdefault((one.setting_id, one.arm), Counter()).update(one.warnings)
        return found

    def print(self) -> None:
        """Print a line for each warning, what could not be judged, and what was left out; nothing when all is well."""
        lines = [*self._warnings(), *self._unjudged(), *self._discarded()]
        if lines:
            typer.echo("\n" + "\n".join(map(printable, lines)))

    def _warnings(self) -> Iterator[str]:
        carrying: dict[str, list[str]] = {}
        for one in self.trials:
            for name in one.warnings or ():
                carrying.setdefault(name, []).append(one.label)
        for name in _in_order(carrying):
            labels = carrying[name]
            meaning = DOUBTS[name].meaning if name in DOUBTS else "a warning of a newer version"
            yield f"{len(labels)} × {name}: {meaning} ({_named(labels)})"

    def _unjudged(self) -> Iterator[str]:
        unknown = [one for one in self.trials if one.warnings is None]
        if unknown:
            yield f"not judged: any warning of {plural(len(unknown), 'trial')}: recorded before there were warnings"
        alike: Counter[tuple[tuple[str, ...], str]] = Counter()
        for one in self.trials:
            why = self.unread.get((one.trial_id, one.arm), {})
            by_reason: dict[str, list[str]] = {}
            for name in _in_order(one.unjudged):
                if name not in _UNSEEN:
                    by_reason.setdefault(why.get(name, _UNREAD), []).append(name)
            alike.update((tuple(names), reason) for reason, names in by_reason.items())
        for (names, reason), count in alike.most_common(_REASONS):
            yield f"not judged: {', '.join(names)} of {plural(count, 'trial')}: {reason}"
        if len(alike) > _REASONS:
            yield f"… and {len(alike) - _REASONS} more reasons; the column `unjudged` of trials has them all"
        for name, count in Counter(name for one in self.trials for name in one.unjudged if name in _UNSEEN).items():
            yield f"not judged: {name} of {plural(count, 'trial')}: {_UNSEEN[name]}"

    def _discarded(self) -> Iterator[str]:
        left = self.left_out
        if left is None:
            return
        names = ", ".join(left.names)
        if left.trials:
            whom = _named([one.label for one in left.trials])
            told = f"left out: {len(left.trials)} of {plural(left.of, 'trial')} for {names} ({whom})"
        else:
            told = f"left out: none of {plural(left.of, 'trial')}: no one carries {names}"
        if left.settings:
            told += f"; {plural(left.settings, 'setting')} without a trial left"
        if left.unjudged:
            told += f"; kept although it could not be judged: {plural(left.unjudged, 'trial')}"
        yield told


def doubted(trials: pd.DataFrame, naming: Mapping[str, str]) -> tuple[Doubted, ...]:
    """Return the trials with their warnings; `naming` is the axes that tell them apart, with their columns."""
    from harness.analyse.discard import judged, listed

    warnings_of, unjudged_of = (listed(trials, name) for name in ("warnings", "unjudged"))
    columns = list(dict.fromkeys(["trial_id", "setting_id", "arm", "seed", "status", *naming.values()]))
    found = zip(trials[columns].to_dict("records"), warnings_of, unjudged_of, judged(trials).tolist(), strict=True)
    return tuple(
        Doubted(
            trial_id=row["trial_id"],
            setting_id=row["setting_id"],
            arm=row["arm"],
            seed=int(row["seed"]),
            status=row["status"],
            label=place_and_seed(row, naming),
            warnings=tuple(warnings) if known else None,
            unjudged=tuple(unjudged),
        )
        for row, warnings, unjudged, known in found
    )


def unread(folder: Path, run: Mapping[str, Any], trials: pd.DataFrame) -> dict[tuple[str, str], dict[str, str]]:
    """Return why the readings for warnings lack, by trial (id, arm) and warning; only where any do, is telemetry read.

    What was read on the trial's devices meanwhile decides; of what was not, run.json holds the reasons, those of the
    run's last attempt on each node.
    """
    from harness.analyse.discard import listed

    lacking = [[name for name in names if name in _READINGS] for names in listed(trials, "unjudged")]
    if not any(lacking):
        return {}
    times = _times(folder)
    sampling = run.get("sampling") or {}
    devices = zip(listed(trials, "cores"), listed(trials, "gpu_uuids"), strict=True)
    found: dict[tuple[str, str], dict[str, str]] = {}
    rows = trials[["trial_id", "arm", "node", "started_at", "ended_at"]].to_dict("records")
    for row, names, (cores, gpus) in zip(rows, lacking, devices, strict=True):
        if names:
            of = {
                "core": [f"cpu{core}" for core in cores],
                "gpu": [f"gpu:{uuid}" for uuid in gpus],
                "harness": ["harness"],
                "host": ["host"],
            }
            here = times.get(str(row["node"]), {})
            notes = sampling.get(row["node"]) or {}
            span = _around(row["started_at"], row["ended_at"])
            found[row["trial_id"], row["arm"]] = {name: _why(name, of, here, notes, span) for name in names}
    return found


def _times(folder: Path) -> dict[str, dict[tuple[str, str], Any]]:
    """Return when readings that warnings are judged by were taken, ascending: by node, device and metric."""
    from harness.record.reading import load

    wanted = {metric for series in _READINGS.values() for _, metric in series}
    table = load(folder, columns={"telemetry": ["node", "time", "device", "metric"]}).telemetry
    table = table[table["metric"].isin(wanted)]
    found: dict[str, dict[tuple[str, str], Any]] = {}
    for (node, device, metric), of_one in table.groupby(["node", "device", "metric"], observed=True):
        found.setdefault(str(node), {})[str(device), str(metric)] = of_one["time"].sort_values(ignore_index=True)
    return found


def _around(started_at: Any, ended_at: Any) -> tuple[Any, Any] | None:
    """Return the time whose readings count for a trial; None where it is not known when it ran."""
    import pandas as pd

    from harness.telemetry.join import LEAST_SPAN_S

    if pd.isna(started_at) or pd.isna(ended_at):
        return None
    more = max(pd.Timedelta(0), pd.Timedelta(seconds=LEAST_SPAN_S) - (ended_at - started_at)) / 2
    return started_at - more, ended_at + more


def _why(
    name: str,
    of: Mapping[str, Sequence[str]],
    times: Mapping[tuple[str, str], Any],
    notes: Mapping[str, Any],
    span: Any,
) -> str:
    """Return why a warning could not be judged on a trial, of whose node these are the readings and the notes."""
    if span is None:
        return "it is not known when they ran"

    def was_read(key: tuple[str, str]) -> bool:
        first, last = (times[key].searchsorted(instant) for instant in span)
        return bool(last > first)

    wanted = [(device, metric) for kind, metric in _READINGS[name] for device in of[kind]]
    missing = [key for key in wanted if key not in times or not was_read(key)]
    if wanted and not missing:
        return _PARTLY
    absent = notes.get("absent", {})
    if not any(map(was_read, times)):
        if "sampler" in absent:
            return f"sampler: {absent['sampler']}"
        if not times and not notes:
            return "no hardware was read in this run"
    names = {f"{device}/{metric}": metric for device, metric in missing} | {metric: metric for _, metric in missing}
    told = [f"{names.get(key, key)}: {reason}" for key, reason in absent.items() if key in names or key in _SOURCES]
    if told:
        return "; ".join(list(dict.fromkeys(told))[:2])
    return "a gap in the readings" if _in_gap(notes.get("gaps", ()), span) else _UNREAD


def _in_gap(gaps: Sequence[Mapping[str, Any]], span: tuple[Any, Any]) -> bool:
    began, ended = (instant.timestamp() for instant in span)
    return any(gap["started_at"] < ended and (gap["ended_at"] is None or gap["ended_at"] > began) for gap in gaps)


def _in_order(names: Mapping[str, Any] | Sequence[str]) -> list[str]:
    """Return the names in the order in which they are declared, those of a newer version last."""
    order = list(DOUBTS)
    return sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name))


def _named(labels: Sequence[str]) -> str:
    more = f"; and {len(labels) - _NAMED} more" if len(labels) > _NAMED else ""
    return "; ".join(labels[:_NAMED]) + more
