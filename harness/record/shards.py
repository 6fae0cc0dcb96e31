"""A run in shards: its trials dealt out to processes that know nothing of one another, each with records of its own.

``<run>/shards/0003/`` is an ordinary run folder, but for its run.json, whose ``shard`` says which it is of how many.
The run's own run.json has ``shards``, their number; once all have ended it holds what they came to, and ``merged`` says
of which of their ends. Until then readers take the shards together.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from harness.domain.errors import ResultsError
from harness.record import owner
from harness.record.journal import read_index
from harness.record.runfile import (
    ENDED,
    FILE,
    SUBMITTED,
    is_live,
    now_text,
    read_run_file,
    read_single,
    write_run_file,
)

FOLDER: Final = "shards"

# What run.json holds of how a run went: of one in shards, what `summed` and `merge` put there.
_OUTCOME: Final = (
    "merged", "started_at", "ended_at", "counts", "pending", "stopped", "attempts", "sampling", "lost_nodes",
    "set_aside", "wrong",
)  # fmt: skip

# Of several shards that do not run and have something left, the first of these is the run's state.
_WORST: Final = ("dead", "unreadable", "interrupted", "preempted", "failed", SUBMITTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardStanding:
    """How far a shard is; `state` as of a run, ``submitted`` where it has not begun."""

    number: int  # from 0
    state: str
    counts: dict[str, int]  # finished trials by status
    planned: int  # trials of this shard
    folder: Path

    @property
    def bad(self) -> int:
        """Trials that ended and did not complete."""
        return sum(self.counts.values()) - self.counts.get("completed", 0)

    @property
    def whole(self) -> bool:
        """Whether it has ended with nothing left to do."""
        return self.state in ("completed", "failed") and sum(self.counts.values()) >= self.planned


def shard_folder(top: Path, number: int) -> Path:
    return top / FOLDER / f"{number:04d}"


def top_of(shard: Path) -> Path:
    """Return the folder of the run that a shard's folder belongs to."""
    return shard.parent.parent


def is_shard(folder: Path) -> bool:
    """Tell whether a run folder is a shard of another run, by its place."""
    return folder.parent.name == FOLDER and (top_of(folder) / FILE).exists()


def apart(content: Mapping[str, Any]) -> bool:
    """Tell whether run.json is that of a run in shards that are not merged, or not any more."""
    return "shards" in content and "merged" not in content


def check(top: Path, shard: tuple[int, int] | None) -> None:
    """Raise unless the run is in as many shards as `shard`, which of how many, says; None: in none.

    Raises:
        ResultsError: with the way out.
    """
    content = read_run_file(top)
    count = content.get("shards")
    if shard is None and count is not None:
        again = content.get("again")
        way = shlex.join(map(str, again)) if isinstance(again, list) and again else f"harness submit --again {top.name}"
        raise ResultsError(
            f"{top}: this run is in {count} shards, each with records of its own; go on with it by `{way}`, or with "
            f"one shard by --shard K/{count}"
        )
    if shard is None or shard[1] == count:
        return
    number, asked = shard
    if count is None:
        raise ResultsError(f"{top}: --shard {number}/{asked}: this run is not in shards; leave --shard away")
    way = f"ask for --shard K/{count}, K from 0 to {count - 1}"
    raise ResultsError(f"{top}: --shard {number}/{asked}: this run is in {count} shards; {way}")


def reserve(top: Path, number: int, *, trials: int, settings: int) -> Path:
    """Return the folder of a shard, which is made where it is not there yet, for `trials` of so many `settings`.

    Raises:
        ResultsError: when it cannot be made.
    """
    folder = shard_folder(top, number)
    if (folder / FILE).exists():
        return folder
    whole = read_run_file(top)
    content = {name: value for name, value in whole.items() if name not in ("shards", *_OUTCOME)}
    content |= {"shard": [number, whole["shards"]], "state": SUBMITTED, "trials": trials, "settings": settings}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_run_file(folder, content)
    except OSError as error:
        raise ResultsError(f"{folder}: the shard's records cannot be written there ({error.strerror})") from error
    return folder


def reopen(top: Path) -> None:
    """Have readers take the shards of a merged run together again, as one of them goes on; it is merged anew later."""
    with contextlib.suppress(OSError, ResultsError):  # one that is just being merged: its new end is merged, too
        if apart(read_run_file(top)):
            return
        ownership = owner.acquire(top, attempt=1)
        try:
            write_run_file(top, _unmerged(read_run_file(top)))
        finally:
            ownership.release()


def _unmerged(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name not in _OUTCOME} | {"state": SUBMITTED}


def standing(top: Path) -> list[ShardStanding]:
    """Return how far each shard of a run is, by number.

    Raises:
        ResultsError: when the run's own run.json cannot be read.
    """
    content = read_run_file(top)
    return [_standing(top, content, number, one) for number, one in enumerate(_contents(top, content))]


def _contents(top: Path, content: Mapping[str, Any]) -> list[dict[str, Any] | ResultsError | None]:
    """Return run.json of each shard, its state as it is now; None for one that has not begun."""
    found: list[dict[str, Any] | ResultsError | None] = []
    for number in range(int(content["shards"])):
        folder = shard_folder(top, number)
        try:
            found.append(read_single(folder) if (folder / FILE).exists() else None)
        except ResultsError as error:
            found.append(error)
    return found


def _standing(
    top: Path, whole: Mapping[str, Any], number: int, content: dict[str, Any] | ResultsError | None
) -> ShardStanding:
    folder, state = shard_folder(top, number), SUBMITTED
    counts: dict[str, int] = {}
    if isinstance(content, ResultsError):
        state = "unreadable"
    elif content is not None:
        state = str(content.get("state"))
        counts = content.get("counts") or {}
        if is_live(content):
            counts = dict(Counter(read_index(folder).statuses.values()))
    planned = len(range(number, int(whole["trials"]), int(whole["shards"])))
    return ShardStanding(number=number, state=state, counts=counts, planned=planned, folder=folder)


def begun(top: Path, content: Mapping[str, Any]) -> dict[Path, dict[str, Any]]:
    """Return the shards that there are, each with its run.json, by number.

    Raises:
        ResultsError: for one whose run.json cannot be read.
    """
    found = {}
    for number, one in enumerate(_contents(top, content)):
        if isinstance(one, ResultsError):
            raise one
        if one is not None:
            found[shard_folder(top, number)] = one
    return found


def summed(top: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what run.json is to hold of how a run went, its state among it, from its shards as they are now."""
    contents = _contents(top, content)
    states = [_standing(top, content, number, one) for number, one in enumerate(contents)]
    known = {number: one for number, one in enumerate(contents) if isinstance(one, dict)}
    counts = sum((Counter(one.counts) for one in states), Counter[str]())
    found: dict[str, Any] = {
        "state": _state(states),
        "counts": dict(counts),
        "pending": sum(one.planned for one in states) - counts.total(),
        "stopped": next((one["stopped"] for one in known.values() if one.get("stopped")), None),
        "attempts": [{**one, "shard": number} for number in known for one in known[number].get("attempts", ())],
    }
    for name, which in (("started_at", min), ("ended_at", max)):
        instants = [one[name] for one in known.values() if isinstance(one.get(name), str)]
        if instants and (name == "started_at" or found["state"] in ENDED):
            found[name] = which(instants)
    wrong = next((one["wrong"] for one in known.values() if one.get("wrong")), None)
    found |= {} if wrong is None else {"wrong": wrong}
    for name in ("lost_nodes", "set_aside"):
        told = [one for each in known.values() for one in each.get(name) or ()]
        found |= {name: told} if told else {}
    sampling: dict[str, Any] = {}
    for one in known.values():
        sampling = merged_sampling(sampling, one.get("sampling") or {})
    return found | ({"sampling": sampling} if sampling else {})


def _state(shards: Sequence[ShardStanding]) -> str:
    """Return the state of the whole run."""
    states = {one.state for one in shards}
    if "running" in states:
        return "running"
    left = {one.state for one in shards if not one.whole}
    if left:
        worst = next((state for state in _WORST if state in left), "failed")
        return "dead" if worst == "unreadable" else worst
    return "failed" if "failed" in states else "completed"


def merged_sampling(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Return the samplers' notes by node, those of all attempts: what could not be read, and the gaps."""
    merged = dict(before)
    for node, notes in now.items():
        earlier = before.get(node) or {}
        absent = {**(earlier.get("absent") or {}), **(notes.get("absent") or {})}  # of one thing, the last reason
        gaps = [*earlier.get("gaps", ()), *notes.get("gaps", ())]
        merged[node] = {**earlier, **notes, "absent": absent, "gaps": gaps}
    return merged


def merge(top: Path, *, take_over: bool = False, anew: bool = False) -> bool:
    """Write the tables and the end of a run whose shards have all ended; return whether this process did it.

    It does not while a shard has something left to do, where another process merges, or, unless `anew`, where it is
    done already. A merge that was cut off is done again by the next one; `take_over` although another host's process
    may still be at it.

    Raises:
        ResultsError: when a table cannot be read or written, or a trial is in two shards.
    """
    if _ends(top, anew=anew) is None:
        return False
    try:
        ownership = owner.acquire(top, attempt=1, take_over=take_over)
    except ResultsError:
        return False
    except OSError as error:
        raise ResultsError(f"{top}: the shards cannot be merged there ({error.strerror}); they are kept") from error
    try:
        while (ends := _ends(top, anew=anew)) is not None:  # another, where one has gone on and ended meanwhile
            if _merge(top, ends, ownership):
                return True
        return False
    finally:
        ownership.release()


def _merge(top: Path, ends: str, ownership: owner.Ownership) -> bool:
    from harness.record import merging

    content = read_run_file(top)
    folders = list(begun(top, content))
    try:
        if "merged" in content:  # until the new tables are there, all of them, readers take the shards
            content = _unmerged(content)
            write_run_file(top, content)
        with merging.written(top, folders, content):
            ownership.check()
        if _ends(top, anew=True) != ends:  # one goes on: readers take the shards as they are, and it merges at its end
            return False
        ownership.check()
        whole = content | summed(top, content)
        write_run_file(top, whole | {"ended_at": now_text(), "merged": ends})
    except FileNotFoundError:
        if _ends(top, anew=True) != ends:
            return False
        raise
    except OSError as error:
        raise ResultsError(
            f"{top}: the shards cannot be merged ({error.strerror or error}); they are kept, and can be read as they "
            "are: make room or see to the folder's permissions, then ask for any of them once more"
        ) from error
    return True


def _ends(top: Path, *, anew: bool) -> str | None:
    """Return what tells the ends that all shards have come to from later ones; None where there is nothing to merge."""
    content = read_run_file(top)
    contents = _contents(top, content)
    if not all(_standing(top, content, number, one).whole for number, one in enumerate(contents)):
        return None
    ends = [one["ended_at"] for one in contents if isinstance(one, dict)]
    told = hashlib.sha256(json.dumps(ends).encode()).hexdigest()[:16]
    return None if content.get("merged") == told and not anew else told
