"""What a person should know of two sides besides their figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from harness.domain.naming import commonest, plural

if TYPE_CHECKING:
    from harness.analyse.matched import Match
    from harness.answer.sides import Side

_SHOWN: Final = 4  # values in a note


def notes(sides: tuple[Side, Side], matches: Sequence[Match]) -> Iterator[str]:
    """Yield what else a person should know: what differs between the sides, and which of their trials do not count."""
    mixture = matches[0].mixture
    for name, how in mixture.allowed.items():
        yield f"mixed, as allowed: {name}: {how}"
    for name, values in _differing(sides).items():
        yield f"{name} differs: {values}"
    for side, strays in zip(sides, mixture.strays, strict=True):
        every = f"{plural(len(side.trials), 'trial')} of {side.name}"
        if strays:
            told = f"{strays} of {every}"
            yield f"neighbours: {told} ran alone although most did not, or the other way round"
        ended = Counter(side.trials["status"].tolist())
        del ended["completed"]
        if ended:
            told = ", ".join(f"{count} {status}" for status, count in sorted(ended.items()))
            yield f"{sum(ended.values())} of {every} did not complete ({told})"
        going = [run for run in side.runs.values() if run.get("state") not in ("completed", "failed")]
        if going:
            told = ", ".join(f"{run['run_id']} is {run.get('state')}" for run in going[:_SHOWN])
            yield f"not all of {side.name} was run: {told}"
        left = side.gathered.discarded
        if left is not None:
            kept = f"; {left.unjudged} were kept although it could not be judged" if left.unjudged else ""
            told = f"{len(left.trials)} of {plural(left.of, 'trial')}"
            yield f"left out of {side.name}: {told} for {', '.join(left.names)}{kept}"
    if not set(sides[0].runs) & set(sides[1].runs):
        yield from _apart(sides)
    yield from _warnings(sides)
    for found in matches:
        yield from _without_figure(found)


def _differing(sides: tuple[Side, Side]) -> dict[str, str]:
    """Return what the sides were measured with and on, where that is not the same."""
    seen = {
        "harness": [{str(run.get("harness_version", "unknown")) for run in side.runs.values()} for side in sides],
        "versions": [set(side.trials["versions"].dropna()) for side in sides],
        "hardware": [set(side.trials["hardware"].dropna()) for side in sides],
        "node": [set(side.trials["node"].dropna()) for side in sides],
    }
    found = {}
    for name, (first, second) in seen.items():
        if first and second and (first != second or (name != "node" and len(first) > 1)):
            told = [" and ".join(sorted(one)[:_SHOWN]) + (" …" if len(one) > _SHOWN else "") for one in (first, second)]
            found[name] = f"{told[0]} in A, {told[1]} in B"
    return found


def _apart(sides: tuple[Side, Side]) -> Iterator[str]:
    """Yield what it means that the sides were not measured in one run."""
    if min(len(side.runs) for side in sides) > 1:
        yield "several runs a side: of times and rates a run is one repeat, its mean"
        return
    yield (
        "A and B are different runs: what the machine did otherwise between them (clock rate, heat, other tenants) "
        "counts as a difference too, and no repeat within a run shows it; several runs of each, in turn, do"
    )


def _warnings(sides: tuple[Side, Side]) -> Iterator[str]:
    from harness.analyse.discard import listed

    told = []
    for side in sides:
        lists = listed(side.trials, "warnings")
        counts = Counter(name for names in lists for name in set(names))
        kinds = ", ".join(f"{count} {name}" for name, count in commonest(counts))
        told.append(
            f"{sum(map(bool, lists))} of {plural(len(lists), 'trial')} of {side.name}{f' ({kinds})' if kinds else ''}"
        )
        if not counts:
            told[-1] = f"none of {side.name}"
    if any(not one.startswith("none") for one in told):
        yield f"warnings: on {told[0]}, {told[1]}; --discard NAME leaves them out"


def _without_figure(found: Match) -> Iterator[str]:
    for at, name in enumerate("AB"):
        rows = [row for row in found.rows if row.verdict != "the same trials"]
        lacking = sum(
            row.trials[at] - (row.measured[at] if row.reached is None else row.reached[at][1]) for row in rows
        )
        if lacking:
            every = plural(sum(row.trials[at] for row in rows), "trial")
            yield f"{lacking} of {every} of {name} have no {found.figure}"
        missed = sum(row.reached[at][1] - row.reached[at][0] for row in rows if row.reached is not None)
        if missed:
            yield (
                f"{plural(missed, 'trial')} of {name} missed the target: ratios are of those that reached it, "
                "and the shares are compared too"
            )
