"""How far runs are: all of a results folder in a table, or one in detail while it goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from harness.record import live, owner, runs
from harness.record.live import Live, TrialNow
from harness.record.runs import RunStatus
from harness.slurm import jobfile
from harness.terminal import jobs
from harness.terminal.jobs import Queued
from harness.terminal.text import about, plural, print_table, printable, significant, speed, tally

_NAMED = 5  # nodes of a kind
_OVER = ("completed", "failed")  # of which Slurm is not asked


def status(results: Path, *, as_json: bool) -> None:
    """List the runs in a results folder, oldest first."""
    found = runs.list_runs(results)
    queued = jobs.ask([one.folder for one in found if one.submitted_at is not None and one.state not in _OVER])
    if as_json:
        typer.echo(json.dumps([_row(one, queued.get(one.folder)) for one in found], indent=2))
        return
    if not found:
        typer.echo(f"{results}: no run is recorded here yet")
        return
    found = [_with_slurm(one, queued.get(one.folder)) for one in found]
    with_slurm = any(one.submitted_at is not None for one in found)
    lines = []
    for one in found:
        began = "" if one.started_at is None else f"{one.started_at.astimezone():%Y-%m-%d %H:%M:%S}"
        said = jobs.cell(queued[one.folder]) if one.folder in queued else ""
        lines.append([one.suite, one.run_id, one.state, *([said] if with_slurm else []), _progress(one), began])
    headings = ("suite", "run", "state", *(["slurm"] if with_slurm else []), "trials", "started")
    print_table([(heading, "left") for heading in headings], lines)
    hints = [f"{one.run_id}: {one.hint}" for one in found if one.hint]
    hints = [f"slurm ?: {why}" for why in dict.fromkeys(one.why for one in queued.values() if one.why)] + hints
    if hints:
        typer.echo("\n" + "\n".join(map(printable, hints)))


def _with_slurm(one: RunStatus, queued: Queued | None) -> RunStatus:
    """Return how a run stands by its records and by Slurm together."""
    if queued is None:
        return one
    state = jobs.state_of(one.folder, one.state, queued)
    hint = jobs.hint_of(one, state, queued, lambda: runs.resume_command(runs.read_run_file(one.folder)))
    return replace(one, state=state, hint=hint)


def _row(one: RunStatus, queued: Queued | None = None) -> dict[str, Any]:
    by_slurm = _with_slurm(one, queued)
    slurm = None if queued is None else jobs.document(one.folder, by_slurm.state, queued)
    return {
        "suite": one.suite,
        "run": one.run_id,
        "folder": str(one.folder),
        "state": one.state,
        "counts": one.counts,
        "planned": one.planned,
        "started_at": None if one.started_at is None else one.started_at.isoformat(),
        "ended_at": None if one.ended_at is None else one.ended_at.isoformat(),
        "owner": one.owner,
        "hint": by_slurm.hint,
        "slurm": slurm,
    }


def _progress(one: RunStatus) -> str:
    done = sum(one.counts.values())
    bad = done - one.counts.get("completed", 0)
    return f"{done}/{'?' if one.planned is None else one.planned}" + (f", {bad} not completed" if bad else "")


def status_of(folder: Path, *, as_json: bool) -> None:
    """Show one run: what it does at this moment, or how it ended.

    Raises:
        ResultsError: when its run.json cannot be read.
    """
    (one,) = runs.list_runs(folder)
    content = runs.read_run(folder)
    queued = jobs.ask([folder])[folder] if jobfile.submitted(folder) else None
    holder, seen = owner.read(folder), live.read(folder)
    if not runs.is_live(content) or (seen is not None and holder is not None and seen.attempt != holder.attempt):
        seen = None  # of an earlier attempt
    stale = seen is not None and is_stale(seen, holder)
    if as_json:
        told = {"live": None if seen is None else seen.document(), "stale": stale if seen is not None else None}
        troubles = {name: _troubles(content, name) for name in ("lost_nodes", "set_aside")}
        typer.echo(json.dumps(_row(one, queued) | {"stopped": content.get("stopped")} | told | troubles, indent=2))
        return
    one = _with_slurm(one, queued)
    waits = one.state == jobs.PENDING
    coming = ": Slurm has started it" if queued is not None and queued.started else ": Slurm starts it again"
    holds = coming if waits else f", {one.owner}" if one.owner is not None else ""
    typer.echo(printable(f"{one.suite}  {one.run_id}: {one.state}{holds}"))
    if queued is not None:
        _print_slurm(folder, queued)
    if seen is None or waits:
        print_state(folder, queued)
        return
    if stale or one.state == "dead":
        dead = "" if one.state == "dead" else ": its driver hangs, or is gone with its host"
        typer.echo(f"Nothing was heard of it for {about(seen.age_s())}{dead}. What it did then:")
    _print_live(seen, age_s=seen.age_s())
    typer.echo("\n" + printable(f"Files:  {folder}/"))
    if one.hint:
        typer.echo(printable(f"Go on:  {one.hint.removeprefix('go on with: ')}"))


def _print_slurm(folder: Path, queued: Queued) -> None:
    """Print what Slurm says of a run; of one in shards, which of them have something left."""
    for line in jobs.lines(folder, queued):
        typer.echo(printable(line))
    if queued.tasks is None:
        return
    rows, more = jobs.shard_rows(folder, queued)
    if rows:
        typer.echo("")
        print_table([("shard", "right"), ("state", "left"), ("trials", "left"), ("slurm", "left")], rows)
    if more:
        typer.echo(f"… and {plural(more, 'more shard')} that have not completed")


def is_stale(seen: Live, holder: owner.Owner | None) -> bool:
    """Tell whether what is known of a run that has not ended is out of date: its driver is gone, or seems so.

    A driver on this host that lives may be busy: it is believed, other than one whose host cannot be asked.
    """
    alive = None if holder is None else holder.alive()
    return holder is None or alive is False or (alive is None and seen.age_s() > live.STALE_S)


_DOING = {
    "starting": "its workers start",
    "checking": "its workers check what the suite declares",
    "running": "running",
    "finishing": "finishing the trials that run, and no more",
    "ending": "ending",
}

_NODE_COLUMNS = [
    ("node", "left"), ("state", "left"), ("busy", "right"), ("done", "right"), ("not completed", "right"),
    ("speed", "right"), ("why", "left"),
]  # fmt: skip


def _print_live(seen: Live, *, age_s: float) -> None:
    told = ", ".join(f"{count} {state}" for state, count in sorted(seen.counts.items()) if count)
    rate = f", {significant(seen.trials_per_min)} trials/min" if seen.trials_per_min is not None else ""
    goes_on = seen.doing == "running" and seen.done < seen.total
    left_s = max(0.0, seen.left_s - age_s) if seen.left_s is not None and goes_on else None
    left = f", about {about(left_s)} left" if left_s is not None else ""
    typer.echo(f"{_DOING.get(seen.doing, printable(seen.doing))}, as of {about(age_s)} ago")
    typer.echo(f"{seen.done}/{seen.total} trials{f' ({printable(told)})' if told else ''}, ", nl=False)
    typer.echo(f"{seen.busy} of {plural(seen.workers, 'worker')} busy{rate}{left}")
    if len(seen.nodes) > 1 or any(node.why for node in seen.nodes):
        typer.echo("")
        rows = [
            [
                *(one.node, one.state, f"{one.busy}/{one.workers}", str(one.done), str(one.bad or "")),
                *(speed(one.epoch_s, one.trials_per_min), one.why or ""),
            ]
            for one in seen.nodes
        ]
        print_table(_NODE_COLUMNS, rows)
        if seen.nodes_more:
            typer.echo(f"… and {plural(seen.nodes_more, 'more node')}")
    if seen.running:
        typer.echo("")
        several, now = len(seen.nodes) > 1, time.time()
        rows = [
            [*((one.node,) if several else ()), one.worker, one.label, _far(one), about(max(0.0, now - one.since))]
            for one in seen.running
        ]
        headings = (*(("node",) if several else ()), "worker", "runs", "epochs", "for")
        print_table([(heading, "left") for heading in headings], rows)
        if seen.running_more:
            typer.echo(f"… and {plural(seen.running_more, 'more trial')}")
        if any(one.silent_since is not None for one in seen.running):
            typer.echo(
                "Silent: for far longer than any trial took, it may hang; a `timeout` in the suite ends such trials"
            )


def _far(trial: TrialNow) -> str:
    told = f"{trial.epochs}/{trial.of_epochs}"
    if trial.val_accuracy is not None:
        told += f", val_accuracy {trial.val_accuracy:.4f}"
    elif trial.val_loss is not None:
        told += f", val_loss {trial.val_loss:.4g}"
    silent = trial.silent_since
    return told if silent is None else f"{told}, silent for {about(max(0.0, time.time() - silent))}"


def print_state(folder: Path, queued: Queued | None = None) -> None:
    """Print how far a run is, where its files are, and how to go on with it if there is something left to do.

    `queued` is what Slurm says of it.
    """
    (run,) = runs.list_runs(folder)
    run = _with_slurm(run, queued)
    told = tally(run.counts)
    left = 0 if run.planned is None else run.planned - sum(run.counts.values())
    ended = "" if run.state == "completed" else f" ({run.state})"
    typer.echo("\n" + printable(f"Trials: {told}{f', {left} left' if left else ''}{ended}"))
    if run.state == "running":
        typer.echo("These are partial results: the run goes on.")
    if run.state != "unreadable":
        content = runs.read_run(folder)
        if content.get("wrong"):
            typer.echo(printable(f"It could not begin: {content['wrong']}"))
        print_troubles(content)
    typer.echo(printable(f"Files:  {folder}/"))
    if run.hint:
        typer.echo(printable(f"Go on:  {run.hint.removeprefix('go on with: ')}"))


def print_troubles(run: Mapping[str, Any]) -> None:
    """Print which nodes a run, given its run.json, has lost or set aside, and why."""
    for name, what in (("lost_nodes", "Lost"), ("set_aside", "Set aside")):
        reasons = {str(one.get("node")): str(one.get("why")) for one in _troubles(run, name)}
        if reasons:
            named = "; ".join(f"{node} ({why})" for node, why in list(reasons.items())[:_NAMED])
            more = f"; and {len(reasons) - _NAMED} more" if len(reasons) > _NAMED else ""
            typer.echo(printable(f"{what}: {plural(len(reasons), 'node')}: {named}{more}"))


def _troubles(run: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    found = run.get(name)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
