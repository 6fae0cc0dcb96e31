"""The stages in order, and nothing else: suite → plan → trials on workers → records."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from harness import __version__
from harness.domain import sources
from harness.domain.applied import Applied, resolve
from harness.domain.errors import HarnessError, SuiteError
from harness.domain.judge import share_key
from harness.domain.outcome import Finished
from harness.domain.repeats import LABELS, Auto, unlabelled
from harness.domain.suite import LoadedSuite, load_suite, located
from harness.domain.trial import Trial
from harness.plan import Plan, in_full, parse_override, plan
from harness.record.recorder import Recorder
from harness.schedule.loop import Loop, Notice, Policy
from harness.schedule.protocol import Executor, Progress
from harness.telemetry.repository import git_state

if TYPE_CHECKING:
    from harness.analyse.noise import NoiseFloor, Same
    from harness.analyse.repeats import Repeated, Repeats

EXIT_COMPLETED: Final = 0
EXIT_SOME_FAILED: Final = 1
EXIT_MISSED: Final = 1  # with --check: a published value was not reproduced
EXIT_WRONG: Final = 2
EXIT_PREEMPTED: Final = 75  # EX_TEMPFAIL: run again with --resume
EXIT_INTERRUPTED: Final = 130

_TELEMETRY_EVERY_S: Final = 1.0


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asked `harness run` for."""

    suite: Path
    results: Path = Path("results")
    overrides: Sequence[str] = ()
    where: Sequence[str] = ()
    small: bool = False
    resume: bool = False
    run: str | None = None  # which run to resume; None: the latest that is not finished
    force: bool = False  # resume although the suite changed
    take_over: bool = False  # resume although another host's process may still own the run
    policy: Policy = field(default_factory=Policy)
    noise: bool = False  # measure the nodes' noise floor by it: see `against_itself`
    command: Sequence[str] = field(default_factory=lambda: (*(Path(word).name for word in sys.argv[:1]), *sys.argv[1:]))


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What a run that ran every setting under two names says of its nodes."""

    floors: Sequence[NoiseFloor]  # by node
    settings: Sequence[tuple[Same, Mapping[str, Any]]]  # each compared with itself, and its place in the grid


@dataclass(frozen=True, kw_only=True)
class Report:
    """How a run ended."""

    exit_code: int
    folder: Path
    run_id: str
    loaded: LoadedSuite
    counts: Mapping[str, int]  # finished trials by status, those of an earlier attempt included
    pending: int
    stopped: str | None  # why it ended early: "SIGINT", "SIGTERM", "max_fail", "budget"
    executor: Executor | None  # its workers are ended; it is left to close
    repeats: Sequence[Repeated] = ()  # with repeats="auto": how it stands with each arm
    figureless: bool = False  # with repeats="auto": every arm ended, and none of its trials had the figure
    noise: Noise | None = None  # with `Request.noise`, where every trial ended


class Display(Protocol):
    """What shows a run to a person, or to a log."""

    def planned(self, made: Plan, pending: Sequence[Trial], *, folder: Path, unneeded: int = 0) -> None:
        """The plan is made; `pending` are the trials that are neither recorded already nor unneeded."""

    def notice(self, notice: Notice) -> None:
        """Something happened to a worker or a trial."""

    def finished(self, finished: Finished) -> None:
        """A trial is done."""

    def tick(self, running: Mapping[str, Trial], progress: Mapping[str, Progress]) -> None:
        """A moment passed; `running` and `progress` go by worker."""

    def ending(self, signal_name: str) -> None:
        """The run was told to end. Called from the signal's handler: must be quick and take no lock."""


def against_itself(request: Request, repeats: int) -> Request:
    """Return the request to run every setting of a suite under two names, `repeats` times each, in the same blocks.

    Raises:
        SuiteError: for a request that names labels or seeds itself, or for a single repeat.
    """
    if repeats < 2:
        raise SuiteError(f"--repeats {repeats}: aa needs at least 2 repeats of each name, A and B, to see them vary")
    for text in request.overrides:
        if text.partition("=")[0].strip() in ("label", "seeds", "repeats"):
            raise SuiteError(f"--set {text!r}: aa chooses labels and seeds itself; say how many repeats with --repeats")
    seeds = ",".join(map(str, range(repeats)))
    own = (f"repeats={repeats}", f"seeds=[{seeds}]", f"label={','.join(LABELS)}")
    return replace(request, overrides=(*own, *request.overrides), noise=True)


def make_plan(request: Request) -> tuple[LoadedSuite, Plan]:
    """Return the suite of a request and its trials, every declaration checked."""
    overrides = [parse_override(text) for text in request.overrides]
    loaded = load_suite(request.suite)
    made = plan(loaded, overrides=overrides, where=request.where, small=request.small)
    if request.noise:
        _check_pairs(made)
    return loaded, made


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
    with _Signals(display.ending) as signals, _open_records(request, loaded, made) as recorder:
        pending, repeats = _pending(made, recorder, request.policy)
        for trial in pending:
            recorder.retry(trial.key)
        display.planned(made, pending, folder=recorder.folder, unneeded=_unneeded(recorder, made, repeats))
        seed = int(recorder.info["schedule_seed"])
        executor: Executor | None = None
        started = False
        stopped: str | None = None
        try:
            if pending:
                executor = make_executor(pending, seed)
                started = _start(executor, signals)
                if started:
                    mark("executor_ready_s")
                    watch = _Watch(executor, recorder, display, mark)
                    stopped = _run_trials(
                        pending,
                        executor,
                        recorder,
                        request.policy,
                        watch,
                        seed=seed,
                        should_stop=lambda: bool(signals.caught),
                        repeats=repeats,
                    )
                    mark("last_record_s")
        except HarnessError as error:
            recorder.discard_if_empty()
            if isinstance(error, SuiteError):  # what building found wrong, a line a setting
                raise SuiteError("\n".join(f"{loaded.path}: {line}" for line in str(error).splitlines())) from error
            raise
        finally:
            if executor is not None and started:
                executor.stop()
                if sys.exception() is not None:
                    executor.close(leaving=False)
        stopped = signals.caught[0] if signals.caught else stopped
        counts = _counts(recorder, made)
        left = len(made.trials) - sum(counts.values()) - _unneeded(recorder, made, repeats)
        repeated = repeats.report() if repeats is not None else ()
        figureless = bool(repeated) and not left and not any(one.repeats for one in repeated)
        code = EXIT_SOME_FAILED if figureless else _exit_code(counts, left, stopped)
        if executor is not None:
            recorder.add_telemetry(executor.telemetry())
        mark("total_s")
        noise = _noise(recorder, made) if request.noise and not left else None
        end: dict[str, Any] = {"counts": counts, "pending": left, "stopped": stopped, "timings": timings}
        end |= _found(repeated, noise, trials=sum(counts.values()) + left)
        recorder.finish(_state(code, stopped, left), end | ({"sampling": executor.sampling()} if executor else {}))
        return Report(
            exit_code=code,
            folder=recorder.folder,
            run_id=recorder.run_id,
            loaded=loaded,
            counts=counts,
            pending=left,
            stopped=stopped,
            executor=executor,
            repeats=repeated,
            figureless=figureless,
            noise=noise,
        )


def _check_pairs(made: Plan) -> None:
    """Raise where a setting cannot be compared with itself, as with a --where that leaves one of its names out."""
    repeats: dict[tuple[str, str], dict[str, set[int]]] = {}
    for trial in made.trials:
        named = repeats.setdefault((trial.setting_id, unlabelled(trial.arm)), {label: set() for label in LABELS})
        named[trial.setting.label].add(trial.repeat)
    fewest = min(len(set.intersection(*named.values())) for named in repeats.values())
    if fewest < 2:
        raise SuiteError(
            f"aa needs at least 2 repeats of each name, {' and '.join(LABELS)}, of every setting; what was asked for "
            f"leaves {fewest} of a setting under both: leave label and seed out of --where"
        )


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


def _noise(recorder: Recorder, made: Plan) -> Noise:
    """Compare each setting with itself, from what is recorded."""
    from harness.analyse.noise import floors, same
    from harness.record.reading import load

    recorder.flush()
    results = load(recorder.folder)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    places = {
        (trial.setting_id, unlabelled(trial.arm)): {path: value for path, value in trial.axes if path != "label"}
        for trial in made.trials
    }
    return Noise(
        floors=floors(results.trials, results.epochs, results.nodes, date=now),
        settings=[  # a run that was resumed with another suite holds settings that have no place in this one
            (one, places.get((one.setting_id, one.arm), {})) for one in same(results.trials, results.epochs)
        ],
    )


def _start(executor: Executor, signals: _Signals) -> bool:
    """Start an executor, which takes seconds; return False, with that unfinished, if a signal came meanwhile.

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
    while not done.wait(0.05) and not signals.caught:
        pass
    if failures:
        raise failures[0]
    signals.arm()
    return done.is_set()


class _Watch:
    """Hears what happens in the loop: keeps the timings, passes the readings on, and tells the display."""

    def __init__(self, executor: Executor, recorder: Recorder, display: Display, mark: Callable[[str], None]) -> None:
        self._executor = executor
        self._recorder = recorder
        self._display = display
        self._mark = mark
        self._starting: set[str] = set()
        self._described = False
        self._calibrated: dict[str, dict[str, Mapping[str, Any]]] = {}  # by node and kind of share
        self._drained_s = time.monotonic()

    def notice(self, notice: Notice) -> None:
        if notice.what == "opened":
            self._starting.add(notice.worker)
        elif notice.what == "ready":
            self._starting.discard(notice.worker)
            if not self._starting:
                self._mark("workers_ready_s")
        elif notice.what == "calibrated" and notice.share is not None:
            demand = notice.share.demand
            kind = share_key(demand.backend, demand.cpus, demand.gpus)
            self._calibrated.setdefault(notice.share.node, {})[kind] = notice.values
            if self._described:
                self._describe()
        elif notice.what == "started":
            self._mark("first_trial_s")
        self._display.notice(notice)

    def finished(self, finished: Finished) -> None:
        self._display.finished(finished)
        if not self._described:
            self._described = True
            self._describe()

    def _describe(self) -> None:
        """Record the nodes, each with what was calibrated on it, by kind of share."""
        for row in self._executor.nodes():
            self._recorder.add_node({**row, "calibration": self._calibrated.get(row["node"])})

    def tick(self, running: Mapping[str, Trial]) -> None:
        self._display.tick(running, self._executor.progress())
        now_s = time.monotonic()
        if now_s - self._drained_s >= _TELEMETRY_EVERY_S:
            self._drained_s = now_s
            self._recorder.add_telemetry(self._executor.telemetry())


def _run_trials(
    pending: Sequence[Trial],
    executor: Executor,
    recorder: Recorder,
    policy: Policy,
    watch: _Watch,
    *,
    seed: int,
    should_stop: Callable[[], bool],
    repeats: Repeats | None,
) -> str | None:
    """Run the trials and record each; return why the loop ended early, or None."""
    loop = Loop(
        pending,
        executor,
        seed=seed,
        policy=policy,
        first_position=recorder.next_position,
        should_stop=should_stop,
        notify=watch.notice,
        tick=lambda: watch.tick(loop.running),
        enough=repeats.add if repeats is not None else lambda finished: {},
    )
    for finished in loop:
        recorder.write(finished)
        watch.finished(finished)
    recorder.flush()
    return loop.stopped


def _open_records(request: Request, loaded: LoadedSuite, made: Plan) -> Recorder:
    suite = made.suite
    attempt_info = {"suite_git": git_state(request.suite)}
    if request.resume:
        asked = None if request.force else made.sha256
        folder = Recorder.find(request.results, suite=suite.name, run=request.run, noise=request.noise, asked=asked)
        return Recorder.resume(
            folder,
            suite_sha256=made.sha256,
            force=request.force,
            take_over=request.take_over,
            attempt_info=attempt_info,
        )
    info = {
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
        "target": suite.target.plain() if suite.target is not None else None,
        "references": [] if request.noise else [one.plain() for one in published(request, loaded, made)],
        "schedule_seed": int.from_bytes(os.urandom(4), "big"),
        "harness_version": __version__,
    }
    return Recorder.create(request.results, suite=suite.name, info=info, attempt_info=attempt_info)


def _done(recorder: Recorder, trial: Trial, policy: Policy) -> bool:
    status = recorder.done.get(trial.key)
    return status is not None and status not in policy.retry


def _counts(recorder: Recorder, made: Plan) -> dict[str, int]:
    counts: dict[str, int] = {}
    for trial in made.trials:
        status = recorder.done.get(trial.key)
        if status is not None:
            counts[status] = counts.get(status, 0) + 1
    return counts


def _exit_code(counts: Mapping[str, int], left: int, stopped: str | None) -> int:
    if stopped == "SIGINT" and left:
        return EXIT_INTERRUPTED
    if stopped in ("SIGTERM", "SIGHUP", "budget") and left:
        return EXIT_PREEMPTED
    if left or any(count for status, count in counts.items() if status != "completed"):
        return EXIT_SOME_FAILED
    return EXIT_COMPLETED


def _state(code: int, stopped: str | None, left: int) -> str:
    if code == EXIT_INTERRUPTED:
        return "interrupted"
    if code == EXIT_PREEMPTED:
        return "preempted"
    return "failed" if left or stopped == "max_fail" else "completed"


class _Signals:
    """Collects the names of SIGINT, SIGTERM and SIGHUP instead of dying of them; a second SIGINT interrupts at once.

    Ray takes SIGTERM for itself when it starts, and dumps its stack: `arm` takes it back.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.caught: list[str] = []
        self._tell = tell
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            wanted = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
            # What was ignored before, as nohup does with SIGHUP, stays so.
            self._before = {one: signal.getsignal(one) for one in wanted if signal.getsignal(one) != signal.SIG_IGN}
            self.arm()
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def arm(self) -> None:
        """Make the handlers be the ones in force."""
        for number in self._before:
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if name == "SIGINT" and "SIGINT" in self.caught:
            raise KeyboardInterrupt
        self.caught.append(name)
        self._tell(name)
