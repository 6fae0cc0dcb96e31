"""The handle on the sampling process of this machine: starts it, keeps it going, drains it (`python -m` runs it).

Times are Unix seconds, by this process's wall clock when the handle was made and by the steady, system-wide
`perf_counter` from there on: setting the wall clock does not bend the series, nor does restarting the sampling process.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from harness.domain.errors import SetupError
from harness.telemetry.cores import spare_cpus
from harness.telemetry.sampling import Request, main

HIGHEST_RATE_HZ = 50.0
STOP_S = 0.15  # how long `stop` waits for the last sample before it kills the process
HELD_BYTES = 64 * 2**20  # of samples not yet drained; beyond that the oldest are given up, and a gap says so
RESTART_S = 0.1  # pause before a restart, doubled with each one that brought no sample
_SILENCE_S = 1.0  # without a sample, and so many beats, is a gap: the process was stopped, or the machine slept
_SILENCE_BEATS = 5
ATTEMPTS = 6  # so many in a row without a sample, and sampling is given up


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A span in which samples are missing, in Unix seconds; `ended_at` is None where they never came again."""

    started_at: float
    ended_at: float | None
    reason: str


class Sampler:
    """Samples this machine's hardware in a process of its own; usable from any thread, and as a context manager.

    If that process dies it is started again, and `gaps` records it. It never outlives the holder of the handle.
    """

    def __init__(
        self,
        rate_hz: float = 5.0,
        *,
        anchor_s: float | None = None,
        avoid_cores: Collection[int] = (),
        gpus: Sequence[str] | None = None,
        roots: Collection[int] | None = None,
    ) -> None:
        """Sample so many times a second (0: never), if possible on cores outside `avoid_cores`, the workers'.

        `anchor_s` is what the steady clock lacks to Unix time, by default as it is now. `gpus` are the UUIDs of the
        GPUs to read; None means all, an empty list none. `roots` are the process ids of the harness here, by default
        this one's: with all that they have started, workers aside, they are the device "harness". Raises SetupError
        for a rate that is out of range.
        """
        if not 0.0 <= rate_hz <= HIGHEST_RATE_HZ:
            raise SetupError(f"the telemetry rate must be from 0 (off) to {HIGHEST_RATE_HZ:g} Hz, got {rate_hz}")
        self._rate_hz = rate_hz
        self._avoid_cores = frozenset(avoid_cores)
        self._gpus = None if gpus is None else tuple(gpus)
        self._roots = (os.getpid(),) if roots is None else tuple(roots)
        self._anchor_s = time.time() - time.perf_counter() if anchor_s is None else anchor_s
        self._stopping = threading.Event()
        self._keeper: threading.Thread | None = None
        self._lock = threading.Lock()  # over all that follows
        self._child: subprocess.Popen[bytes] | None = None
        self._cpus: tuple[int, ...] = ()
        self._watched: dict[str, int] = {}
        self._lines: deque[bytes] = deque()
        self._held_bytes = 0
        self._losing = False
        self._last_s = 0.0  # of the last sample
        self._gaps: list[Gap] = []
        self._absent = {"sampler": "switched off (0 Hz)"} if rate_hz == 0.0 else {}

    def start(self) -> None:
        """Start sampling and return at once. A handle is started once; what comes later does nothing."""
        if self._rate_hz > 0.0 and self._keeper is None:
            # The kernel ends a child with the thread that started it, so one thread does that, and stays.
            self._keeper = threading.Thread(target=self._keep, name="telemetry", daemon=True)
            self._keeper.start()

    def widen(self, *, avoid_cores: Collection[int] = (), gpus: Sequence[str] = ()) -> None:
        """From now on read these GPUs too, and keep off these cores too where that is possible."""
        with self._lock:
            self._avoid_cores |= frozenset(avoid_cores)
            if self._gpus is not None:
                self._gpus = tuple(dict.fromkeys((*self._gpus, *gpus)))
            self._cpus = tuple(spare_cpus(self._avoid_cores))
            self._tell()

    def watch(self, name: str, pid: int) -> None:
        """Read the process `pid` too, as the device "worker:<name>"; it replaces an earlier process of that name."""
        with self._lock:
            self._watched = {**self._watched, name: pid}
            self._tell()

    def unwatch(self, name: str) -> None:
        """Read the process of that name no more."""
        with self._lock:
            self._watched = {other: pid for other, pid in self._watched.items() if other != name}
            self._tell()

    def drain(self) -> list[dict[str, Any]]:
        """Return the readings since the last call: `time` (Unix seconds), `device`, `metric`, `value`."""
        with self._lock:
            lines, self._lines, self._held_bytes, self._losing = self._lines, deque(), 0, False
        return [
            {"time": sample["time"], "device": device, "metric": metric, "value": value}
            for sample in map(json.loads, lines)
            for device, metric, value in sample["rows"]
        ]

    def absent(self) -> dict[str, str]:
        """Return what cannot be read, and why; the keys are those of `Probe.absent`, or "sampler" for all of it."""
        with self._lock:
            return dict(self._absent)

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """The spans that lack samples, between the first and the last."""
        with self._lock:
            return tuple(self._gaps)

    @property
    def pid(self) -> int | None:
        """The sampling process at this moment, if there is one."""
        with self._lock:
            return self._child.pid if self._child else None

    def stop(self) -> list[dict[str, Any]]:
        """End sampling and return the readings not yet drained; the process is gone then."""
        with self._lock:
            self._stopping.set()
            if self._child and self._child.stdin:
                self._child.stdin.close()
        if self._keeper:
            self._keeper.join(STOP_S)
            with self._lock:
                if self._child:
                    self._child.kill()
            self._keeper.join(1.0)  # at once, unless a driver holds the process in the kernel: then it is left to it
        return self.drain()

    def __enter__(self) -> Sampler:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _keep(self) -> None:
        """Keep one sampling process going, and its readings coming, until `stop`."""
        fruitless = 0
        while not self._stopping.is_set():
            last_sample_s: float | None = None
            try:
                child = self._launch()
            except OSError as problem:
                reason = f"the sampling process cannot be started: {problem}"
            else:
                last_sample_s, last_words = self._follow(child)
                reason = f"the sampling process ended with status {child.wait()}{last_words and ': ' + last_words}"
            with self._lock:
                if self._child and self._child.stdin:
                    self._child.stdin.close()
                self._child = None
                if self._stopping.is_set():
                    return
                fruitless = 0 if last_sample_s else fruitless + 1
                if last_sample_s:
                    self._gaps.append(Gap(started_at=last_sample_s, ended_at=None, reason=reason))
                if fruitless == ATTEMPTS:
                    self._absent = {"sampler": f"given up after {ATTEMPTS} attempts: {reason}"}
                    return
            self._stopping.wait(RESTART_S * 2**fruitless)

    def _launch(self) -> subprocess.Popen[bytes]:
        """Start the process and tell it what is asked of it; OSError if the system has no room for it."""
        root = str(Path(__file__).parents[2])
        paths = filter(None, (root, os.environ.get("PYTHONPATH")))
        with self._lock:
            self._cpus = tuple(spare_cpus(self._avoid_cores))
            # -P: a file of the user's in the working directory must not stand in for one of Python's modules.
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-m", "harness.telemetry.sampler"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a scheduling group of its own: see NICENESS
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            )
            assert self._child.stdin is not None
            os.set_blocking(self._child.stdin.fileno(), False)  # see `_tell`
            self._tell()
            return self._child

    def _tell(self) -> None:
        """Send the process what is asked of it; if it has died meanwhile, the next one will be told.

        Whoever asks never waits: what a process that reads nothing any more has no room for is lost to it.
        """
        if self._child is None or self._child.stdin is None:
            return
        request = Request(
            rate_hz=self._rate_hz,
            anchor_s=self._anchor_s,
            parent=os.getpid(),
            cpus=self._cpus,
            gpus=self._gpus,
            roots=self._roots,
            watch=self._watched,
        )
        with contextlib.suppress(OSError, ValueError):  # ValueError: `stop` has closed the pipe
            os.write(self._child.stdin.fileno(), json.dumps(asdict(request)).encode() + b"\n")

    def _follow(self, child: subprocess.Popen[bytes]) -> tuple[float | None, str]:
        """Take what the process says until it ends; return its last sample's time and its last line of plain text."""
        last_sample: bytes | None = None
        last_words = ""
        assert child.stdout is not None
        with child.stdout as lines:
            for line in lines:
                if line.startswith(b'{"time"') and line.endswith(b"\n"):
                    self._hold(line, first=last_sample is None)
                    last_sample = line
                elif line.startswith(b'{"absent"') and line.endswith(b"\n"):
                    with self._lock:
                        self._absent = json.loads(line)["absent"]
                elif line.strip():
                    last_words = line.decode(errors="replace").strip()
        return (None if last_sample is None else _time_of(last_sample)), last_words

    def _hold(self, sample: bytes, *, first: bool) -> None:
        """Keep a sample until it is drained; `first`: of its process, so that it ends the gap before it."""
        with self._lock:
            if first and self._gaps and self._gaps[-1].ended_at is None:
                gap = self._gaps.pop()
                self._gaps.append(Gap(started_at=gap.started_at, ended_at=_time_of(sample), reason=gap.reason))
            now_s = _time_of(sample)
            if not first and now_s - self._last_s > max(_SILENCE_S, _SILENCE_BEATS / self._rate_hz):
                reason = f"the sampling process did not come to read for {now_s - self._last_s:.1f} s"
                self._gaps.append(Gap(started_at=self._last_s, ended_at=now_s, reason=reason))
            self._last_s = now_s
            self._lines.append(sample)
            self._held_bytes += len(sample)
            while self._held_bytes > HELD_BYTES:
                lost = self._lines.popleft()
                self._held_bytes -= len(lost)
                lost_s = _time_of(lost)
                started_s = self._gaps.pop().started_at if self._losing else lost_s
                self._gaps.append(Gap(started_at=started_s, ended_at=lost_s, reason="samples were not drained in time"))
                self._losing = True


def _time_of(sample: bytes) -> float:
    """Return a sample's time, with which it begins; to parse all of it would take longer."""
    return float(sample[len(b'{"time": ') : sample.index(b",")])


if __name__ == "__main__":
    main()
