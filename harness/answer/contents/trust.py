"""What speaks for and against the figures: warnings, drift, noise floors, failures, what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.answer.contents.origin import instant
from harness.answer.tables import Tables
from harness.domain.doubts import DOUBTS
from harness.domain.errors import HarnessError
from harness.domain.naming import commonest, place_and_seed
from harness.record import runs

if TYPE_CHECKING:
    from harness.analyse.compare import Spread
    from harness.report.content import Failure, Warned


def doubts_by_setting(tables: Tables) -> list[str]:
    """Return for each setting how many of its trials carry each warning, as "2 contended, 1 noisy": most first."""
    from harness.analyse.discard import listed

    trials = tables.gathered.trials
    counts: dict[tuple[Any, ...], Counter[str]] = {}
    identities = trials[list(tables.by)].astype(object).itertuples(index=False, name=None)
    for identity, names in zip(identities, listed(trials, "warnings"), strict=True):
        counts.setdefault(identity, Counter()).update(names)
    told = []
    for identity in tables.settings[list(tables.by)].astype(object).itertuples(index=False, name=None):
        found = counts.get(identity, Counter())
        told.append(", ".join(f"{found[name]}\u00a0{name}" for name, _ in commonest(found)))
    return told


def warned(tables: Tables) -> Iterator[Warned]:
    from harness.analyse.discard import listed
    from harness.report.content import Warned

    trials = tables.gathered.trials
    carrying: dict[str, list[str]] = {}
    lists = listed(trials, "warnings")
    concerned = trials[[bool(names) for names in lists]]
    for row, names in zip(concerned.to_dict("records"), filter(None, lists), strict=True):
        for name in names:
            carrying.setdefault(name, []).append(place_and_seed(row, tables.gathered.naming))
    for name, count in commonest({name: len(labels) for name, labels in carrying.items()}):
        doubt = DOUBTS.get(name)
        yield Warned(
            name=name,
            count=count,
            meaning=doubt.meaning.replace("`", "") if doubt is not None else "a warning of a newer version",
            remedy=doubt.remedy.replace("`", "") if doubt is not None else "",
            trials=tuple(carrying[name]),
        )


def unjudged(tables: Tables) -> Iterator[str]:
    from harness.analyse.discard import judged, listed

    trials = tables.gathered.trials
    unknown = int((~judged(trials)).sum())
    if unknown:
        yield f"Not judged: {unknown:,} trials, recorded before there were warnings."
    counts: Counter[str] = Counter(name for names in listed(trials, "unjudged") for name in names)
    if counts:
        told = ", ".join(f"{name} (on {count:,})" for name, count in commonest(counts))
        yield f"Could not be judged, since what they go by was not read or not seen: {told}."


def discarded(tables: Tables) -> str:
    left = tables.gathered.discarded
    if left is None:
        return ""
    kept = f" {left.unjudged:,} were kept although it could not be judged." if left.unjudged else ""
    return f"Left out of everything: {len(left.trials):,} of {left.of:,} trials, for {', '.join(left.names)}.{kept}"


def trust(tables: Tables, floors: Mapping[str, Mapping[str, Any] | None]) -> Iterator[str]:
    from harness.analyse.drift import drift

    found = drift(tables.gathered.trials, tables.gathered.epochs)
    if found is None:
        yield "No setting was repeated, so that drift over the run cannot be told from the settings' own differences."
    else:
        yield found.conclusion
    for node, floor in floors.items():
        if floor is None:
            yield f"The noise floor of node {node} is not known; harness aa SUITE measures it."
        else:
            yield (
                f"Noise floor of node {node}: equal things, repeated {floor['repeats']} times, came out up to "
                f"{100 * (floor['ratio'] - 1):.1f} % apart by chance ({floor['figure']}, measured "
                f"{instant(str(floor['date']))})."
            )


def noise_floors(tables: Tables, results: Path) -> dict[str, Mapping[str, Any] | None]:
    """Return the newest noise floor of each node that trials ran on, as run.json holds it; None: not measured."""
    from harness.domain.noise_floor import newest_floor

    gathered = tables.gathered
    known = list(gathered.runs)
    try:
        known += [runs.read_run_file(folder) for folder in runs.find_runs(results)] if results.is_dir() else []
    except HarnessError:  # a run that cannot be read is no reason to go without a report on another
        known = list(gathered.runs)
    used = set(gathered.trials["node"].dropna())
    nodes = gathered.results.nodes.drop_duplicates("node")
    return {
        row["node"]: newest_floor(known, {str(name): value for name, value in row.items()})
        for row in nodes.to_dict("records")
        if row["node"] in used
    }


def spread(floors: Mapping[str, Mapping[str, Any] | None]) -> Spread | None:
    """Return the spread of times on the only node; of several none holds for all."""
    from harness.analyse.noise import NoiseFloor

    found = list(floors.values())
    return NoiseFloor.from_plain(found[0]).spread if len(found) == 1 and found[0] is not None else None


def failures(tables: Tables) -> Iterator[Failure]:
    from harness.report.content import Failure

    trials = tables.gathered.trials
    alike: dict[tuple[str, str], list[str]] = {}
    for row in trials[trials["status"] != "completed"].to_dict("records"):
        reason = row["error"] if isinstance(row["error"], str) else "no reason is recorded"
        alike.setdefault((row["status"], reason), []).append(place_and_seed(row, tables.gathered.naming))
    for (status, reason), names in sorted(alike.items(), key=lambda item: -len(item[1])):
        yield Failure(status=status, reason=reason, count=len(names), trials=tuple(names))
