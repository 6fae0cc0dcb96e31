"""``harness run`` and ``harness aa``: a suite → its trials measured and recorded, and what came of it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from harness.cli.executor import make_executor, on_resident
from harness.cli.groups import Asked, Here, spread
from harness.cli.options import (
    Check,
    ExpectNodes,
    ExpectWithin,
    FreshWorkers,
    Json,
    NodesLog,
    Shard,
    SuiteFile,
)
from harness.cli.request import make_request, seconds_of
from harness.cli.stdout import only_json_on_stdout

if TYPE_CHECKING:
    from harness.pipeline import Request
    from harness.schedule.expected import Expected

_BEGAN = time.monotonic()
_WITHIN: Final = "5m"


@spread
def run(
    suite: SuiteFile,
    *,
    asked: Asked,
    fresh_workers: FreshWorkers = False,
    here: Here,
    shard: Shard = None,
    expect_nodes: ExpectNodes = None,
    expect_within: ExpectWithin = _WITHIN,
    nodes_log: NodesLog = None,
    check: Check = False,
    as_json: Json = False,
) -> None:
    """Run a suite: every trial of its grid, measured and recorded."""
    request = make_request(suite, asked, here, fresh_workers=fresh_workers, shard=shard)
    _go(request, asked, here, check=check, as_json=as_json, expected=_expected(expect_nodes, expect_within, nodes_log))


@spread
def aa(
    suite: SuiteFile,
    *,
    repeats: Annotated[int, typer.Option("--repeats", metavar="N", help="Of each setting and name, 2 or more.")] = 10,
    asked: Asked,
    here: Here,
    as_json: Json = False,
) -> None:
    """Measure the noise floor: how much this node makes equal things differ.

    Runs every setting of a suite under two names, A and B, in the same blocks, and compares them. The noise floor is
    kept in the run's run.json, for comparisons on this node.
    """
    from harness import pipeline

    _go(pipeline.against_itself(make_request(suite, asked, here), repeats), asked, here, check=False, as_json=as_json)


def _go(
    request: Request, asked: Asked, here: Here, *, check: bool, as_json: bool, expected: Expected | None = None
) -> None:
    """Run what was asked for, tell what came of it, and end this process with the exit code."""
    from harness import pipeline
    from harness.domain.errors import SuiteError
    from harness.schedule.notice import Notice
    from harness.terminal.live import make_display

    fresh_workers = request.policy.fresh_workers
    if here.inline and (here.address or asked.workers or fresh_workers):
        raise SuiteError("--inline runs in this process alone: leave --address, --workers and --fresh-workers away")
    if asked.skip_bad_nodes and not here.address:
        raise SuiteError("--skip-bad-nodes goes with --address")
    if expected and not here.address:
        raise SuiteError("--expect-nodes goes with --address")
    resident = not here.no_resident and on_resident(
        inline=here.inline,
        address=here.address,
        workers=asked.workers,
        fresh_workers=fresh_workers,
        say=lambda line: typer.echo(line, err=as_json),
    )
    display = make_display(quiet_stdout=as_json)
    try:
        with only_json_on_stdout(as_json):
            report = pipeline.run(
                request,
                make_executor=lambda trials, seed: make_executor(
                    trials,
                    seed,
                    inline=here.inline,
                    address=here.address,
                    workers=asked.workers,
                    hz=asked.telemetry,
                    resident=resident,
                    skip_bad_nodes=asked.skip_bad_nodes,
                    expected=expected,
                    say=lambda text: display.notice(Notice(what="cluster", worker="", text=text)),
                ),
                display=display,
                began=_BEGAN,
            )
    except KeyboardInterrupt:
        display.close()  # a line amid what is being drawn would be erased with it
        how = f"`harness status --results {request.results}` says how to go on"
        typer.echo(f"harness: left at once; what was recorded is kept, and {how}", err=True)
        raise typer.Exit(pipeline.EXIT_INTERRUPTED) from None
    finally:
        display.close()
    from harness.terminal.ended import tell

    holds = tell(request, report, check=check, as_json=as_json)
    sys.stdout.flush()
    sys.stderr.flush()
    if report.executor is not None:
        report.executor.close(leaving=True)
    # No missed reference hides that the run ended early or that trials failed.
    os._exit(
        report.exit_code or (pipeline.EXIT_MISSED if check and not holds else pipeline.EXIT_COMPLETED)
    )  # all is written, and the interpreter's own shutdown takes a second with Ray in it


def _expected(nodes: int | None, within: str, log: Path | None) -> Expected | None:
    from harness.domain.errors import SuiteError
    from harness.schedule.expected import Expected

    within_s = seconds_of("--expect-within", within)
    if nodes is None and within != _WITHIN:
        raise SuiteError("--expect-within goes with --expect-nodes")
    return None if nodes is None else Expected(nodes=nodes, within_s=within_s, log=log)
