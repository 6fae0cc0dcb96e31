"""The options of `run`, `aa` and `submit` → what is asked of the pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.options import listed

if TYPE_CHECKING:
    from harness.cli.groups import Asked, Here
    from harness.pipeline import Request


def make_request(
    suite: Path, asked: Asked, here: Here, *, fresh_workers: bool = False, shard: str | None = None
) -> Request:
    """Return what is asked for.

    Raises:
        SuiteError: for options that contradict each other, and values that are none.
    """
    from harness import pipeline
    from harness.domain.errors import SuiteError
    from harness.schedule.loop import Policy

    statuses = listed(asked.retry or None)
    for status in statuses:
        if status not in ("failed", "timeout", "lost"):
            raise SuiteError(f"--retry {status!r}: known statuses are failed, timeout and lost, joined by commas")
    if (here.force or here.take_over) and not here.resume:
        raise SuiteError("--force and --take-over go with --resume")
    if shard is not None and not (here.resume and here.run_id):
        raise SuiteError(f"--shard {shard}: goes with --run and --resume")
    policy = Policy(
        retry=tuple(statuses),
        max_fail=asked.max_fail,
        budget_s=None if asked.budget is None else seconds_of("--budget", asked.budget),
        patience_s=seconds_of("--patience", asked.patience),
        fresh_workers=fresh_workers,
        calibrate=asked.calibrate,
    )
    return pipeline.Request(
        suite=suite, results=here.results, overrides=tuple(asked.overrides or ()), where=tuple(asked.where or ()),
        small=asked.small, resume=here.resume, run=here.run_id, shard=_shard(shard), force=here.force,
        take_over=here.take_over, policy=policy,
    )  # fmt: skip


def seconds_of(option: str, text: str) -> float:
    """Return the duration that an option gives.

    Raises:
        SuiteError: naming the option, for a text that is none.
    """
    from harness.domain.duration import duration
    from harness.domain.errors import SuiteError

    try:
        return duration(text)
    except SuiteError as error:
        raise SuiteError(f"{option}: {error}") from None


def _shard(text: str | None) -> tuple[int, int] | None:
    """Return which shard of how many is asked for by K/N."""
    from harness.domain.errors import SuiteError

    if text is None:
        return None
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and int(number) < int(count)):
        raise SuiteError(f"--shard {text!r}: give it as K/N, K from 0 to N - 1: the first of four is 0/4")
    return int(number), int(count)
