"""The connection to a Ray cluster: made, watched, and made again when the cluster comes back.

Ray's own `ray.nodes()` is not asked: while the head is gone it blocks, and it ends the process when another head
answers in its place. See docs/cluster.md for what Ray does when, and after how long.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import ray
import ray._private.worker
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.exceptions import ActorDiedError, ActorUnavailableError, AuthenticationError, GetTimeoutError

from harness.domain.errors import SetupError
from harness.schedule.join import listens, probe

_ASK_S: Final = 2.0  # the head answers in milliseconds
_LOST_AFTER_S: Final = 5.0  # where nothing listens at the head's address any more
_SILENT_AFTER_S: Final = 60.0  # where something does, and does not answer
_ANOTHER: Final = "WrongClusterID"  # what a head that was started anew says to those of the one before
_ALIVE: Final = 0
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A node of the cluster, as Ray has it."""

    node_id: str
    name: str  # that it was given, else its host's
    address: str
    port: int
    resources: Mapping[str, float]
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def cpus(self) -> float:
        return self.resources.get("CPU", 0.0)

    @property
    def bundle(self) -> dict[str, float]:
        """All of the node's CPUs and GPUs."""
        return {name: self.resources[name] for name in ("CPU", "GPU") if self.resources.get(name)}

    @property
    def accelerators(self) -> tuple[str, ...]:
        """The kinds that Ray knows the node's GPUs by, such as "A100"."""
        prefix = "accelerator_type:"
        return tuple(name.removeprefix(prefix) for name in self.resources if name.startswith(prefix))


class Link:
    """This process's connection to Ray: to the cluster at `address`, or to one that is started here for it."""

    def __init__(self, address: str | None) -> None:
        self.address = address
        self._gcs: Any = None
        self._failing_since: float | None = None
        self._failure = ""

    def start_here(self, folder: Path, *, cpus: int) -> None:
        """Start a Ray on this machine, with what it writes in `folder`.

        Raises:
            SetupError: when that fails.
        """
        _hush()
        handlers = {number: signal.getsignal(number) for number in _SIGNALS}
        try:
            context = ray.init(
                num_cpus=cpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
                configure_logging=False,
                object_store_memory=80_000_000,
                _temp_dir=str(folder),
            )
            self._gcs = GcsClient(address=context.address_info["gcs_address"])
        except Exception as error:
            self.close()
            raise SetupError(f"Ray could not be started on this machine: {first_line(error)}") from error
        finally:
            _take_back(handlers)

    def connect(self) -> None:
        """Connect to the cluster.

        Raises:
            SetupError: when that fails, with why.
        """
        _hush()
        handlers = {number: signal.getsignal(number) for number in _SIGNALS}
        try:
            self._gcs = GcsClient(address=self.address)  # it says at once what Ray takes 20 s for and leaves out
            ray.init(address=self.address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
        except AuthenticationError:
            self.close()
            raise SetupError(_refused(self.address)) from None
        except Exception as error:
            self.close()
            raise SetupError(self._why(error)) from error
        finally:
            _take_back(handlers)
        self._failing_since = None

    def present(self) -> list[Seen] | None:
        """Return the nodes that are alive, without taking part; None while no Ray answers there, or it does not say.

        Raises:
            SetupError: when it refuses the token.
        """
        try:
            if self._gcs is None:
                probe(str(self.address), within_s=_ASK_S)
                self._gcs = GcsClient(address=self.address)
            return self.nodes()
        except AuthenticationError:
            raise SetupError(_refused(self.address)) from None
        except Exception:
            self._gcs = None
            return None

    def _why(self, error: Exception) -> str:
        causes = f"{error} {error.__cause__ or ''}"
        if "Version mismatch" in causes:
            told = " ".join(causes[causes.index("Version mismatch") :].split())
            return f"the cluster at {self.address} has other versions; install the same on both. Ray says: {told}"
        if "No node info found" in causes:
            return (
                f"this machine has no node of the cluster at {self.address}, which a run needs where it is started; "
                f"start one with `harness node --join {self.address} --ip …` (with --num-cpus 0 where no trial is to "
                "run), or run on one of its nodes"
            )
        return f"Ray could not be reached at {self.address}: {first_line(error)}"

    def nodes(self) -> list[Seen]:
        """Return the nodes that are alive.

        Raises:
            Exception: of several kinds, when the head does not say in time.
        """
        try:
            told = self._gcs.get_all_node_info(timeout=_ASK_S).values()
        except Exception as error:
            self._failing_since = self._failing_since or time.monotonic()
            self._failure = str(error)
            raise
        self._failing_since = None
        return [
            Seen(
                node_id=node.node_id.hex(),
                name=_given_name(node) or node.node_manager_hostname,
                address=node.node_manager_address,
                port=node.node_manager_port,
                resources=dict(node.resources_total),
                labels=dict(node.labels),
            )
            for node in told
            if node.state == _ALIVE
        ]

    def lost(self) -> bool:
        """Whether the cluster is gone, by how `nodes` failed: it has to be connected to anew."""
        if self.address is None or self._failing_since is None:
            return False
        failing_s = time.monotonic() - self._failing_since
        if _ANOTHER in self._failure or failing_s > _SILENT_AFTER_S:
            return True
        return failing_s > _LOST_AFTER_S and not listens(self.address, within_s=_ASK_S)  # one that is busy does

    def answers(self) -> bool:
        """Whether a Ray listens at the cluster's address."""
        try:
            probe(str(self.address), within_s=_ASK_S)
        except SetupError:
            return False
        return True

    def close(self) -> None:
        """End the connection, and a Ray that was started for it; some 5 s where the head is gone."""
        self._gcs = None
        handlers = {number: signal.getsignal(number) for number in _SIGNALS}
        with contextlib.suppress(Exception):
            ray.shutdown()
        _take_back(handlers)


def _given_name(node: Any) -> str:
    """Return what a node was named by whoever started it: Ray names one by its address otherwise."""
    return "" if node.node_name == node.node_manager_address else str(node.node_name)


def _hush() -> None:
    """Have Ray print nothing here: what happens to nodes is told anyway, and Ray tells it on standard output, amid what
    other programs are to read."""
    logging.getLogger("ray").setLevel(logging.ERROR)
    ray._private.worker._worker_logs_enabled = False


def _take_back(handlers: Mapping[signal.Signals, Any]) -> None:
    """Have these signals be handled as before: Ray takes them for itself, and ends the process with a dump."""
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            signal.signal(number, handler)


def expect_admission(address: str) -> None:
    """Raise unless the head at HOST:PORT lets this process in: `ray start` would try for 20 s and end in a traceback.

    Raises:
        SetupError: with the way out.
    """
    try:
        GcsClient(address=address)
    except AuthenticationError:
        raise SetupError(_refused(address)) from None
    except Exception as error:
        raise SetupError(f"Ray could not be reached at {address}: {first_line(error)}") from error


def _refused(address: str | None) -> str:
    return (
        f"the cluster at {address} refuses the token; set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, to that of its nodes"
    )


def why_lost(error: BaseException) -> str:
    """Return in words why a node's agent cannot be used any more."""
    if isinstance(error, GetTimeoutError | ActorUnavailableError):
        return "it does not answer"
    if isinstance(error, ActorDiedError):
        return "Ray has lost it" if "node has died" in str(error) else "the harness's process there has ended"
    return first_line(error)


def first_line(error: BaseException) -> str:
    """Return what an error says first."""
    told = str(error).strip().splitlines()
    return told[0] if told else type(error).__name__
