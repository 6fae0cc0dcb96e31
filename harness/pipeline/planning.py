"""A request → its suite, its trials, and what run.json holds of what was asked for."""

from __future__ import annotations

import os
from typing import Any

from harness import __version__
from harness.domain.applied import Applied, resolve
from harness.domain.suite import LoadedSuite, load_suite, located
from harness.pipeline.noise import check_pairs
from harness.pipeline.request import Request
from harness.plan import Plan, in_full, parse_override, plan, shard


def make_plan(request: Request) -> tuple[LoadedSuite, Plan]:
    """Return the suite of a request and its trials, those of its shard alone, every declaration checked."""
    overrides = [parse_override(text) for text in request.overrides]
    loaded = load_suite(request.suite)
    made = plan(loaded, overrides=overrides, where=request.where, small=request.small)
    if request.noise:
        check_pairs(made)
    return loaded, made if request.shard is None else shard(made, *request.shard)


def published(request: Request, loaded: LoadedSuite, made: Plan) -> tuple[Applied, ...]:
    """Return the suite's references with the settings that they hold for: those that it declares in full.

    Raises:
        SuiteError: for a reference that holds for none, or that cannot be measured.
    """
    references = loaded.suite.references
    if not references:
        return ()
    as_declared = not (request.overrides or request.where or request.small)
    trials = made.trials if as_declared else in_full(loaded)
    with located(loaded.path):
        return resolve(references, trials)


def run_info(request: Request, loaded: LoadedSuite, made: Plan) -> dict[str, Any]:
    """Return what run.json holds of what was asked for; its ``command`` is the request's."""
    target = made.suite.target
    return {
        "suite_path": str(request.suite),
        "suite_text": loaded.text,
        "suite_sha256": made.sha256,
        "command": list(request.command),
        "overrides": list(request.overrides),
        "where": list(request.where),
        "small": request.small,
        "noise": request.noise,
        "axes": {path: list(values) for path, values in made.axes.items()},
        "settings": made.settings,
        "trials": len(made.trials),
        "target": target.plain() if target is not None else None,
        "references": [] if request.noise else [one.plain() for one in published(request, loaded, made)],
        "schedule_seed": int.from_bytes(os.urandom(4), "big"),
        "harness_version": __version__,
    }
