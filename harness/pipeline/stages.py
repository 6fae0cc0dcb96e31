"""The stages in order, and nothing else: suite → plan → trials on workers → records."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import __version__
from harness.domain import sources
from harness.domain.applied import Applied, resolve
from harness.domain.errors import ClusterLostError, HarnessError, SuiteError
from harness.domain.outcome import Finished
from harness.domain.repeats import Auto
from harness.domain.suite import LoadedSuite, load_suite, located
from harness.domain.trial import Trial
from harness.pipeline import every_node
from harness.pipeline.ending import counted, exit_code_of, state_of, stopped_by, troubled
from harness.pipeline.noise import check_pairs, measured
from harness.pipeline.request import EXIT_SOME_FAILED, Display, Noise, Report, Request
from harness.pipeline.signals import Signals
from harness.pipeline.standing import Standing
from harness.pipeline.states import States
from harness.pipeline.stopping import Stopping
from harness.pipeline.watch import Watch
from harness.plan import Plan, in_full, parse_override, plan, shard
from harness.record import shards
from harness.record.live import LiveFile
from harness.record.recorder import Recorder
from harness.record.runs import find_run, read_run_file
from harness.schedule.loop import Loop, Notice, Policy
from harness.schedule.protocol import Executor
from harness.telemetry.repository import git_state

if TYPE_CHECKING:
    from harness.analyse.repeats import Repeated, Repeats


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
            _recorded_nodes(request, made),
            make_executor=lambda trials: make_executor(trials, int.from_bytes(os.urandom(4), "big")),
            start=lambda executor: _start(executor, signals, should_stop=lambda: bool(signals.caught)),
        ) as begun,
        _open_records(request, loaded, made := begun.made, begun.info) as recorder,
        _placed(loaded),
        contextlib.ExitStack() as around,
    ):
        pending, repeats = _pending(made, recorder, request.policy)
        absent = begun.absent(pending)
        pending = begun.reachable(pending)
        for trial in pending:
            recorder.retry(trial.key)
        unneeded = _unneeded(recorder, made, repeats)
        standing = Standing(
            pending,
            counts=_kept(made, recorder, pending),
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
                started = _start(executor, signals, should_stop=lambda: bool(signals.caught) or stopping.asked())
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
        left = len(made.trials) - sum(counts.values()) - _unneeded(recorder, made, repeats)
        repeated = repeats.report() if repeats is not None else ()
        figureless = bool(repeated) and not left and not any(one.repeats for one in repeated)
        code = EXIT_SOME_FAILED if figureless else exit_code_of(counts, left, stopped)
        if executor is not None:
            recorder.add_telemetry(executor.telemetry())
        mark("total_s")
        noise = measured(recorder, made) if request.noise and not left else None
        end: dict[str, Any] = {"counts": counts, "pending": left, "stopped": stopped, "timings": timings}
        end |= {"unserved": list(unserved)} if unserved else {}
        end |= _found(repeated, noise, trials=sum(counts.values()) + left)
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


def _pending(made: Plan, recorder: Recorder, policy: Policy) -> tuple[list[Trial], Repeats | None]:
    """Return the trials to run, and what decides which of them are needed; None where all are."""
    pending = [trial for trial in made.trials if not _done(recorder, trial, policy)]
    if not isinstance(made.suite.repeats, Auto):
        return pending, None
    from harness.analyse.repeats import Repeats

    target = made.target.plain() if made.target is not None else None
    repeats = Repeats(made.suite.repeats, made.trials, target=target)
    if recorder.done:
        from harness.record.reading import load

        recorded = load(recorder.folder)
        repeats.resume(recorded.trials, recorded.epochs, again=[trial.key for trial in pending])
    return [trial for trial in pending if repeats.needs(trial)], repeats


def _found(repeated: Sequence[Repeated], noise: Noise | None, *, trials: int) -> dict[str, Any]:
    """Return what run.json holds of the repeats that were made, after which it has so many `trials`, and of noise."""
    found: dict[str, Any] = {}
    if repeated:
        found |= {"repeats": [one.plain() for one in repeated], "trials": trials}
    if noise is not None:
        found["noise_floor"] = {floor.node: floor.plain() for floor in noise.floors}
    return found


def _unneeded(recorder: Recorder, made: Plan, repeats: Repeats | None) -> int:
    """Return how many trials have not run and are not needed."""
    if repeats is None:
        return 0
    return sum(trial.key not in recorder.done and not repeats.needs(trial) for trial in made.trials)


def _tell(notices: Sequence[Notice], display: Display) -> None:
    for notice in notices:
        display.notice(notice)


def _start(executor: Executor, signals: Signals, *, should_stop: Callable[[], bool]) -> bool:
    """Start an executor, which takes seconds; return False, with that unfinished, if the run is to end meanwhile.

    It happens in a thread beside this one, which can so hear signals, and where Ray cannot take SIGTERM for itself. The
    thread stays: Linux ends processes with the thread that started them, if they ask for that as Ray's do.
    """
    failures: list[BaseException] = []
    done = threading.Event()

    def start() -> None:
        try:
            executor.start(sources.collected())
        except BaseException as error:
            failures.append(error)
        done.set()
        threading.Event().wait()

    threading.Thread(target=start, name="harness-start", daemon=True).start()
    while not done.wait(0.05) and not should_stop():
        pass
    if failures:
        raise failures[0]
    signals.arm()
    return done.is_set()


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


def _recorded_nodes(request: Request, made: Plan) -> every_node.Names:
    """Return the nodes that the run to resume is for, where it is for every node."""
    if not (request.resume and made.suite.every_node):
        return {}
    found: every_node.Names = read_run_file(_to_resume(request, made)).get("every_node") or {}
    return found


def _to_resume(request: Request, made: Plan) -> Path:
    asked = None if request.force else made.sha256
    found = find_run(
        request.results, suite=made.suite.name, run=request.run, noise=request.noise, asked=asked, shard=request.shard
    )
    if request.shard is None:
        return found
    return shards.reserve(found, request.shard[0], trials=len(made.trials), settings=made.settings)


def _open_records(request: Request, loaded: LoadedSuite, made: Plan, begun: Mapping[str, Any]) -> Recorder:
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


@contextlib.contextmanager
def _placed(loaded: LoadedSuite) -> Iterator[None]:
    """Put the suite's file before each line of what building its settings found wrong, a line a setting."""
    try:
        yield
    except SuiteError as error:
        raise SuiteError("\n".join(f"{loaded.path}: {line}" for line in str(error).splitlines())) from error


def _kept(made: Plan, recorder: Recorder, pending: Sequence[Trial]) -> Counter[str]:
    """Return the trials that an earlier attempt has recorded and that are not to run again, by status."""
    again = {trial.key for trial in pending}
    return Counter(recorder.done[one.key] for one in made.trials if one.key in recorder.done and one.key not in again)


def _done(recorder: Recorder, trial: Trial, policy: Policy) -> bool:
    status = recorder.done.get(trial.key)
    return status is not None and status not in policy.retry
