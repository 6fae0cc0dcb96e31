"""Any program as a workload: a command with the trial's values filled in, which prints what it measured.

In the command, ``{batch_size}``, ``{optimizer.learning_rate}`` and every other dotted path of the setting stand for the
trial's values, and so do ``{seed}``, ``{trial_id}`` and ``{python}``, the interpreter that runs the harness;
braces are written ``{{`` and ``}}``. No shell is between. The program runs in the folder in which the harness was
started, where the node has it, has nothing on its standard input, and finds the trial as JSON in the variable
HARNESS_TRIAL. ``{suite_dir}/train.py`` is a file beside the suite: where the node does not have the very same files,
those that travelled with the trial are put into a folder that lives as long as the program.

Each line of its standard output that is a JSON object with one of these keys tells of its epochs::

    {"event": "ready"}                                           building has ended; else epoch 1 begins at the start
    {"event": "evaluating"}                                      the training clock stops until the epoch ends
    {"epoch": 1, "samples": 4000, "loss": 0.3, "val_accuracy": 0.9}     an epoch has ended

All times are those at which the lines came, unless an epoch states its own ``train_s`` and ``eval_s``. All else that it
prints is its log, whose end is kept. `harness.progress` prints such lines.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from typing import Any, Final

from harness import processes
from harness.domain.beside import named_files
from harness.domain.component import text
from harness.domain.errors import HarnessError, SuiteError
from harness.domain.expression import unknown_path
from harness.domain.outcome import Facts, Scores
from harness.domain.paths import MISSING, leaves, read
from harness.domain.setting import Setting
from harness.domain.sources import Source
from harness.domain.trial import Trial
from harness.workloads.protocol import Epochs, Span, Stopwatch, Timing
from harness.workloads.reported import ReportError, checked, result, untrained

LINE_BYTES: Final = 1 << 20  # a report longer than this is refused, other lines are dropped
_TAIL_BYTES: Final = 4000  # of what it printed
_READ_BYTES: Final = 1 << 16
_POLL_S: Final = 0.2  # between looks at its memory and at the time
_FIRST_POLL_S: Final = 0.01  # each twice as long as the one before, since most of what is short is over soon
_MEANT: Final = re.compile(rb'\s*\{\s*"(epoch|event)"')  # how a line begins that was meant to be a report
_TOLD_TOO_MUCH: Final = 1.05  # what a program states may be so many times what has passed by this clock,
_TOLD_TOO_MUCH_S: Final = 0.05  # and so much more, since its lines take time to come
_PLACES: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


class ProgramError(HarnessError):
    """A program could not be started, ended badly, or did not report what it should."""


def fill(
    words: Sequence[str], setting: Setting, *, seed: int = 0, trial_id: str = "", suite_dir: str = "."
) -> list[str]:
    """Return a command with the values of a trial in their places.

    A path to a component stands for its name, as in conditions. `suite_dir` is where the suite's files are.

    Raises:
        SuiteError: for a path that the setting does not have, and for a brace that is alone.
    """
    plain = setting.plain()
    own = {"seed": str(seed), "trial_id": trial_id, "python": sys.executable, "suite_dir": suite_dir}

    def value(found: re.Match[str]) -> str:
        if found[0] in ("{{", "}}"):
            return found[0][0]
        if found[1] is None:
            raise SuiteError(f"program: a brace is alone in {found.string!r}; write {{{{ and }}}} for braces")
        if found[1] in own:
            return own[found[1]]
        meant = read(plain, found[1]) if found[1] else MISSING
        if meant is MISSING:
            told = unknown_path(found[1], [*own, *leaves(plain)])
            raise SuiteError(f"program: {found.string!r} names an {told}; write {{{{ and }}}} for braces")
        return str(meant["name"]) if isinstance(meant, dict) and "name" in meant else text(meant)

    return [_PLACES.sub(value, word) for word in words]


class Program:
    """The workload named "program"."""

    def check(self, trial: Trial, sources: Mapping[str, Source]) -> None:
        """Raise if the command names a value that the setting does not have, or a file that did not travel."""
        _files(trial, sources)
        _command(trial, ".")

    def open(self, trial: Trial, sources: Mapping[str, Source], watch: Stopwatch) -> _Run:
        return _Run(trial, _files(trial, sources), watch)


def _files(trial: Trial, sources: Mapping[str, Source]) -> Source | None:
    """Return the files beside the suite that the command names."""
    args = trial.setting.workload.args
    named = named_files(args["command"])
    if not named:
        return None
    found = sources.get(args.get("sha256") or "")
    lacking = set(named).difference(one.path for one in found.beside) if found is not None else set(named)
    if found is None or lacking:
        raise SuiteError(
            f"program: {{suite_dir}}/{min(lacking, default=named[0])} did not travel: only the files do that "
            "program(...) names, called in the suite's file; to vary the file, vary the workload: "
            "product(workload=[program(...), program(...)])"
        )
    return found


def _command(trial: Trial, suite_dir: str) -> list[str]:
    words = trial.setting.workload.args["command"]
    return fill(words, trial.setting, seed=trial.seed, trial_id=trial.trial_id, suite_dir=suite_dir)


class _Run:
    """A trial that is one run of a program, from its start to its end."""

    def __init__(self, trial: Trial, files: Source | None, watch: Stopwatch) -> None:
        self._trial = trial
        self._copies: tempfile.TemporaryDirectory[str] | None = None
        self._command = _command(trial, "." if files is None else self._place(files))
        self._watch = watch
        self._deadline_s = None if trial.timeout_s is None else time.monotonic() + trial.timeout_s
        self._output = Output()
        self._process: subprocess.Popen[bytes] | None = None
        self._ended_all = False
        self._beside: list[int] = []  # processes below this one that are not the program's
        self._used = (0.0, 0.0)
        self._peak_rss_bytes = 0
        self._initial = Scores()

    @property
    def facts(self) -> Facts:
        return Facts(
            initial_val_loss=self._initial.loss,
            initial_val_accuracy=self._initial.accuracy,
            peak_rss_bytes=self._peak_rss_bytes or None,
        )

    @property
    def said(self) -> str:
        return self._output.tail()

    def run(self, epochs: Epochs) -> None:
        """Start the program and follow it to its end.

        Raises:
            ProgramError, ReportError: when it ends badly, or reports nothing or what cannot be.
            TimeoutError: when the trial's time is up.
        """
        recorded, progressed = self._watch["record"], self._watch["progress"]
        with self._watch.measuring("build"):
            self._start()
        try:
            with self._watch.measuring("program"):
                clock = _Clock(self._watch)
                for line in self._lines(epochs):
                    self._take(line, clock, epochs)
                    if epochs.over:
                        return
                self._raise_unless_well(epochs.count)
        finally:  # the program ran on meanwhile
            self._watch.transfer(self._watch["record"] - recorded, "record", "program")
            self._watch.transfer(self._watch["progress"] - progressed, "progress", "program")

    def _place(self, files: Source) -> str:
        """Return the folder in which the suite's files are: their own where it is here and has just these texts."""
        if files.lie_in(Path(files.folder)):
            return files.folder
        try:
            self._copies = tempfile.TemporaryDirectory(prefix="suite-", dir=os.environ.get("HARNESS_WORKER_FOLDER"))
            files.write(Path(self._copies.name))
        except OSError as error:
            raise ProgramError(f"{platform.node()}: no room for the program's files ({error.strerror})") from None
        return self._copies.name

    def close(self) -> None:
        """End whatever still runs of it."""
        if self._process is not None:
            self._end_all(self._process)
            for stream in (self._process.stdout, self._process.stderr):
                if stream is not None:
                    stream.close()
        if self._copies is not None:
            self._copies.cleanup()

    def _end_all(self, process: subprocess.Popen[bytes]) -> None:
        """End what runs of the program, and wait for it, so that all that it used is counted; once."""
        if not self._ended_all:
            self._ended_all = True
            processes.end_below(os.getpid(), spare=self._beside)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1.0)
            processes.reap(self._beside)

    def _start(self) -> None:
        processes.adopt_orphans()
        self._beside = processes.children(os.getpid())
        trial = self._trial
        told = {"trial_id": trial.trial_id, "seed": trial.seed, "setting": trial.setting.plain()}
        try:
            self._process = subprocess.Popen(
                self._command,
                env={**os.environ, "HARNESS_TRIAL": json.dumps(told)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                preexec_fn=processes.end_with_parent,
            )
        except (OSError, ValueError) as error:  # ValueError: a zero byte in a word
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            where = f"{platform.node()}, in {Path.cwd()}"
            raise ProgramError(f"cannot start {self._command[0]!r} on {where}: {why}{_elsewhere()}") from None
        self._tree = processes.Tree(os.getpid(), spare=self._beside)
        base = getrusage(RUSAGE_CHILDREN)
        self._watch.count_cpu(partial(self._cpu, base.ru_utime, base.ru_stime))

    def _cpu(self, user_s: float, system_s: float) -> tuple[float, float]:
        """Return the CPU seconds of this process and of the program's, those that have ended and those that run."""
        own, ended = getrusage(RUSAGE_SELF), getrusage(RUSAGE_CHILDREN)
        run = processes.usage(self._tree.pids())
        user = own.ru_utime + ended.ru_utime - user_s + run.user_cpu_s
        system = own.ru_stime + ended.ru_stime - system_s + run.system_cpu_s
        self._used = (max(user, self._used[0]), max(system, self._used[1]))  # the kernel rounds what runs
        return self._used

    def _measure_memory(self) -> None:
        pids = self._tree.pids()
        peaks = map(processes.peak_rss_bytes, pids)
        self._peak_rss_bytes = max(self._peak_rss_bytes, processes.usage(pids).rss_bytes, *peaks, 0)

    def _lines(self, epochs: Epochs) -> Iterator[bytes]:
        """Yield each line that may be a report, until the program has ended; what it left behind is then ended too."""
        process = self._process
        assert process is not None
        assert process.stdout is not None
        assert process.stderr is not None
        with selectors.DefaultSelector() as waiting, _ending(process.pid) as ending:
            waiting.register(process.stdout, selectors.EVENT_READ, "out")
            waiting.register(process.stderr, selectors.EVENT_READ, "err")
            if ending is not None:
                waiting.register(ending, selectors.EVENT_READ, "end")
            pause_s = _FIRST_POLL_S
            look_s = time.monotonic() + pause_s
            while process.poll() is None:
                for key, _ in waiting.select(max(0.0, look_s - time.monotonic())):
                    if key.data == "end":
                        continue
                    data = os.read(key.fd, _READ_BYTES)
                    if data:
                        yield from self._output.add(key.data, data)
                    else:
                        waiting.unregister(key.fileobj)
                if time.monotonic() >= look_s:
                    self._measure_memory()
                    self._check_time()
                    epochs.tick()
                    pause_s = min(_POLL_S, 2 * pause_s)
                    look_s = time.monotonic() + pause_s
        self._end_all(process)
        for name, stream in (("out", process.stdout), ("err", process.stderr)):
            os.set_blocking(stream.fileno(), False)
            with contextlib.suppress(BlockingIOError):
                while data := os.read(stream.fileno(), _READ_BYTES):
                    yield from self._output.add(name, data)
        yield from self._output.rest()

    def _check_time(self) -> None:
        if self._deadline_s is not None and time.monotonic() > self._deadline_s:
            with self._watch.measuring("progress"):
                raise TimeoutError(f"timed out after {self._trial.timeout_s:g} s")

    def _take(self, line: bytes, clock: _Clock, epochs: Epochs) -> None:
        """Act on what a line reports, if it does."""
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            values = None
        shown = "".join(one if one.isprintable() else "?" for one in line.decode(errors="replace").strip()[:200])
        if values is None and _MEANT.match(line):
            raise ReportError(f"a line that begins as a report does is no JSON object; it printed: {shown}")
        if not isinstance(values, dict) or not {"epoch", "event"} & set(values):
            self._output.keep(line)
            return
        event = values.get("event")
        if "epoch" not in values and event not in ("ready", "evaluating"):
            raise ReportError(f"the events are 'ready' and 'evaluating', got {event!r:.100}; it printed: {shown}")
        try:
            self._report(values, clock, epochs)
        except ReportError as error:
            raise ReportError(f"{error}; it printed: {shown}") from None

    def _report(self, values: dict[str, Any], clock: _Clock, epochs: Epochs) -> None:
        event = values.pop("event", None)
        if "epoch" not in values:
            if event == "ready":
                self._initial = untrained(values, "the program's event 'ready'")
                clock.ready()
            else:
                clock.evaluating()
            return
        number = values.pop("epoch")
        due = epochs.count + 1
        if isinstance(number, bool) or number != due:
            raise ReportError(f"the program reported epoch {number!r:.100} where {due} was due; epochs count from 1")
        where = f"the program's epoch {due}"
        told = {name: _seconds(values.pop(name, None), name, where) for name in ("train_s", "eval_s")}
        measured = result(checked(values, where))
        epochs.record(measured, clock.end_epoch(where, told["train_s"], told["eval_s"]))

    def _raise_unless_well(self, count: int) -> None:
        """Raise unless the program has ended well, and has reported something."""
        assert self._process is not None
        code = self._process.wait()
        last = self._output.last_error() or "it printed nothing to its standard error"
        if code > 0:
            raise ProgramError(f"{self._command[0]}: exit code {code}: {last}{_elsewhere()}")
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
            hint = " (the kernel does this when memory runs out)" if name == "SIGKILL" else ""
            raise ProgramError(f"{self._command[0]}: killed by {name}{hint}: {last}")
        if count == 0:
            printed = self._output.last_line()
            said = f"its last line was: {printed}" if printed else "it printed nothing"
            raise ProgramError(
                f"{self._command[0]}: reported no epoch; print one JSON object a line, "
                f'such as {{"epoch": 1, "loss": 0.3}}, or use harness.progress; {said}'
            )


def _elsewhere() -> str:
    """Return what may be wrong with a program that failed: this node has no folder like that of the command."""
    folder = os.environ.get("HARNESS_STARTED_IN")
    if folder is None or Path(folder).is_dir():
        return ""
    return (
        f" (node {platform.node()} has no folder {folder}, in which harness was started, and ran it in {Path.cwd()}; "
        "write {suite_dir}/ before the files beside the suite that it needs, or share that folder)"
    )


class _Clock:
    """Sorts a program's time, as its lines come, into building, training and evaluation.

    What comes after the last epoch is none of them.
    """

    def __init__(self, watch: Stopwatch) -> None:
        self._watch = watch
        self._ready = False
        self._evaluating = False
        self._mark = watch.reading()
        self._train = self._eval = Span()
        self._started_at = self._watch.unix_s()
        self._spare_s = 0.0  # passed, and stated by no epoch: the time of lines that the program holds back for a while
        self._spare_built_s = 0.0  # that part of it which counts as building until then

    def ready(self) -> None:
        """What has been was building, and evaluating the untrained state."""
        self._book()
        if not self._ready:
            self._watch.transfer(self._train, "program", "build")
            self._watch.transfer(self._eval, "program", "eval")
            self._next()

    def evaluating(self) -> None:
        """What comes now is evaluation."""
        self._book()
        self._evaluating = True

    def end_epoch(self, where: str, train_s: float | None, eval_s: float | None) -> Timing:
        """Return an epoch's timing by this clock, or as it was told in seconds.

        Raises:
            ReportError: when more was told than has passed.
        """
        self._book()
        passed_s = self._train.wall_s + self._eval.wall_s
        told_s = (train_s or 0.0) + (eval_s or 0.0)
        there_s = passed_s + self._spare_s
        if told_s > _TOLD_TOO_MUCH * there_s + _TOLD_TOO_MUCH_S:
            raise ReportError(
                f"{where} states {told_s:g} s of training and evaluation where {there_s:.3g} s have passed; "
                "train_s and eval_s are the seconds of one epoch"
            )
        back = Span(min(max(0.0, told_s - passed_s), self._spare_built_s))
        self._watch.transfer(back, "build", "program")
        self._spare_built_s -= back.wall_s
        train = self._train if train_s is None else replace(self._train, wall_s=train_s)
        evaluated = self._eval if eval_s is None else replace(self._eval, wall_s=eval_s)
        self._watch.transfer(train, "program", "train")
        self._watch.transfer(evaluated, "program", "eval")
        if train_s is not None:
            self._spare_s = max(0.0, there_s - told_s)
            if not self._ready:
                unstated = Span(max(0.0, passed_s - told_s))
                self._watch.transfer(unstated, "program", "build")
                self._spare_built_s += unstated.wall_s
        timing = Timing(
            train=train,
            eval_s=evaluated.wall_s or None,
            started_at=self._started_at,
            ended_at=self._watch.unix_s(),
            warmup=not self._ready and train_s is None,
        )
        self._next()
        return timing

    def _book(self) -> None:
        """Add what has passed since the last line to what it was."""
        now = self._watch.reading()
        span, self._mark = now - self._mark, now
        if self._evaluating:
            self._eval += span
        else:
            self._train += span

    def _next(self) -> None:
        self._ready, self._evaluating = True, False
        self._train = self._eval = Span()
        self._started_at = self._watch.unix_s()


class Output:
    """What a program prints: the lines that may be reports, and the end of all else. Holds little, whatever comes."""

    def __init__(self) -> None:
        self._rest = b""  # of the last line, not ended yet
        self._dropping = False  # that line, which is too long
        self._tail = b""
        self._errors = b""

    def add(self, stream: str, data: bytes) -> Iterator[bytes]:
        """Take what came on "out" or "err"; yield each whole line that may be a report.

        Raises:
            ReportError: for a report of more than `LINE_BYTES`.
        """
        if stream == "err":
            self.keep(data)
            self._errors = (self._errors + data)[-_TAIL_BYTES:]
            return
        if self._dropping:
            dropped, newline, data = data.partition(b"\n")
            self.keep(dropped + newline)
            if not newline:
                return
            self._dropping = False
        whole, newline, self._rest = (self._rest + data).rpartition(b"\n")
        yield from self._sorted(whole + newline)
        if len(self._rest) > LINE_BYTES:
            if self._rest.lstrip().startswith(b"{"):
                raise ReportError(f"a line that began as a report is longer than {LINE_BYTES >> 20} MiB")
            self.keep(self._rest)
            self._rest, self._dropping = b"", True

    def rest(self) -> Iterator[bytes]:
        """Yield the last line, if it may be a report, when there will be no more."""
        rest, self._rest = self._rest, b""
        yield from self._sorted(rest)

    def keep(self, data: bytes) -> None:
        """Take what is no report."""
        self._tail = (self._tail + data[-_TAIL_BYTES:])[-_TAIL_BYTES:]

    def tail(self) -> str:
        """Return the last of what it printed, reports left out."""
        return (self._tail + self._rest[-_TAIL_BYTES:])[-_TAIL_BYTES:].decode(errors="replace")

    def last_line(self) -> str:
        """Return the last line of it that is not blank, or nothing."""
        return _last_line(self.tail())

    def last_error(self) -> str:
        """Return the last line on standard error that is not blank, or nothing."""
        return _last_line(self._errors.decode(errors="replace"))

    def _sorted(self, lines: bytes) -> Iterator[bytes]:
        if b"{" not in lines:  # at the speed of memory, for whoever prints gigabytes
            self.keep(lines)
            return
        for line in lines.splitlines(keepends=True):
            if line.lstrip().startswith(b"{"):
                yield line
            elif not line.isspace():
                self.keep(line)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "".join(letter if letter.isprintable() else "?" for letter in lines[-1][:300]) if lines else ""


def _seconds(value: Any, name: str, where: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise ReportError(f"{where} reported {name}={value!r:.100}; expected seconds")
    return float(value)


@contextlib.contextmanager
def _ending(pid: int) -> Iterator[int | None]:
    """A file that becomes readable when the process ends; None where the kernel has no such."""
    try:
        descriptor = os.pidfd_open(pid)
    except (AttributeError, OSError):
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)
