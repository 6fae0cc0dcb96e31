"""How well the figures of a run are known: the repeats that were made, and the noise floor, for people and programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from harness.domain.component import text
from harness.domain.repeats import TIMES
from harness.terminal.text import plural, print_lines, print_table

if TYPE_CHECKING:
    from harness.analyse.compare import Comparison
    from harness.analyse.noise import NoiseFloor
    from harness.analyse.repeats import Repeated
    from harness.pipeline import Noise

_SHOWN = 20  # settings; run.json has all
_NO_FLOOR = "No noise floor: too few trials completed; it takes 2 repeats of a setting under each of the names."
_WHY = {
    "narrow": "known well enough",
    "cap": "the most allowed",
    "failing": "given up, its trials end without the figure",
    "unfinished": "the run ended first",
}


def print_repeats(repeats: Sequence[Repeated]) -> None:
    """Print how many repeats each arm got, what they came to, and how many it would have needed."""
    typer.echo("")
    several = len({(one.setting_id, one.arm) for one in repeats}) > len({one.setting_id for one in repeats})
    some_without = any(one.without for one in repeats)
    rows = []
    for one in repeats[:_SHOWN]:
        name = [_place(one.axes, one.setting_id), *([one.arm] if several else [])]
        needed = "" if one.needed is None else f"about {one.needed:,}"
        counts = [str(one.repeats), *([str(one.without)] if some_without else [])]
        rows.append([*name, *counts, _width(one.half_width, one), needed, _WHY[one.ended]])
    columns = [("setting", "left"), *([("arm", "left")] if several else [])]
    columns += [("repeats", "right"), *([("without it", "right")] if some_without else [])]
    columns += [("known to", "right"), ("needed", "right"), ("ended as", "left")]
    first = repeats[0]
    title = f"repeats  (mean {first.figure} to within {_width(first.within, first)}, 98 % confidence)"
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
    return f"±{100 * value:.1f} %" if one.relative else f"±{value:.2g}"


def print_noise(noise: Noise) -> None:
    """Print each setting compared with itself, and what follows for this node."""
    typer.echo("")
    rows = []
    for same, axes in noise.settings[:_SHOWN]:
        found = same.comparison
        spread = "–" if found.spread is None else f"{100 * found.spread:.1f} %"
        needed = "–" if found.needed is None else f"{found.needed:,}"
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
