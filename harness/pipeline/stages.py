"""The stages in order, and nothing else: suite → plan → trials on workers → records."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.domain.errors import ClusterLostError, HarnessError, SuiteError
from harness.domain.outcome import Finished
from harness.domain.suite import LoadedSuite
from harness.domain.trial import Trial
from harness.pipeline import every_node
from harness.pipeline.ending import exit_code_of, findings, state_of, stopped_by, troubled
from harness.pipeline.noise import measured
from harness.pipeline.pending import counted, to_run, unneeded_of
from harness.pipeline.planning import make_plan
from harness.pipeline.records import open_records, recorded_nodes
from harness.pipeline.request import EXIT_SOME_FAILED, Display, Report, Request
from harness.pipeline.signals import Signals
from harness.pipeline.standing import Standing
from harness.pipeline.starting import start
from harness.pipeline.states import States
from harness.pipeline.stopping import Stopping
from harness.pipeline.watch import Watch
from harness.record import shards
from harness.record.live import LiveFile
from harness.record.recorder import Recorder
from harness.schedule.loop import Loop, Policy
from harness.schedule.notice import Notice
from harness.schedule.protocol import Executor

if TYPE_CHECKING:
    from harness.analyse.repeats import Repeats


def run(
    request: Request,
    *,
    make_executor: Callable[[Sequence[Trial], int], Executor],
    display: Display,
    began: float | None = None,
) -> Report:
    """Run every trial not yet recorded, recording each the moment it ends.

    `make_executor` is given the trials and the seed of their order, so that workers for the first can start at once.
    `began` is the reading of `time.monotonic` at which the command began, for the run's timings.
    """
    began = time.monotonic() if began is None else began
    timings: dict[str, float] = {}

    def mark(name: str) -> None:
        timings.setdefault(name, round(time.monotonic() - began, 3))

    loaded, made = make_plan(request)
    mark("planned_s")
    with (
        Signals(display.ending) as signals,
        every_node.begin(
            made,
            recorded_nodes(request, made),
            make_executor=lambda trials: make_executor(trials, int.from_bytes(os.urandom(4), "big")),
            start=lambda executor: start(executor, signals, should_stop=lambda: bool(signals.caught)),
        ) as begun,
        open_records(request, loaded, made := begun.made, begun.info) as recorder,
        _placed(loaded),
        contextlib.ExitStack() as around,
    ):
        pending, repeats = to_run(made, recorder, request.policy)
        absent = begun.absent(pending)
        pending = begun.reachable(pending)
        for trial in pending:
            recorder.retry(trial.key)
        unneeded = unneeded_of(recorder, made, repeats)
        standing = Standing(
            pending,
            counts=counted(recorder, made, but=pending),
            total=len(made.trials) - unneeded,
            attempt=recorder.attempt,
        )
        live = around.enter_context(LiveFile(recorder.folder, attempt=recorder.attempt))
        stopping = around.enter_context(
            Stopping(recorder.folder, attempt=recorder.attempt, standing=standing, tell=display.stopping)
        )
        display.planned(made, pending, folder=recorder.folder, standing=standing, unneeded=unneeded)
        _tell(absent, display)
        live.write(standing.live)
        seed = int(recorder.info["schedule_seed"])
        executor = begun.take()
        started = executor is not None
        stopped: str | None = None
        unserved: tuple[str, ...] = ()
        try:
            if pending and executor is None and not signals.caught:
                executor = make_executor(pending, seed)
                started = start(executor, signals, should_stop=lambda: bool(signals.caught) or stopping.asked())
            if pending and executor is not None and started:
                mark("executor_ready_s")
                watch = Watch(executor, recorder, display, mark, standing=standing, live=live)
                loop = _run_trials(
                    pending,
                    executor,
                    recorder,
                    request.policy,
                    watch,
                    seed=seed,
                    should_stop=lambda: bool(signals.caught) or stopping.at_once(),
                    should_finish=stopping.asked,
                    repeats=repeats,
                )
                stopped, unserved = loop.stopped, tuple(map(str, loop.unserved))
                mark("last_record_s")
        except ClusterLostError as error:
            stopped = "cluster"
            display.notice(Notice(what="cluster", worker="", text=str(error)))
        except HarnessError as error:
            recorder.discard_if_empty(str(error))
            raise
        finally:
            standing.ending = "ending"
            live.write(standing.live, at_once=True)
            if executor is not None and started:
                executor.stop()
                if sys.exception() is not None:
                    executor.close(leaving=False)
        stopped = stopped_by(signals.caught, stopped, unstarted=bool(pending) and not started, absent=bool(absent))
        counts = counted(recorder, made)
        left = len(made.trials) - sum(counts.values()) - unneeded_of(recorder, made, repeats)
        repeated = repeats.report() if repeats is not None else ()
        figureless = bool(repeated) and not left and not any(one.repeats for one in repeated)
        code = EXIT_SOME_FAILED if figureless else exit_code_of(counts, left, stopped)
        if executor is not None:
            recorder.add_telemetry(executor.telemetry())
        mark("total_s")
        noise = measured(recorder, made) if request.noise and not left else None
        end: dict[str, Any] = {"counts": counts, "pending": left, "stopped": stopped, "timings": timings}
        end |= {"unserved": list(unserved)} if unserved else {}
        end |= findings(repeated, noise, trials=sum(counts.values()) + left)
        end |= troubled(recorder.info, standing)
        recorder.finish(state_of(code, stopped, left), end | ({"sampling": executor.sampling()} if executor else {}))
        _merge(request, recorder.folder, executor)
        return Report(
            exit_code=code,
            folder=recorder.folder,
            run_id=recorder.run_id,
            loaded=loaded,
            counts=counts,
            pending=left,
            stopped=stopped,
            unserved=unserved,
            executor=executor,
            repeats=repeated,
            figureless=figureless,
            noise=noise,
        )


def _merge(request: Request, folder: Path, executor: Executor | None) -> None:
    """Write the tables of a run whose last shard this was, if it was one."""
    if request.shard is None:
        return
    try:
        shards.merge(shards.top_of(folder))
    except HarnessError:
        if executor is not None:
            executor.close(leaving=False)
        raise


def _tell(notices: Sequence[Notice], display: Display) -> None:
    for notice in notices:
        display.notice(notice)


def _run_trials(
    pending: Sequence[Trial],
    executor: Executor,
    recorder: Recorder,
    policy: Policy,
    watch: Watch,
    *,
    seed: int,
    should_stop: Callable[[], bool],
    should_finish: Callable[[], bool],
    repeats: Repeats | None,
) -> Loop:
    """Run the trials and record each; return the loop, which says why it ended early."""
    states = States(executor, recorder, watch.notice)

    def notify(notice: Notice) -> None:
        if notice.what == "retried" and notice.trial is not None and notice.values["status"] != "lost":
            states.retried(notice.trial)
        watch.notice(notice)

    def tick() -> None:
        states.keep()
        watch.tick()

    loop = Loop(
        pending,
        executor,
        seed=seed,
        policy=policy,
        first_position=recorder.next_position,
        should_stop=should_stop,
        should_finish=should_finish,
        notify=notify,
        tick=tick,
        enough=repeats.add if repeats is not None else lambda finished: {},
        saved=states.of,
    )

    def record(finished: Finished) -> None:
        recorder.write(finished)
        watch.finished(finished)
        if finished.outcome.remark is not None:
            watch.notice(Notice(what="state", worker="", trial=finished.trial, text=finished.outcome.remark))

    for finished in loop:
        record(finished)
    if loop.stopped == "signal":
        states.save_now(loop, record)
    recorder.flush()
    return loop


@contextlib.contextmanager
def _placed(loaded: LoadedSuite) -> Iterator[None]:
    """Put the suite's file before each line of what building its settings found wrong, a line a setting."""
    try:
        yield
    except SuiteError as error:
        raise SuiteError("\n".join(f"{loaded.path}: {line}" for line in str(error).splitlines())) from error
