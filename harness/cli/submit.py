"""``harness submit``: a suite → a job in Slurm's queue that runs it, or the script of that job."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.groups import Asked, Here, spread, words
from harness.cli.options import FreshWorkers, Json
from harness.cli.request import make_request

if TYPE_CHECKING:
    from harness.pipeline.submission import Submission
    from harness.slurm.job import Job


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """What is asked of Slurm: each field is a key of the profile, and takes its place where it is given."""

    nodes: Annotated[int | None, typer.Option("--nodes", min=1, metavar="N", help="So many nodes.")] = None
    time: Annotated[
        str | None, typer.Option("--time", metavar="TIME", help="At most so long at a time: 2:00:00, or 90m.")
    ] = None
    partition: Annotated[str | None, typer.Option("--partition", metavar="NAME", help="Which nodes.")] = None
    account: Annotated[str | None, typer.Option("--account", metavar="NAME", help="Whom to charge.")] = None
    qos: Annotated[str | None, typer.Option("--qos", metavar="NAME", help="Which quality of service.")] = None
    constraint: Annotated[
        str | None, typer.Option("--constraint", metavar="FEATURES", help="Nodes with these features alone.")
    ] = None
    reservation: Annotated[
        str | None, typer.Option("--reservation", metavar="NAME", help="Within this reservation.")
    ] = None
    gpus_per_node: Annotated[
        str | None, typer.Option("--gpus-per-node", metavar="[TYPE:]N", help="So many GPUs of each node.")
    ] = None
    cpus_per_node: Annotated[
        int | None,
        typer.Option("--cpus-per-node", min=1, metavar="N", help="So many CPUs of each node; all if left out."),
    ] = None
    memory_per_node: Annotated[
        str | None, typer.Option("--memory", metavar="SIZE", help="So much memory of each node, e.g. 64G.")
    ] = None
    exclusive: Annotated[
        bool | None,
        typer.Option("--exclusive/--shared", help="Nodes of its own, or beside other jobs.", show_default=False),
    ] = None
    modules: Annotated[
        list[str] | None, typer.Option("--module", metavar="NAME", help="Load this module there, too.")
    ] = None
    environment: Annotated[
        list[str] | None, typer.Option("--env", metavar="NAME=VALUE", help="Set this variable there, too.")
    ] = None
    setup: Annotated[
        list[str] | None, typer.Option("--setup", metavar="LINE", help="Run this line of shell there first, too.")
    ] = None
    container: Annotated[
        str | None, typer.Option("--container", metavar="COMMAND", help="Words before each harness command there.")
    ] = None
    command: Annotated[
        str | None, typer.Option("--command", metavar="PATH", help="The harness on the nodes; as here if left out.")
    ] = None
    warn: Annotated[
        str | None, typer.Option("--warn", metavar="TIME", help="So long before its time is over it saves and ends.")
    ] = None
    requeue: Annotated[
        bool | None,
        typer.Option(
            "--requeue/--no-requeue", help="Go on by itself after a preemption or the time limit.", show_default=False
        ),
    ] = None
    sbatch: Annotated[
        list[str] | None, typer.Option("--sbatch", metavar="OPTION", help="One more option of sbatch, as --nice=10.")
    ] = None

    def given(self) -> dict[str, Any]:
        """Return those that are given."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@spread
def submit(
    suite: Annotated[
        Path | None, typer.Argument(metavar="SUITE", help="The suite's Python file.", show_default=False)
    ] = None,
    *,
    profile: Annotated[
        list[str] | None,
        typer.Option("--profile", metavar="NAME", help="What the site needs: slurm/NAME.toml, or a path to a file."),
    ] = None,
    allocation: Allocation,
    name: Annotated[str | None, typer.Option("--job-name", metavar="NAME", help="The suite's, if left out.")] = None,
    array: Annotated[
        str | None,
        typer.Option("--array", metavar="N[%M]", help="N jobs of a node each with a part of the trials, M at a time."),
    ] = None,
    again: Annotated[
        str | None, typer.Option("--again", metavar="RUN", help="Submit what is unfinished of this run once more.")
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option("--results", metavar="DIR", help="Where runs are written and found; shared by all nodes."),
    ] = None,
    asked: Asked,
    fresh_workers: FreshWorkers = False,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the job to its end, and exit as the run does.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the job's script and do nothing else.")] = False,
    as_json: Json = False,
) -> None:
    """Submit a suite to Slurm: one allocation, a Ray cluster in it, all trials on warm workers.

    The run saves and goes on by itself when the job is preempted or its time is over. `harness status` and `harness
    stop` know it by the run.
    """
    from harness.domain.errors import SuiteError
    from harness.slurm.profile import load_profile, with_overrides

    if profile is not None and len(profile) > 1:
        raise SuiteError(
            f"--profile {' and '.join(profile)}: a job has one profile; jobs over unlike partitions "
            "(heterogeneous jobs) are not supported: submit the suite once for each, and hold the runs against each "
            "other with `harness compare`"
        )
    if (suite is None) == (again is None):
        raise SuiteError(f"name {'either ' if again else ''}a suite, or the run to go on with: --again RUN")
    if name is not None and not name.strip():
        raise SuiteError(f"--job-name {name!r} is no name; left out, it is the suite's")
    given = asked.given() | ({"--fresh-workers": []} if fresh_workers else {})
    if suite is None:
        idle = [option for option in given if option != "--retry"]
        idle += [option for option, value in (("--array", array), ("--job-name", name)) if value is not None]
        if idle:
            raise SuiteError(
                f"{', '.join(idle)}: --again goes on with a run as it was submitted; submit the suite for another run"
            )
        _again(str(again), results=results or Path("results"), retry=asked.retry, changed=allocation.given(),
               profile=profile, wait=wait, dry_run=dry_run, as_json=as_json)  # fmt: skip
        return
    from harness.pipeline import submission

    site = with_overrides(load_profile(profile[0] if profile else None), **allocation.given())
    here = Here(results=results or Path(site.results or "results"))
    request = make_request(suite, asked, here, fresh_workers=fresh_workers)
    made = submission.prepare(request, site, command=_command(site), options=list(words(given)), array=array, name=name)
    _go(made, wait=wait, dry_run=dry_run, as_json=as_json)


def _again(
    run: str,
    *,
    results: Path,
    retry: str,
    changed: dict[str, Any],
    profile: list[str] | None,
    wait: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    from harness.answer.gather import find_run
    from harness.domain.errors import SuiteError
    from harness.pipeline import submission

    if profile:
        raise SuiteError("--profile: a run goes on with the profile that it was submitted with; change single values")
    folder = find_run(run, results)
    made = submission.again(folder, retry=retry, **changed)
    if made is None:
        bad = sorted(status for status in submission.counts(folder) if status != "completed")
        typer.echo(f"{folder.name}: nothing is left to do; `harness show {shlex.quote(str(folder))}` shows it")
        if bad and not retry:
            typer.echo(f"Those that did not complete run once more with --retry {','.join(bad)}")
        return
    _go(made, wait=wait, dry_run=dry_run, as_json=as_json)


def _go(made: Submission, *, wait: bool, dry_run: bool, as_json: bool) -> None:
    """Print the script, or submit it and tell of it, or follow the job to its end."""
    from harness.domain.naming import plural
    from harness.pipeline.submission import submit, why_stuck
    from harness.slurm.jobfile import FOLDER
    from harness.terminal.text import printable

    if dry_run:
        typer.echo(made.job.render(), nl=False)
        return
    job_id, job, folder = submit(made), made.job, made.folder
    if as_json and not wait:
        told = {"job": job_id, "run": job.run_id, "folder": str(folder), "trials": made.trials, "array": job.array}
        typer.echo(json.dumps(told, indent=2))
        return
    what = plural(made.trials, "trial") if made.info else f"what is left of {plural(made.trials, 'trial')}"
    where = f"on {plural(job.profile.nodes, 'node')}" if job.array is None else _in_jobs(job, anew=bool(made.info))
    run = job.run_id if made.results == Path("results") else f"{job.run_id} --results {shlex.quote(str(made.results))}"
    lines = [
        f"submitted job {job_id}: {what} of {job.suite} {where} → {folder}",
        f"  harness status {run}      {folder}/{FOLDER}/{job.log.replace('%a', '*')} has what it says",
    ]
    for line in lines:
        typer.echo(printable(line), err=as_json)
    if wait:
        from harness.terminal.slurm import follow

        raise typer.Exit(follow(folder, as_json=as_json))
    if problem := why_stuck(job_id):
        typer.echo(printable(f"  {problem}; take it back with: harness stop {run}"), err=True)


def _in_jobs(job: Job, *, anew: bool) -> str:
    """Return an array in words."""
    from harness.domain.naming import plural

    numbers, _, most = str(job.array).partition("%")
    jobs = f"in {plural(job.shards or 1, 'job')} of one node" if anew else f"in shards {numbers}"
    return jobs + (f", {most} at a time" if most else "")


def _command(profile: Any) -> list[str]:
    """Return the words that call the harness on a node: behind the container's, this one's own place, or as told."""
    if profile.command is not None:
        return [*profile.container, profile.command]
    if profile.container:
        return [*profile.container, "harness"]
    program = Path(sys.argv[0]).absolute()
    return [sys.executable, "-m", "harness"] if program.name == "__main__.py" else [str(program)]
