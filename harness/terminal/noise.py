"""How well the figures of a run are known: the repeats that were made, and the noise floor, for people and programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from harness.domain.component import text
from harness.domain.naming import missing
from harness.domain.repeats import MOST_NEEDED, TIMES
from harness.record.schema import AXIS_COLUMNS
from harness.terminal.text import plural, print_lines, print_table

if TYPE_CHECKING:
    from harness.analyse.compare import Comparison
    from harness.analyse.noise import NoiseFloor
    from harness.analyse.repeats import Repeated
    from harness.pipeline import Noise
    from harness.terminal.doubts import Doubts

_SHOWN = 20  # settings; run.json has all
_NO_FLOOR = "No noise floor: too few trials completed; it takes 2 repeats of a setting under each of the names."
_WHY = {
    "narrow": "known well enough",
    "cap": "the most allowed",
    "failing": "given up, its trials end without the figure",
    "unfinished": "the run ended first",
}


def recorded_repeats(run: Mapping[str, Any]) -> list[Repeated]:
    """Return how it stood with the repeats of each arm when a run ended, from its run.json; none where all were asked
    for."""
    if not run.get("repeats"):
        return []
    from harness.analyse.repeats import Repeated

    return [Repeated(**one) for one in run["repeats"]]


def recorded_noise(folder: Path, run: Mapping[str, Any]) -> Noise | None:
    """Return what a recorded run measured of its nodes' noise: the floors that its run.json holds, and each setting
    compared with itself; None where it was not run for that."""
    if run.get("noise_floor") is None:
        return None
    from harness.analyse.noise import NoiseFloor, same
    from harness.domain.repeats import unlabelled
    from harness.pipeline import Noise
    from harness.record.reading import load

    results = load(folder)
    axes = {path: values for path, values in run.get("axes", {}).items() if path != "label"}
    places = {
        (row["setting_id"], unlabelled(row["arm"])): {
            path: value
            for path, values in axes.items()
            if (value := _declared(row.get(AXIS_COLUMNS.get(path, path)), values)) is not None
        }
        for row in results.trials.to_dict("records")
    }
    return Noise(
        floors=[NoiseFloor.from_plain(floor) for floor in run["noise_floor"].values()],
        settings=[(one, places[one.setting_id, one.arm]) for one in same(results.trials, results.epochs)],
    )


def _declared(cell: Any, values: Sequence[Any]) -> Any:
    """Return the one of an axis's values that a column holds; None where there is none, as for other settings."""
    if missing(cell):
        return None
    as_text = (value for value in values if json.dumps(value, sort_keys=True, ensure_ascii=False) == cell)
    return next((value for value in values if value == cell), next(as_text, None))


def print_found(repeats: Sequence[Repeated], noise: Noise | None, doubts: Doubts | None) -> None:
    """Print what a run found out of its repeats and of its nodes' noise; nothing where it was not to."""
    if (repeats or noise is not None) and doubts is not None and doubts.left_out is not None:
        print_lines(["", "What follows is as the run ended, of all its trials:"])
    if repeats:
        print_repeats(repeats)
    if noise is not None:
        print_noise(noise)
        carrying, of = _doubted(doubts)
        if noise.floors and carrying:
            told = f"{carrying} of its {plural(of, 'trial')} carried warnings"
            print_lines([f"{told}: the floor is that of the node as it was then (`harness show` names them)."])


def found_document(repeats: Sequence[Repeated], noise: Noise | None, doubts: Doubts | None) -> dict[str, Any]:
    """Return the same as plain JSON."""
    found: dict[str, Any] = {"repeats": [one.plain() for one in repeats]}
    if noise is not None:
        carrying, of = _doubted(doubts)
        found["noise"] = document(noise) | {"trials": of, "trials_with_warnings": carrying}
    return found


def _doubted(doubts: Doubts | None) -> tuple[int, int]:
    """Return how many trials carry a warning, and how many there are, those left out among them."""
    if doubts is None:
        return 0, 0
    every = [*doubts.trials, *(doubts.left_out.trials if doubts.left_out is not None else ())]
    return sum(bool(one.warnings) for one in every), len(every)


def print_repeats(repeats: Sequence[Repeated]) -> None:
    """Print how many repeats each arm got, what they came to, and how many it would have needed."""
    typer.echo("")
    several = len({(one.setting_id, one.arm) for one in repeats}) > len({one.setting_id for one in repeats})
    some_without = any(one.without for one in repeats)
    rows = []
    for one in repeats[:_SHOWN]:
        name = [_place(one.axes, one.setting_id), *([one.arm] if several else [])]
        needed = "" if one.needed is None else _needed(one.needed, about="about ")
        counts = [str(one.repeats), *([str(one.without)] if some_without else [])]
        rows.append([*name, *counts, _width(one.half_width, one), needed, _WHY[one.ended]])
    columns = [("setting", "left"), *([("arm", "left")] if several else [])]
    columns += [("repeats", "right"), *([("without it", "right")] if some_without else [])]
    columns += [("known to", "right"), ("needed", "right"), ("ended as", "left")]
    first = repeats[0]
    goal = f"±{100 * first.within:.6g} %" if first.relative else f"±{first.within:.6g}"
    title = f"repeats  (mean {first.figure} to within {goal}, 98 % confidence)"
    print_table(columns, rows, title=title)
    if len(repeats) > _SHOWN:
        typer.echo(f'… and {len(repeats) - _SHOWN} more; run.json has all, under "repeats"')


def say_figureless(repeats: Sequence[Repeated], *, err: bool) -> None:
    """Say that no trial of a run had the figure that its repeats were to go on for."""
    figure = repeats[0].figure
    if figure == "time_to_target":
        told = "No trial reached the target, so no time to it is known: lower the target, or train for more epochs."
    else:
        told = (
            f"No trial has the figure {figure!r}, so that nothing is known of it: see why above, or let repeats go on "
            f"for one of {', '.join(TIMES)}, or for a metric that the trials report: auto(figure=…)."
        )
    typer.echo(f"\n{told}", err=err)


def _width(value: float | None, one: Repeated) -> str:
    if value is None:
        return "–"
    if not one.relative:
        return f"±{value:.2g}"
    percent = 100 * value
    return f"±{percent:.2g} %" if 0 < percent < 0.1 else f"±{percent:.1f} %"


def _needed(count: int, about: str = "") -> str:
    return f"more than {MOST_NEEDED:,}" if count > MOST_NEEDED else f"{about}{count:,}"


def print_noise(noise: Noise) -> None:
    """Print each setting compared with itself, and what follows for this node."""
    typer.echo("")
    rows = []
    for same, axes in noise.settings[:_SHOWN]:
        found = same.comparison
        spread = "–" if found.spread is None else f"{100 * found.spread:.1f} %"
        needed = "–" if found.needed is None else _needed(found.needed)
        count = str(min(found.repeats))
        place = _place(axes, same.setting_id)
        rows.append([place, _ratio(found), _interval(found), count, spread, needed, found.verdict])
    columns = [("setting", "left"), ("B / A", "right"), ("98 % interval", "right"), ("repeats", "right")]
    columns += [("spread", "right"), ("needed", "right"), ("verdict", "left")]
    print_table(columns, rows, title="the same settings under two names  (time of an epoch; spread of one repeat)")
    if len(noise.settings) > _SHOWN:
        typer.echo(f"… and {len(noise.settings) - _SHOWN} more")
    different = sum(same.comparison.different for same, _ in noise.settings)
    typer.echo("")
    print_lines([sentence(floor) for floor in noise.floors] or [_NO_FLOOR])
    if different:
        told = f"{different} of {plural(len(noise.settings), 'setting')} called different from themselves"
        print_lines([f"{told}: 2 in 100 are to be expected; more, and the machine is noisier than repeats even out."])


def sentence(floor: NoiseFloor) -> str:
    """Return what a noise floor means, in one sentence."""
    what = f"equal settings of {plural(floor.repeats, 'repeat')} each differ by up to {_percent(floor.ratio)} by chance"
    single = f"a single trial varies by {100 * floor.spread.single:.1f} %"
    return f"Noise floor of {floor.node}: {what} (98 of 100 times), so less is no difference; {single} (1 σ)."


def document(noise: Noise) -> dict[str, Any]:
    """Return it as plain JSON."""
    return {
        "floors": {floor.node: floor.plain() for floor in noise.floors},
        "settings": [
            {"setting_id": same.setting_id, "arm": same.arm, "axes": dict(axes), **asdict(same.comparison)}
            for same, axes in noise.settings
        ],
    }


def _place(axes: Mapping[str, Any], otherwise: str) -> str:
    return " ".join(f"{path}={text(value)}" for path, value in axes.items()) or otherwise


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):.1f} %"


def _ratio(found: Comparison) -> str:
    return "–" if found.ratio is None else f"{found.ratio:.3f}"


def _interval(found: Comparison) -> str:
    return "–" if found.low is None or found.high is None else f"{found.low:.3f} to {found.high:.3f}"
