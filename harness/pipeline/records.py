"""A request and its plan → the records of the run: begun, or gone on with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.domain.suite import LoadedSuite
from harness.pipeline import every_node
from harness.pipeline.planning import run_info
from harness.pipeline.request import Request
from harness.plan import Plan
from harness.record import shards
from harness.record.recorder import Recorder
from harness.record.runs import find_run, read_run_file
from harness.telemetry.repository import git_state


def recorded_nodes(request: Request, made: Plan) -> every_node.Names:
    """Return the nodes that the run to resume is for, where it is for every node."""
    if not (request.resume and made.suite.every_node):
        return {}
    found: every_node.Names = read_run_file(_to_resume(request, made)).get("every_node") or {}
    return found


def open_records(request: Request, loaded: LoadedSuite, made: Plan, begun: Mapping[str, Any]) -> Recorder:
    """Begin a run's records, or go on with them; `begun` is what run.json is to hold of this attempt (see `Begun`)."""
    attempt_info = {"suite_git": git_state(request.suite)}
    if request.resume:
        recorder = Recorder.resume(
            _to_resume(request, made),
            suite_sha256=made.sha256,
            force=request.force,
            take_over=request.take_over,
            attempt_info=attempt_info,
            info=begun,
        )
        if request.shard is not None:
            shards.reopen(shards.top_of(recorder.folder))
        return recorder
    info = run_info(request, loaded, made) | dict(begun)
    return Recorder.create(
        request.results, suite=made.suite.name, info=info, run_id=request.run, attempt_info=attempt_info
    )


def _to_resume(request: Request, made: Plan) -> Path:
    asked = None if request.force else made.sha256
    found = find_run(
        request.results, suite=made.suite.name, run=request.run, noise=request.noise, asked=asked, shard=request.shard
    )
    if request.shard is None:
        return found
    return shards.reserve(found, request.shard[0], trials=len(made.trials), settings=made.settings)
