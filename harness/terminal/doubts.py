"""The warnings that trials carry, for people and for programs: how many of each, on which trials, and what could not
be judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import typer

from harness.domain.component import text
from harness.domain.doubts import DOUBTS
from harness.terminal.text import plural

if TYPE_CHECKING:
    import pandas as pd

_NAMED = 3  # trials that are named for each warning

# The readings that a warning is judged by, as telemetry names them where they are absent.
_READINGS = {
    "throttled": ("gpu_throttle_mask",),
    "contended": ("cpu_percent",),
    "stolen": ("steal_percent",),
    "swapped": ("swap_in_bytes", "swap_out_bytes"),
}
_SOURCES = {"sampler", "host", "processes", "nvidia"}  # of readings, which stand there where they fail as a whole
# Why the others could not be judged: they look at what the worker itself observed.
_UNSEEN = {
    "few_cores": "the worker's cores are not known",
    "clock_drift": "the worker could not compare the clocks",
    "recompiled": "the back end does not tell when it compiles",
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
    sampling: Mapping[str, Mapping[str, Any]]  # of run.json: what could not be read on each node
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
            typer.echo("\n" + "\n".join(lines))

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
        found = Counter(name for one in self.trials for name in one.unjudged)
        by_readings = [name for name in _in_order(found) if name not in _UNSEEN]
        if by_readings:
            of = sum(any(name not in _UNSEEN for name in one.unjudged) for one in self.trials)
            why = "; ".join(self._reasons(by_readings))
            yield f"not judged: {', '.join(by_readings)} of {plural(of, 'trial')}: {why}"
        for name in _in_order(found):
            if name in _UNSEEN:
                yield f"not judged: {name} of {plural(found[name], 'trial')}: {_UNSEEN[name]}"

    def _reasons(self, names: Sequence[str]) -> list[str]:
        """Return why readings for these warnings lack, the commonest reasons, as the run recorded them."""
        notes = [note for note in self.sampling.values() if note]
        if not notes:
            return ["no hardware was read in this run"]
        wanted = {metric for name in names for metric in _READINGS.get(name, ())} | _SOURCES
        reasons = Counter(
            f"{key}: {reason}"
            for note in notes
            for key, reason in note.get("absent", {}).items()
            if key.rpartition("/")[2] in wanted
        )
        told = [reason for reason, _ in reasons.most_common(2)]
        gaps = sum(len(note.get("gaps", ())) for note in notes)
        return told + ([plural(gaps, "gap") + " in the readings"] if gaps else []) or ["no reading fell into them"]

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
    found = zip(trials.to_dict("records"), warnings_of, unjudged_of, judged(trials).tolist(), strict=True)
    return tuple(
        Doubted(
            trial_id=row["trial_id"],
            setting_id=row["setting_id"],
            arm=row["arm"],
            seed=int(row["seed"]),
            status=row["status"],
            label=label_of(row, naming),
            warnings=tuple(warnings) if known else None,
            unjudged=tuple(unjudged),
        )
        for row, warnings, unjudged, known in found
    )


def label_of(row: Mapping[Any, Any], naming: Mapping[str, str]) -> str:
    """Return a recorded trial's place in the grid as text: ``batch_size=32 seed=1``."""
    return " ".join([*(f"{path}={axis(row[column])}" for path, column in naming.items()), f"seed={row['seed']}"])


def axis(value: Any) -> str:
    """Return an axis's value; a setting of another part of the grid does not have it."""
    return "–" if value is None or value != value else text(value)


def _in_order(names: Mapping[str, Any] | Sequence[str]) -> list[str]:
    """Return the names in the order in which they are declared, those of a newer version last."""
    order = list(DOUBTS)
    return sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name))


def _named(labels: Sequence[str]) -> str:
    more = f"; and {len(labels) - _NAMED} more" if len(labels) > _NAMED else ""
    return "; ".join(labels[:_NAMED]) + more
