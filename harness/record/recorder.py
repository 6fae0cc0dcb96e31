"""Records a run: every finished trial into the log at once, Parquet parts meanwhile, the tables at the end."""

from __future__ import annotations

import contextlib
import importlib
import shlex
import shutil
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness.domain.errors import ResultsError
from harness.domain.outcome import Finished
from harness.domain.trial import Trial
from harness.record import journal, owner, runs, shards
from harness.record.journal import Index, Key
from harness.record.log import Damage, Entry, LogWriter, encode, scan
from harness.record.rows import axis_type, merge_types, node_record, trial_record
from harness.record.schema import AXIS_COLUMNS, SCHEMA_VERSION
from harness.record.states import StateFiles, stem

PART_TRIALS = 500  # trials of a part
PART_INTERVAL_S = 5.0  # at first; parts of a long run come at a twentieth of its age, up to:
PART_INTERVAL_MOST_S = 60.0
PREPARE_AFTER_S = 2.0

_READING = ("node", "time", "device", "metric", "value")


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
        self._readings: dict[str, list[Any]] = {name: [] for name in _READING}
        self._part_place = (0, 0)  # file number, offset: what the parts of trials hold already
        self._parts = 0
        self._new_trials = 0
        self._wake = threading.Event()
        self._stopping = False
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
        self._part_thread = threading.Thread(target=self._write_parts, name="harness-parts", daemon=True)
        self._part_thread.start()

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
        folder, content = _new(results, suite, run_id)
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
        folder, content = _new(results, suite, run_id)
        content |= {"state": runs.SUBMITTED, "submitted_at": runs.now_text(), "again": list(again), **info}
        try:
            runs.write_run_file(folder, content)
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise _cannot_write(folder, error.strerror) from error
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
        recorded = content.get("suite_sha256")
        if recorded != suite_sha256 and not force:
            submitted = "submitted_at" in content
            since = "was submitted" if submitted else "began"
            way = "submit it anew" if submitted else "begin a new run, or resume all the same with --force"
            raise ResultsError(
                f"{run_folder}: the suite has changed since this run {since} (sha256 {str(recorded)[:12]} then, "
                f"{suite_sha256[:12]} now), or other --set, --where or --small are asked for: undo the change and go "
                f"on with `{runs.resume_command(content)}`; or {way}"
            )
        attempt = len(content.get("attempts", ())) + 1
        for path in journal.log_files(run_folder)[-1:]:
            attempt = max(attempt, int(path.stem.rpartition("-")[2]) + 1)
        return cls._begin(
            run_folder,
            content | dict(info or {}),
            None,
            attempt=attempt,
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
            raise _cannot_write(folder, error.strerror) from error
        try:
            (folder / journal.FOLDER).mkdir(exist_ok=True)
            if index is None:
                index = journal.read_index(folder)
                _clear_parts(folder, ended=not runs.is_live(content))
            axes = content.get("axes")
            for path, values in axes.items() if isinstance(axes, dict) else ():
                kinds = [axis_type(value) for value in values] if isinstance(values, list) else []
                if path not in AXIS_COLUMNS and kinds:
                    index.axes[path] = merge_types([index.axes.get(path, "null"), *kinds])
            me = ownership.owner
            content["state"] = "running"
            content.setdefault("started_at", runs.now_text())
            content["schema_version"] = SCHEMA_VERSION  # of a run that an older harness began, from here on
            if suite_sha256 is not None:
                content["suite_sha256"] = suite_sha256
            content["attempts"] = [
                *content.get("attempts", ()),
                {
                    "attempt": attempt,
                    "host": me.host,
                    "pid": me.pid,
                    "slurm_job_id": me.slurm_job_id,
                    "slurm_restart": me.slurm_restart,
                    "suite_sha256": content.get("suite_sha256"),
                    "started_at": runs.now_text(),
                    **(attempt_info or {}),
                },
            ]
            for name in ("ended_at", "counts", "pending", "stopped", "unserved", "wrong"):  # of the attempt before
                content.pop(name, None)
            runs.write_run_file(folder, content)
            return cls(folder, ownership, content, index)
        except OSError as error:
            ownership.release()
            raise _cannot_write(folder, error.strerror) from error
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
            self._new_trials += 1
            if self._new_trials >= PART_TRIALS:
                self._wake.set()

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
                hidden = place.with_name(f".{place.name}.tmp")
                hidden.write_bytes(content)
                hidden.replace(place)
            except OSError as error:
                raise _cannot_write(self.folder, error.strerror) from error
            kept.append(str(folder / path))
        return kept

    def add_node(self, row: Mapping[str, Any]) -> None:
        """Record a node: keys are columns of `nodes` without ``run_id``; a node added again is replaced."""
        self._log.write(encode(*node_record(row)), trial=False)

    def add_telemetry(self, rows: Iterable[Mapping[str, Any]], *, node: str | None = None) -> None:
        """Record readings: ``time`` (seconds since the Unix epoch), ``device``, ``metric``, ``value``.

        A reading may name its ``node``; otherwise it is `node`, or this host.
        """
        default = node or socket.gethostname()
        with self._lock:
            for row in rows:
                value = row["value"]
                self._readings["node"].append(str(row.get("node") or default))
                self._readings["time"].append(float(row["time"]))
                self._readings["device"].append(str(row["device"]))
                self._readings["metric"].append(str(row["metric"]))
                self._readings["value"].append(None if value is None else float(value))

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
        self._stop_parts()
        try:
            self._ownership.check()
            self._remove_states()
            self._write_readings()
            told = dict(extra or {})
            if "sampling" in told:
                told["sampling"] = shards.merged_sampling(self._content.get("sampling") or {}, told["sampling"])
            contents = ({**self._content, **told},)
            index = _compact(self.folder, self.run_id, self._index.axes, contents=contents, ends=True)
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
        shutil.rmtree(self.folder / "parts", ignore_errors=True)
        self._readings = {name: [] for name in _READING}
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
        self._stop_parts()
        with contextlib.suppress(OSError, ResultsError):
            self._ownership.check()
            self._write_readings()
        self._ownership.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _resume_hint(self) -> str:
        return runs.resume_command(self._content)

    def _stop_parts(self) -> None:
        self._stopping = True
        self._wake.set()
        self._part_thread.join()

    def _write_parts(self) -> None:
        """The thread that writes parts. A full disk does not end it: the log says so, and to more effect."""
        started = time.monotonic()
        if not self._wake.wait(PREPARE_AFTER_S):
            _prepare()
        while not self._stopping:
            interval = (time.monotonic() - started) / 20
            self._wake.wait(min(max(interval, PART_INTERVAL_S), PART_INTERVAL_MOST_S))
            self._wake.clear()
            if self._stopping:
                return
            try:
                self._ownership.check()
                self._write_readings()
                while self._write_trial_part():
                    pass
            except (OSError, ResultsError):
                continue

    def _write_trial_part(self) -> bool:
        """Write the next trials that are committed as a part, and tell whether there were as many as fit one."""
        from harness.record import tables

        with self._lock:
            axes = dict(self._index.axes)
            self._new_trials = 0
        entries, place = self._next_entries()
        if not entries:
            return False
        paths = {table: self.folder / "parts" / table / f"{self._parts:05d}.parquet" for table in ("trials", "epochs")}
        for path in paths.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        with tables.aside(paths) as hidden:
            records = ((entry.head, entry.body()) for entry in entries)  # what is made of readings comes at the end
            tables.write_tables(records, run_id=self.run_id, axes=axes, paths=hidden)
        self._parts += 1
        self._part_place = place
        return len(entries) == PART_TRIALS

    def _next_entries(self) -> tuple[list[Entry], tuple[int, int]]:
        number, offset = self._part_place
        entries: list[Entry] = []
        last = len(self._index.files) - 1
        while True:
            end = self._log.length if number == last else self._index.ends[number]
            for entry in scan(self._index.files[number], start=offset, end=end):
                offset = entry.offset + entry.length
                if entry.head["kind"] == "trial":
                    entries.append(entry)
                if len(entries) == PART_TRIALS:
                    return entries, (number, offset)
            if number == last:
                return entries, (number, offset)
            number, offset = number + 1, 0

    def _write_readings(self) -> None:
        """Write the readings gathered since the last time as a part."""
        from harness.record import tables

        with self._lock:
            readings, self._readings = self._readings, {name: [] for name in _READING}
        if not readings["time"]:
            return
        folder = self.folder / "parts" / "telemetry"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            number = 1 + max((int(path.stem) for path in folder.glob("*.parquet")), default=-1)
            with tables.aside({"telemetry": folder / f"{number:05d}.parquet"}) as hidden:
                tables.write_telemetry(readings, hidden["telemetry"], run_id=self.run_id)
        except OSError:
            with self._lock:
                for name, values in readings.items():
                    self._readings[name][:0] = values
            raise


def _new(results: Path, suite: str, run_id: str | None) -> tuple[Path, dict[str, Any]]:
    """Make the folder of a new run; return it, and how its run.json begins."""
    run_id = run_id or runs.new_run_id()
    folder = runs.run_folder(results, suite, run_id)
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        if folder.is_dir():
            way = f"go on with it by --resume --run {shlex.quote(run_id)}, or give the new one another name"
            raise ResultsError(f"{folder}: this run exists already; {way}") from None
        raise _cannot_write(folder, "there is a file of that name") from None
    except OSError as error:
        raise _cannot_write(folder, error.strerror) from error
    return folder, {"schema_version": SCHEMA_VERSION, "suite": suite, "run_id": run_id}


def rebuild(run_folder: Path) -> None:
    """Write trials, epochs and nodes of a run that nobody is writing anew from its log and its readings.

    The readings themselves are not in the log and stay as they are; without them, what is made of them is null.

    Raises:
        ResultsError: when the log is gone, the run has an owner, or the readings cannot be read.
    """
    content = runs.read_run_file(run_folder)
    if "shards" in content:
        if not shards.merge(run_folder, anew=True):
            raise ResultsError(f"{run_folder}: its shards have not all ended, or are just being merged; wait for them")
        return
    if not journal.log_files(run_folder):
        raise ResultsError(f"{run_folder}: the log is gone, so the tables cannot be rebuilt; restore them from a copy")
    holder = owner.read(run_folder)
    if holder is not None and holder.alive() is not False:
        raise ResultsError(f"{run_folder}: this run belongs to {holder}; its tables can be rebuilt when it has ended")
    try:
        _compact(run_folder, str(content["run_id"]), {}, contents=(content,), ends=False)
    except OSError as error:
        raise _cannot_write(run_folder, error.strerror or str(error)) from error


def _prepare() -> None:
    """Import what writing tables needs, while the workers start and nothing is being measured."""
    for module in ("harness.record.joining", "pandas"):  # PyArrow looks for pandas when it first converts something
        importlib.import_module(module)


def _compact(
    folder: Path, run_id: str, axes: Mapping[str, str], *, contents: Iterable[Mapping[str, Any]], ends: bool
) -> Index:
    """Write the tables from what the log really holds, and return its index.

    `contents` are what run.json holds or is to hold; where the run `ends`, its parts of readings become a table too.
    """
    from harness.record import joining, tables

    index = journal.read_index(folder, axes)
    paths = {name: folder / f"{name}.parquet" for name in ("trials", "epochs", "nodes")}
    if ends:
        paths["telemetry"] = folder / "telemetry.parquet"
    with tables.aside(paths) as hidden:
        readings = joining.readings(folder)
        if ends:
            merged = hidden.pop("telemetry")
            tables.merge("telemetry", readings, merged)
            readings = [merged]
        records = joining.joined(index, readings, joining.recorded_gaps(*contents))
        tables.write_tables(records, run_id=run_id, axes=index.axes, paths=hidden)
    return index


def _clear_parts(folder: Path, *, ended: bool) -> None:
    """Make a resumed run's parts hold all earlier readings once, and nothing else.

    Parts of trials are written anew from the log. After a run that had ended, its readings are in
    telemetry.parquet, which becomes the first part; after one that was killed they are in the parts.
    """
    parts, table = folder / "parts", folder / "telemetry.parquet"
    for path in (*folder.glob(".*.tmp"), *parts.glob("*/.*.tmp")):
        path.unlink()
    for name in ("trials", "epochs"):
        shutil.rmtree(parts / name, ignore_errors=True)
    if not table.exists():
        return
    if ended:
        shutil.rmtree(parts, ignore_errors=True)
        (parts / "telemetry").mkdir(parents=True)
        table.rename(parts / "telemetry" / "00000.parquet")
    else:
        table.unlink()  # killed between writing the tables and run.json: the parts are all still there


def _cannot_write(folder: Path, reason: str | None) -> ResultsError:
    return ResultsError(
        f"{folder}: the results cannot be written there ({reason}); make room or give yourself the right to "
        "write there, or choose another place with --results DIR"
    )
