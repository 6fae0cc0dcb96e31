"""A plan as a table on standard output, or as JSON for programs."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import typer

from harness.domain.component import text
from harness.domain.repeats import Auto
from harness.domain.suite import LoadedSuite
from harness.plan import Plan
from harness.terminal.text import label, plural, print_table

_FIRST: Final = 20  # trials, or exclusions, that are shown


def print_plan(loaded: LoadedSuite, made: Plan, *, everything: bool) -> None:
    """Print axes, counts, the first trials and what was excluded."""
    seeds = len({trial.seed for trial in made.trials})
    trials, settings = plural(len(made.trials), "trial"), plural(made.settings, "setting")
    auto = made.suite.repeats if isinstance(made.suite.repeats, Auto) else None
    most, each = "", plural(seeds, "seed")
    if auto is not None:  # --where may leave fewer than it allows
        left = max(Counter((trial.setting_id, trial.arm) for trial in made.trials).values())
        most, each = "up to ", f"{auto.at_least} to {left} repeats each"
    where = ", on every node that can hold it" if made.suite.every_node else ""  # known once it runs
    typer.echo(f"{made.suite.name}: {most}{trials} of {settings}, {each}{where} ({loaded.path})")
    if made.suite.description:
        typer.echo(made.suite.description.splitlines()[0])
    if made.target is not None:
        typer.echo(f"target: {made.target}")
    if made.suite.references:
        typer.echo(f"references: {len(made.suite.references)}")
    for path, values in made.axes.items():
        shown = ", ".join(text(value) for value in values[:12])
        more = f", … ({len(values)} values)" if len(values) > 12 else ""
        typer.echo(f"axis    {path} = {shown}{more}")
    typer.echo("")
    shown_trials = made.trials if everything else made.trials[:_FIRST]
    rows = [[trial.trial_id, trial.setting_id, trial.arm, label(trial)] for trial in shown_trials]
    print_table([("trial", "left"), ("setting", "left"), ("arm", "left"), ("", "left")], rows)
    if len(shown_trials) < len(made.trials):
        typer.echo(f"… and {len(made.trials) - len(shown_trials)} more; --all lists them")
    if made.excluded:
        typer.echo(f"\nexcluded: {len(made.excluded)}")
        for one in made.excluded if everything else made.excluded[:_FIRST]:
            point = " ".join(f"{path}={text(value)}" for path, value in one.point.items())
            typer.echo(f"  {point}: {one.reason}")
        if not everything and len(made.excluded) > _FIRST:
            typer.echo(f"  … and {len(made.excluded) - _FIRST} more; --all lists them")


def plan_document(loaded: LoadedSuite, made: Plan) -> dict[str, Any]:
    """Return a plan as plain JSON."""
    return {
        "suite": made.suite.name,
        "path": loaded.path,
        "sha256": made.sha256,
        "settings": made.settings,
        "target": None if made.target is None else made.target.plain(),
        "repeats": made.suite.repeats.plain() if isinstance(made.suite.repeats, Auto) else None,
        "every_node": made.suite.every_node,
        "references": [reference.plain() for reference in made.suite.references],
        "axes": {path: list(values) for path, values in made.axes.items()},
        "trials": [
            {
                "trial_id": trial.trial_id,
                "setting_id": trial.setting_id,
                "arm": trial.arm,
                "seed": trial.seed,
                "axes": dict(trial.axes),
            }
            for trial in made.trials
        ],
        "excluded": [{"point": dict(one.point), "reason": one.reason} for one in made.excluded],
    }
