"""The processes that run trials: a nursery, which imports what they need once, and the workers it forks.

A nursery is started by `harness.schedule.process` with the environment that its workers are to have, since thread pools
are sized and devices are chosen by variables set before Python starts. It imports the back end, touches no device, so
that it has no thread of its own, and then listens on a Unix socket. Each connection becomes a worker: the request names
its cores and its log, the nursery forks, and the new process answers on that connection from then on. So a back
end is imported once a node and a replaced worker is there in a tenth of a second.

The messages are a name and a value:

    in    sources, check, run, stop
    out   ready, checked, epoch, done

Standard input is a lifeline, shared by the nursery and its workers: when it closes, whoever started them is gone, and
so go they.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import os
import random
import selectors
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection, Listener
from typing import Any, NoReturn


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True, help="path of the Unix socket to listen on")
    parser.add_argument("--body", required=True, help="module:attribute that makes the Body")
    parser.add_argument("--backend", required=True)
    arguments = parser.parse_args(argv)
    key = bytes.fromhex(os.environ.pop("HARNESS_WORKER_KEY"))
    began = time.perf_counter()
    module, _, attribute = arguments.body.partition(":")
    body = getattr(importlib.import_module(module), attribute)()
    body.preload(arguments.backend)
    gc.collect()
    gc.freeze()  # the workers share these objects' memory as long as nobody touches them
    import_s = time.perf_counter() - began
    with Listener(arguments.address, family="AF_UNIX", authkey=key) as listener:
        _serve(listener, lambda connection, request: _work(connection, request, body, arguments.backend, import_s))


def _serve(listener: Listener, work: Any) -> None:
    """Fork a worker for each connection, until the lifeline closes."""
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
        if os.fork() == 0:
            waiting.close()
            _run(work, connection, request)
        connection.close()


def _run(work: Any, connection: Connection, request: dict[str, Any]) -> NoReturn:
    """Be the worker; never return into the nursery's code."""
    try:
        work(connection, request)
    except BaseException:
        traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)  # no interpreter shutdown: TensorFlow's takes longer than a trial


def _work(connection: Connection, request: dict[str, Any], body: Any, backend: str, import_s: float) -> None:
    """Run trials for as long as the connection lasts."""
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if request["cores"] and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, request["cores"])
    random.seed()
    threading.Thread(target=_follow_lifeline, daemon=True).start()
    began = time.perf_counter()
    body.prepare(backend)
    prepare_s = import_s + time.perf_counter() - began
    connection.send(("ready", {"prepare_s": prepare_s, "pid": os.getpid()}))
    while True:
        try:
            what, value = connection.recv()
        except (EOFError, OSError):
            return
        if what == "stop":
            return
        if what == "sources":
            body.sources(value)
        elif what == "check":
            connection.send(("checked", body.check(value)))
        elif what == "run":
            outcome = body.run(value, lambda epoch: connection.send(("epoch", epoch)), _nothing)
            connection.send(("done", outcome))


def _nothing() -> None:
    """Between chunks there is nothing to do here: the process is ended from outside when its time is up."""


def _follow_lifeline() -> None:
    try:
        while os.read(0, 4096):
            pass
    finally:
        os._exit(1)


if __name__ == "__main__":
    try:
        main()
    except Exception:
        traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)
