"""Records a run: every finished trial into the log at once, Parquet parts meanwhile, the tables at the end."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness.domain.errors import ResultsError
from harness.domain.outcome import Finished
from harness.domain.trial import Trial
from harness.record import begin, journal, owner, runs, shards
from harness.record.compact import compact
from harness.record.journal import Index, Key
from harness.record.log import Damage, LogWriter, encode
from harness.record.parts import Parts
from harness.record.rows import node_record, trial_record
from harness.record.runfile import cannot_write
from harness.record.states import StateFiles, stem
from harness.record.whole import write_whole


class Recorder:
    """The one writer of a run's files; a context manager, which gives the run up when left without `finish`.

    `write`, `add_node` and `add_telemetry` return at once and may be called from any thread. Memory does not
    grow with the epochs of the run, only by an index entry a trial.
    """

    def __init__(self, folder: Path, ownership: owner.Ownership, content: dict[str, Any], index: Index) -> None:
        """Use `create` or `resume`."""
        self.folder = folder
        self._ownership = ownership
        self._content = content
        self._index = index
        self._retrying: set[Key] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._states = StateFiles(folder, run_attempt=ownership.owner.attempt, guard=ownership.check)
        self._states.remove(index.statuses)  # of trials that were recorded right before a kill
        self._outdated: list[tuple[int, Key]] = []  # trials with a state: where their records end in the log
        index.files.append(journal.log_file(folder, ownership.owner.attempt))
        index.ends.append(0)
        self._log = LogWriter(
            index.files[-1],
            guard=ownership.check,
            trials_before=len(index.statuses),
            way_out=f"free space or repair the disk, then go on with: {self._resume_hint()}",
        )
        self._parts = Parts(
            folder, run_id=self.run_id, index=index, log=self._log, lock=self._lock, guard=ownership.check
        )

    @classmethod
    def create(
        cls,
        results: Path,
        *,
        suite: str,
        info: Mapping[str, Any],
        run_id: str | None = None,
        attempt_info: Mapping[str, Any] | None = None,
    ) -> Self:
        """Begin a new run in ``results/<suite>/<run_id>``; without `run_id` it gets a new one.

        `info` is JSON that goes into run.json. These keys of it are read again: ``suite_sha256`` (what `resume`
        compares), ``axes`` (values by dotted path: they fix the types of the axes' columns), ``trials``
        (how many there are in all), ``noise`` (whether it measures the noise floor, which `find` goes by) and
        ``command`` (its words, to tell the user how to go on). `attempt_info` goes into run.json's entry of this
        attempt.

        Raises:
            ResultsError: when the folder exists, or cannot be written.
        """
        folder, content = begin.new_run(results, suite, run_id)
        content |= {"state": "running", "started_at": runs.now_text(), **info}
        return cls._begin(folder, content, Index(), attempt=1, take_over=False, attempt_info=attempt_info)

    @staticmethod
    def reserve(
        results: Path,
        *,
        suite: str,
        info: Mapping[str, Any],
        run_id: str | None = None,
        again: Sequence[str] = (),
    ) -> Path:
        """Make a run in ``results/<suite>/<run_id>`` for a process to begin later, by `resume`, and return its folder.

        `info` as in `create`; with ``shards``, how many, in it the run is begun by these. `again` are the words of the
        command that goes on with the run, instead of those of ``command``. Nobody owns it until it is begun.

        Raises:
            ResultsError: when the folder exists, or cannot be written.
        """
        folder, content = begin.new_run(results, suite, run_id)
        content |= {"state": runs.SUBMITTED, "submitted_at": runs.now_text(), "again": list(again), **info}
        try:
            runs.write_run_file(folder, content)
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise cannot_write(folder, error.strerror) from error
        return folder

    @classmethod
    def resume(
        cls,
        run_folder: Path,
        *,
        suite_sha256: str,
        force: bool = False,
        take_over: bool = False,
        attempt_info: Mapping[str, Any] | None = None,
        info: Mapping[str, Any] | None = None,
    ) -> Self:
        """Go on with a run that ended early or was killed, or begin a reserved one; what it recorded is in `done`.

        `force` resumes although the suite is another by now; `take_over` although its owner may still run.
        `attempt_info` goes into run.json's entry of this attempt; `info` takes the place of what run.json has under
        these keys.

        Raises:
            ResultsError: when the suite changed, the run has another owner, or its files cannot be read.
        """
        content = runs.read_run_file(run_folder)
        if not force:
            begin.refuse_another_suite(run_folder, content, suite_sha256)
        return cls._begin(
            run_folder,
            content | dict(info or {}),
            None,
            attempt=begin.next_attempt(run_folder, content),
            take_over=take_over,
            suite_sha256=suite_sha256,
            attempt_info=attempt_info,
        )

    @classmethod
    def _begin(
        cls,
        folder: Path,
        content: dict[str, Any],
        index: Index | None,
        *,
        attempt: int,
        take_over: bool,
        suite_sha256: str | None = None,
        attempt_info: Mapping[str, Any] | None = None,
    ) -> Self:
        try:
            ownership = owner.acquire(folder, attempt=attempt, take_over=take_over)
        except OSError as error:
            raise cannot_write(folder, error.strerror) from error
        try:
            index = begin.enter(
                folder, content, index, ownership.owner, suite_sha256=suite_sha256, attempt_info=attempt_info
            )
            return cls(folder, ownership, content, index)
        except OSError as error:
            ownership.release()
            raise cannot_write(folder, error.strerror) from error
        except BaseException:
            ownership.release()
            raise

    @property
    def run_id(self) -> str:
        return str(self._content["run_id"])

    @property
    def info(self) -> Mapping[str, Any]:
        """What run.json holds: the `info` that the run was created with, and the recorder's own."""
        return self._content

    @property
    def attempt(self) -> int:
        """The how-manieth process to write this run, from 1."""
        return self._ownership.owner.attempt

    @property
    def done(self) -> Mapping[Key, str]:
        """Status by key of every trial recorded, by this process or an earlier one."""
        return self._index.statuses

    @property
    def damages(self) -> tuple[Damage, ...]:
        """What of the log could not be read back on resuming, but for records that a kill cut off."""
        return tuple(damage for damage in self._index.damages if not damage.tail)

    @property
    def committed(self) -> int:
        """Records of trials that are safe on disk, those of earlier processes included."""
        return self._log.trials_safe

    @property
    def next_position(self) -> int:
        """One more than the last position recorded, so that positions stay unique when a run is resumed."""
        if not self._index.statuses:
            return 0
        trials = (entry.body()["trial"] for entry in journal.records(self._index) if entry.head["kind"] == "trial")
        return max((trial.get("position", -1) for trial in trials), default=-1) + 1

    def has(self, key: Key) -> bool:
        """Tell whether the trial is recorded and is not to be retried."""
        return key in self._index.statuses and key not in self._retrying

    def retry(self, key: Key) -> None:
        """Let a recorded trial be written once more; its old row holds until then."""
        if key in self._index.statuses:
            self._retrying.add(key)

    def write(self, finished: Finished) -> None:
        """Hand a finished trial to the log; it counts once committed, at most 50 ms later.

        Files of the trial are written before, so that what the log names is there.

        Raises:
            ResultsError: for a key already recorded and not given to `retry`, or when the log or a file cannot be
                written.
        """
        head, body = trial_record(finished, self._keep_files(finished))
        key = (head["trial_id"], head["arm"])
        line = encode(head, body)
        with self._lock:
            if key in self._index.statuses and key not in self._retrying:
                raise ResultsError(f"{self.folder}: trial {key[0]} (arm {key[1]}) is already recorded in this run")
            offset = self._log.write(line, trial=True)
            self._index.add(head, len(self._index.files) - 1, offset)
            self._retrying.discard(key)
            if len(self._states):
                self._outdated.append((offset + len(line), key))
                self._remove_states()
            self._parts.count_trial()

    def save_state(self, key: Key, attempt: int, state: bytes) -> str | None:
        """Keep the state of a trial that is running, in its how-manieth `attempt` of this process, instead of the one
        before; return what went wrong where it cannot be written. What comes late is dropped.

        Raises:
            ResultsError: when the run is another process's by now.
        """
        if self.has(key):
            return None
        try:
            self._states.write(key, attempt, state)
        except OSError as error:
            return f"its state cannot be saved ({error.strerror or error}); the one before is kept, if there is one"
        return None

    def state_of(self, trial: Trial) -> bytes | None:
        """Return the state that a trial can go on from, None where there is none.

        Raises:
            StateError: when it cannot be used, which says why; it is removed.
        """
        return self._states.read(trial)

    def drop_state(self, key: Key) -> None:
        """Let a trial begin anew."""
        self._states.remove([key])

    def _remove_states(self) -> None:
        """Remove the states of trials whose records are safe on disk."""
        safe = [key for end, key in self._outdated if end <= self._log.length]
        self._outdated = [(end, key) for end, key in self._outdated if end > self._log.length]
        self._states.remove(safe)

    def _keep_files(self, finished: Finished) -> list[str]:
        """Write the files of a trial into a folder of its own; return their paths below the run's."""
        trial, files = finished.trial, finished.outcome.files
        if not files:
            return []
        folder = Path("artifacts", stem(trial.key))
        self._ownership.check()
        shutil.rmtree(self.folder / folder, ignore_errors=True)  # of an attempt that was cut off
        kept = []
        for path, content in sorted(files.items()):
            place = self.folder / folder / path
            if not place.resolve().is_relative_to(self.folder.resolve() / folder):  # a worker named it: it may be wrong
                raise ResultsError(f"{self.folder}: a trial's file {path!r} would lie outside {folder}; it is not kept")
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                write_whole(place, content)
            except OSError as error:
                raise cannot_write(self.folder, error.strerror) from error
            kept.append(str(folder / path))
        return kept

    def add_node(self, row: Mapping[str, Any]) -> None:
        """Record a node: keys are columns of `nodes` without ``run_id``; a node added again is replaced."""
        self._log.write(encode(*node_record(row)), trial=False)

    def add_telemetry(self, rows: Iterable[Mapping[str, Any]], *, node: str | None = None) -> None:
        """Record readings: ``time`` (seconds since the Unix epoch), ``device``, ``metric``, ``value``.

        A reading may name its ``node``; otherwise it is `node`, or this host.
        """
        self._parts.add_telemetry(rows, node=node)

    def flush(self) -> None:
        """Return once every trial and node given so far is committed.

        Raises:
            ResultsError: when that cannot be.
        """
        self._log.flush()

    def finish(self, state: str, extra: Mapping[str, Any] | None = None) -> None:
        """End the run: write the four tables, then run.json with `state`, the counts and `extra`.

        Raises:
            ResultsError: when something cannot be written; what was committed stays in the log.
        """
        if state not in runs.ENDED:
            raise ValueError(f"a run ends as one of {', '.join(runs.ENDED)}, got {state!r}")
        self.flush()
        self._parts.stop()
        try:
            self._ownership.check()
            self._remove_states()
            self._parts.write_readings()
            told = dict(extra or {})
            if "sampling" in told:
                told["sampling"] = shards.merged_sampling(self._content.get("sampling") or {}, told["sampling"])
            contents = ({**self._content, **told},)
            index = compact(self.folder, self.run_id, self._index.axes, contents=contents, ends=True)
            self._ownership.check()
            self._content |= {
                **told,
                "state": state,
                "ended_at": runs.now_text(),
                "counts": dict(Counter(index.statuses.values())),
            }
            runs.write_run_file(self.folder, self._content)
        except OSError as error:
            raise ResultsError(
                f"{self.folder}: the tables cannot be written ({error.strerror or error}); all "
                f"{len(self._index.statuses)} finished trials are safe in the log; free space, then go on with: "
                f"{self._resume_hint()}"
            ) from error
        self._parts.remove()
        self.close()

    def discard_if_empty(self, wrong: str = "") -> None:
        """Give the run up and remove its folder, if this process began it and nothing was recorded in it.

        One that was reserved stays, with the log of who began it: it has failed, and run.json says what was `wrong`.
        """
        nothing = not self._index.statuses and not len(self._states)
        if nothing and "submitted_at" in self._content:
            self.finish("failed", {"pending": self._content.get("trials"), "wrong": wrong})
        elif nothing and self.attempt == 1:
            self.close()
            shutil.rmtree(self.folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                self.folder.parent.rmdir()  # the suite's, unless it holds other runs

    def close(self) -> None:
        """Commit what can be and give the run up; without `finish` it can be resumed. Does not raise."""
        if self._closed:
            return
        self._closed = True
        self._log.close()
        self._parts.stop()
        with contextlib.suppress(OSError, ResultsError):
            self._ownership.check()
            self._parts.write_readings()
        self._ownership.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _resume_hint(self) -> str:
        return runs.resume_command(self._content)
