"""How long trials wait that no worker is left for: nodes that were lost may come back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from harness.domain.errors import SetupError
from harness.domain.naming import plural
from harness.schedule.demand import Demand
from harness.schedule.notice import Notice
from harness.schedule.protocol import Executor, Worker
from harness.schedule.staff import Staff

_TELL_AFTER_S: Final = 3.0  # of waiting for a node: many a worker is back sooner


class Patience:
    """What is known of nodes and workers that are gone, and for how long trials have waited for them."""

    def __init__(
        self, executor: Executor, staff: Staff, *, patience_s: float, notify: Callable[[Notice], None]
    ) -> None:
        self._executor = executor
        self._staff = staff
        self._patience_s = patience_s
        self._notify = notify
        self._were_on: dict[Demand, set[str]] = {}  # the nodes that have served a demand
        self._proven: set[Demand] = set()  # that some worker was ready for
        self._reasons: dict[str, None] = {}  # why workers are gone
        self._since_s: dict[Demand, float] = {}  # without a worker
        self._told = False  # that nothing can run until a node is back

    # What it is told. ------------------------------------------------------------------------------------------------

    def opened(self, worker: Worker) -> None:
        """Note that a worker was opened on its nodes."""
        self._were_on.setdefault(worker.demand, set()).update(worker.nodes)

    def ready(self, demand: Demand) -> None:
        """Note that a worker has come up."""
        self._proven.add(demand)

    def gone(self, reason: str) -> None:
        """Note why a worker is gone, or none could be opened."""
        self._reasons[reason] = None

    # What it says. ---------------------------------------------------------------------------------------------------

    @property
    def proven(self) -> bool:
        """Whether any worker ever came up."""
        return bool(self._proven)

    def hosts(self, demand: Demand) -> list[str]:
        """Return the names of the nodes there are now that could serve a demand.

        Raises:
            SetupError: where there is none and none may come, and never was a worker.
        """
        try:
            return self._executor.node_names(demand)
        except SetupError:
            if not self._proven:
                raise
            return []

    def exhausted(self, waiting: Sequence[Demand], *, trials: int, idle: bool, now_s: float) -> list[Demand]:
        """Return the demands that wait once there is no worker for any of them, nothing runs, and no node has come
        back for long enough; nothing until then. `trials` is how many wait, for whom that is told.

        Raises:
            SetupError: at once where nothing is worth waiting for: the nodes are there, and their workers cannot start.
        """
        missing = [demand for demand in waiting if not self._staff.serving(demand)]
        self._since_s = {demand: self._since_s.get(demand, now_s) for demand in missing}
        hopeless = [demand for demand in missing if not self._may_return(demand)]
        why = "no worker is left to run trials on: " + "; ".join(self._reasons)
        if set(hopeless) - self._proven and not self._staff.set_aside:
            raise SetupError(why)
        if not missing or len(missing) < len(waiting) or not idle:
            self._told = False
            return []
        if hopeless == missing and not self._staff.set_aside:
            raise SetupError(why)
        waited_s = {demand: now_s - since_s for demand, since_s in self._since_s.items()}
        if all(demand in hopeless or waited_s[demand] >= self._patience_s for demand in missing):
            return missing
        if not self._told and min(waited_s.values()) >= _TELL_AFTER_S:
            self._told = True
            what = f"{plural(trials, 'trial')} for a node that can hold them ({'; '.join(map(str, missing))})"
            self._notify(Notice(what="waiting", worker="", text=f"{what}, for up to {self._patience_s:g} s"))
        return []

    def _may_return(self, demand: Demand) -> bool:
        """Whether a node may come back that served a demand, or was to."""
        were_on = self._were_on.get(demand)
        if were_on is None:
            return not self._staff.opened(demand) or bool(self._proven)
        return bool(were_on - set(self.hosts(demand)) - self._staff.set_aside.keys())
