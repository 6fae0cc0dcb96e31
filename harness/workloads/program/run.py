"""One run of a program: started, followed line by line, and ended with all that it started."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from typing import Any, Final

from harness import processes
from harness.domain.errors import HarnessError
from harness.domain.outcome import Facts, Scores
from harness.domain.sources import Source
from harness.domain.trial import Trial
from harness.workloads.program.clock import Clock
from harness.workloads.program.command import command
from harness.workloads.program.output import Output
from harness.workloads.protocol import Epochs, Stopwatch
from harness.workloads.reported import ReportError, checked, result, untrained

_READ_BYTES: Final = 1 << 16
_POLL_S: Final = 0.2  # between looks at its memory and at the time
_FIRST_POLL_S: Final = 0.01  # each twice as long as the one before, since most of what is short is over soon
_MEANT: Final = re.compile(rb'\s*\{\s*"(epoch|event)"')  # how a line begins that was meant to be a report


class ProgramError(HarnessError):
    """A program could not be started, ended badly, or did not report what it should."""


class Run:
    """A trial that is one run of a program, from its start to its end."""

    def __init__(self, trial: Trial, files: Source | None, watch: Stopwatch) -> None:
        self._trial = trial
        self._copies: tempfile.TemporaryDirectory[str] | None = None
        self._command = command(trial, "." if files is None else self._place(files))
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
                clock = Clock(self._watch)
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
        self._tree = processes.Tree(self._process.pid, spare=self._beside)
        base = getrusage(RUSAGE_CHILDREN)
        self._watch.count_cpu(partial(self._cpu, base.ru_utime, base.ru_stime))

    def _cpu(self, user_s: float, system_s: float) -> tuple[float, float]:
        """Return the CPU seconds of this process and of the program's, those that have ended and those that run."""
        assert self._process is not None
        while True:  # once more if it ends meanwhile: it counts as running until then, and as ended once waited for
            code = self._process.poll()
            own, ended = getrusage(RUSAGE_SELF), getrusage(RUSAGE_CHILDREN)
            run = processes.usage(self._tree.pids())
            if self._process.poll() == code:
                break
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

    def _take(self, line: bytes, clock: Clock, epochs: Epochs) -> None:
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

    def _report(self, values: dict[str, Any], clock: Clock, epochs: Epochs) -> None:
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
        printed = self._output.last_line()
        said = f"its last line was: {printed}" if printed else "it printed nothing"
        last = self._output.last_error() or said
        if code > 0:
            raise ProgramError(f"{self._command[0]}: exit code {code}: {last}{_elsewhere()}")
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
            hint = " (the kernel does this when memory runs out)" if name == "SIGKILL" else ""
            raise ProgramError(f"{self._command[0]}: killed by {name}{hint}: {last}")
        if count == 0:
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
