"""The worker process: one share of a node, one back end, trial after trial.

Started by `harness.schedule.process`. It listens on a Unix socket for one connection, over which the messages
(a name and a value) go:

    in    sources, prepare, check, run, stop
    out   ready, checked, epoch, done

Its standard input is a lifeline: when it closes, the process that started this one is gone, and so goes this one.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import threading
import time
import traceback
from multiprocessing.connection import Listener


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True, help="path of the Unix socket to listen on")
    parser.add_argument("--body", required=True, help="module:attribute that makes the Body")
    parser.add_argument("--backend", required=True)
    parser.add_argument("--cores", default="", help="comma-separated cores to stay on")
    arguments = parser.parse_args(argv)
    if arguments.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in arguments.cores.split(",")})
    threading.Thread(target=_follow_lifeline, daemon=True).start()
    key = bytes.fromhex(os.environ.pop("HARNESS_WORKER_KEY"))
    with Listener(arguments.address, family="AF_UNIX", authkey=key) as listener:
        module, _, attribute = arguments.body.partition(":")
        began = time.perf_counter()
        body = getattr(importlib.import_module(module), attribute)()
        body.prepare(arguments.backend)
        ready = {"prepare_s": time.perf_counter() - began, "pid": os.getpid()}
        connection = listener.accept()
    connection.send(("ready", ready))
    while True:
        try:
            what, value = connection.recv()
        except (EOFError, OSError):
            return
        if what == "stop":
            connection.close()
            sys.stdout.flush()
            os._exit(0)  # no interpreter shutdown: TensorFlow's takes longer than a trial
        elif what == "sources":
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
