"""The processes that run trials: a nursery, which imports what they need once, and the workers it forks.

A nursery is started by `harness.schedule.nursery` with the environment that its workers are to have, since thread pools
are sized and devices are chosen by variables set before Python starts. It imports the back end, touches no device, so
that it has no thread of its own, and then listens on a Unix socket. Each connection becomes a worker: the request names
its cores and its log, the nursery forks, and the new process answers on that connection from then on. So a back
end is imported once a node and a replaced worker is there in a tenth of a second.

With `--prime FILE`, a pickled list of `Prime`, the nursery forks those workers without being asked, and each compiles
what its first trial needs before it waits for its connection, on a socket of its own: the nursery's address with the
worker's number behind it.

The messages are a name and a value:

    in    surroundings, sources, clock, check, calibrate, run, stop
    out   ready, checked, epoch, state, done

Standard input is a lifeline, shared by the nursery and its workers: when it closes, whoever started them is gone, and
so go they, with what they have started, and the nursery removes their folder. It adopts what a worker leaves behind
when it dies, and ends it.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import os
import pickle
import random
import selectors
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any, Final, NoReturn

from harness import processes
from harness.domain.outcome import Outcome
from harness.domain.sources import Source
from harness.domain.trial import Trial

_HEAR_EVERY_S: Final = 0.2
_ENDING_S: Final = 2.0  # for workers to notice that their lifeline is closed

_terminations: list[int] = []  # SIGTERMs that a worker has outlived


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True, help="path of the Unix socket to listen on")
    parser.add_argument("--body", required=True, help="module:attribute that makes the Body")
    parser.add_argument("--backend", required=True)
    parser.add_argument("--prime", help="pickled list of Prime")
    arguments = parser.parse_args(argv)
    key = bytes.fromhex(os.environ.pop("HARNESS_WORKER_KEY"))
    began = time.perf_counter()
    module, _, attribute = arguments.body.partition(":")
    body = getattr(importlib.import_module(module), attribute)()
    body.preload(arguments.backend)
    gc.collect()
    gc.freeze()  # the workers share these objects' memory as long as nobody touches them
    import_s = time.perf_counter() - began
    processes.adopt_orphans()
    workers: set[int] = set()
    if arguments.prime:
        for number, prime in enumerate(pickle.loads(Path(arguments.prime).read_bytes())):
            own = Listener(f"{arguments.address}.{number}", family="AF_UNIX", authkey=key)
            pid = os.fork()
            if pid == 0:
                _run(partial(_work_primed, own, prime), body, arguments.backend, import_s)
            workers.add(pid)
            _abandon(own)  # it is the worker's now
    with Listener(arguments.address, family="AF_UNIX", authkey=key) as listener:
        work = partial(_work, body=body, backend=arguments.backend, import_s=import_s)
        _serve(listener, work, workers)
        _end_orphans(workers)
    deadline = time.monotonic() + _ENDING_S
    while any(map(processes.alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.005)
    shutil.rmtree(os.environ["HARNESS_WORKER_FOLDER"], ignore_errors=True)


@dataclass(frozen=True, kw_only=True)
class Prime:
    """A worker to fork at once, and the trial to compile for."""

    name: str
    cores: tuple[int, ...]
    log: str
    trial: Trial
    sources: dict[str, Source]


def _serve(listener: Listener, work: Callable[..., None], workers: set[int]) -> None:
    """Fork a worker for each connection, and add it to the `workers`, until the lifeline closes."""
    waiting = selectors.DefaultSelector()
    waiting.register(0, selectors.EVENT_READ)
    waiting.register(listener._listener._socket.fileno(), selectors.EVENT_READ)  # type: ignore[attr-defined]
    while True:
        ready = {key.fd for key, _ in waiting.select()}
        if 0 in ready and not os.read(0, 4096):
            return
        if ready == {0}:
            continue
        try:
            connection = listener.accept()
            request = connection.recv()
        except (OSError, EOFError):
            continue  # whoever asked is gone
        if request["after"] is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(request["after"], os.WNOHANG)  # its exit code has been read
            workers.discard(request["after"])
            _end_orphans(workers)
        pid = os.fork()
        if pid == 0:
            waiting.close()
            _abandon(listener)
            _run(work, connection, request)
        workers.add(pid)
        connection.close()


def _end_orphans(workers: Collection[int]) -> None:
    """End what workers that died have left behind."""
    processes.end_below(os.getpid(), spare=workers)
    processes.reap(workers)


def _abandon(listener: Listener) -> None:
    """Close this process's copy of a socket that another one listens on, and leave its file."""
    inner = listener._listener  # type: ignore[attr-defined]
    inner._unlink.cancel()
    inner._socket.close()


def _run(work: Callable[..., None], *arguments: Any) -> NoReturn:
    """Be a worker; never return into the nursery's code."""
    try:
        work(*arguments)
    except BaseException:
        traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)  # no interpreter shutdown: TensorFlow's takes longer than a trial


def _work(connection: Connection, request: dict[str, Any], body: Any, backend: str, import_s: float) -> None:
    """Settle on a share and run trials for as long as the connection lasts."""
    if request["group"] is not None:
        os.environ["HARNESS_GROUP"] = request["group"]  # the back end then meets the others
    prepare_s = _settle(request["cores"], request["log"], body, backend)
    _answer(connection, body, import_s + prepare_s)


def _work_primed(own: Listener, prime: Prime, body: Any, backend: str, import_s: float) -> None:
    """Settle on a share, compile ahead, then wait for the connection and run trials for as long as it lasts."""
    prepare_s = _settle(prime.cores, prime.log, body, backend)
    body.sources(prime.sources)
    body.prime(prime.trial)
    with own:
        connection = own.accept()
        connection.recv()  # the request, of which all is known
    _answer(connection, body, import_s + prepare_s)


def _settle(cores: Collection[int], log: str, body: Any, backend: str) -> float:
    """Stay on these cores, print to this log, and touch the device; return the seconds that took."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    random.seed()
    _outlive_termination()
    _offer_to_the_kernel()
    processes.adopt_orphans()  # what a trial leaves behind is this worker's to end
    threading.Thread(target=_follow_lifeline, daemon=True).start()
    began = time.perf_counter()
    body.prepare(backend)
    return time.perf_counter() - began


def _outlive_termination() -> None:
    """Go on after SIGTERM where it is blocked: there a batch system sends it to every process of a job that is to end,
    while the run still saves. What a trial starts has it as usual, since programs end their own processes by it."""
    if signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ()):
        return

    def let_through() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def be_as_usual() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        let_through()

    signal.signal(signal.SIGTERM, lambda number, frame: _terminations.append(number))
    os.register_at_fork(  # what comes before a child is as usual waits, and is not lost
        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}),
        after_in_parent=let_through,
        after_in_child=be_as_usual,
    )
    let_through()


def _end_terminated(trial: Trial, outcome: Outcome) -> None:
    """Be lost with a trial that may have ended as it did by the SIGTERM that this process has outlived."""
    if _terminations and (outcome.status != "completed" or trial.setting.workload.name == "program"):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)


def _offer_to_the_kernel() -> None:
    """See that the kernel, where memory runs out, ends a trial and not what supervises it: the largest one."""
    with contextlib.suppress(OSError):  # there is no such thing on this system
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _answer(connection: Connection, body: Any, prepare_s: float) -> None:
    inherited = dict(os.environ)
    connection.send(("ready", {"prepare_s": prepare_s, "pid": os.getpid()}))
    while True:
        try:
            what, value = connection.recv()
        except (EOFError, OSError):
            return
        if what == "stop":
            return
        if what == "surroundings":
            folder, changed = value
            _move(folder, changed, inherited)
        elif what == "sources":
            body.sources(value)
        elif what == "clock":
            body.clock(value)
        elif what == "calibrate":
            connection.send(("calibrated", _calibrate(body, cores=value)))
        elif what == "check":
            connection.send(("checked", body.check(value)))
        elif what == "run":
            trial, state = value
            outcome = body.run(
                trial,
                lambda epoch: connection.send(("epoch", epoch)),
                _Ear(connection, body),
                state=state,
                on_state=lambda state: connection.send(("state", state)),
            )
            _end_terminated(trial, outcome)
            connection.send(("done", outcome))


def _calibrate(body: Any, *, cores: Collection[int]) -> dict[str, Any]:
    """Measure the cores of the share, then the back end: from here, where it counts as this worker's own load."""
    from harness.telemetry.calibrate import calibrate_share  # psutil is for this alone

    values: dict[str, Any] = calibrate_share(cores) | body.calibrate()
    return values


def _move(folder: str, changed: Mapping[str, str | None], inherited: Mapping[str, str]) -> None:
    """Go to a folder, and have the variables that were inherited, but for those that are changed; None: not set."""
    try:
        os.chdir(folder)
    except OSError:  # it is gone, or this user may not enter it: nothing is found there, nor where the run before was
        os.chdir("/")
    moved = {**inherited, **changed, "HARNESS_STARTED_IN": folder}
    wanted = {name: value for name, value in moved.items() if value is not None}
    for name in os.environ.keys() - wanted.keys():
        del os.environ[name]
    os.environ.update({name: value for name, value in wanted.items() if os.environ.get(name) != value})


class _Ear:
    """Hears between two chunks of a trial whether its state is to be saved now. (When its time is up, the process is
    ended from outside.)"""

    def __init__(self, connection: Connection, body: Any) -> None:
        self._connection, self._body = connection, body
        self._heard_s = time.monotonic()

    def __call__(self) -> None:
        now_s = time.monotonic()
        if now_s - self._heard_s < _HEAR_EVERY_S:  # there may be thousands of chunks a second
            return
        self._heard_s = now_s
        with contextlib.suppress(EOFError, OSError):  # whoever asked is gone, and so will this process be
            if self._connection.poll() and self._connection.recv()[0] == "save":
                self._body.save_now()


def _follow_lifeline() -> None:
    try:
        while os.read(0, 4096):
            pass
    finally:
        processes.end_below(os.getpid())
        os._exit(1)


if __name__ == "__main__":
    try:
        main()
    except Exception:
        traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)
