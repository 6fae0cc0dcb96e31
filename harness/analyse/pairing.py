"""Two sets of trials → which settings are the same in both, and whether they ran alike enough to be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from harness.domain.component import did_you_mean
from harness.domain.errors import ResultsError, SuiteError
from harness.domain.naming import plural

# What trials of one setting must not differ in, unless that is allowed: each changes a time by more than a slow-down
# that anyone looks for, and none is part of the setting's id.
MIXABLE: Final = ("precision", "backend", "engine", "dispatch", "neighbours", "packed")

NAMES: Final = ("A", "B")  # the sides
_KEY: Final = ["run_id", "trial_id", "arm"]
_STRAY: Final = 1 / 3  # of a setting's trials: up to so many that ran alone (or beside others) do not make it a mixture
_SHOWN: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One setting, or one arm of it, that both sides have; `rows` are positions in their tables."""

    setting_id: str
    arms: tuple[str, str]
    rows: tuple[np.ndarray, np.ndarray]
    same: bool  # the same trials


Groups = tuple[tuple[str, str], ...]  # setting_id and arm of each


def pair_up(first: pd.DataFrame, second: pd.DataFrame) -> tuple[list[Pair], tuple[Groups, Groups]]:
    """Return the settings that both tables of trials have, in the first's order, and those that one alone has.

    They are matched by ``setting_id`` where neither side has several arms of a setting that both have; else by
    ``setting_id`` and ``arm``.

    Raises:
        ResultsError: when they have nothing in common, when arms leave open what belongs together, or when some trials
            of a setting, but not all, are in both.
    """
    tables = (first, second)
    arms: list[dict[str, list[str]]] = []
    for table in tables:
        found: dict[str, list[str]] = {}
        for setting, arm in dict.fromkeys(zip(table["setting_id"], table["arm"], strict=True)):
            found.setdefault(str(setting), []).append(str(arm))
        arms.append(found)
    common = [setting for setting in arms[0] if setting in arms[1]]
    if all(len(side[setting]) == 1 for setting in common for side in arms):
        keys = [(setting, (arms[0][setting][0], arms[1][setting][0])) for setting in common]
    else:
        keys = [(setting, (arm, arm)) for setting in common for arm in arms[0][setting] if arm in arms[1][setting]]
        open_ones = [setting for setting in common if not set(arms[0][setting]) & set(arms[1][setting])]
        if open_ones:
            raise _ambiguous(arms[0][open_ones[0]], arms[1][open_ones[0]])
    if not keys:
        raise _nothing_in_common(tables)
    places = [
        {key: np.asarray(rows) for key, rows in table.groupby(["setting_id", "arm"]).indices.items()}
        for table in tables
    ]
    identities = [list(zip(*(table[name].tolist() for name in _KEY), strict=True)) for table in tables]
    pairs = [
        _pair(identities, setting, both, (places[0][setting, both[0]], places[1][setting, both[1]]))
        for setting, both in keys
    ]
    matched = [{(setting, both[place]) for setting, both in keys} for place in (0, 1)]
    alone = [
        tuple(
            (setting, arm) for setting, found in side.items() for arm in found if (setting, arm) not in matched[place]
        )
        for place, side in enumerate(arms)
    ]
    return pairs, (alone[0], alone[1])


def _pair(
    keys: Sequence[Sequence[tuple[str, ...]]], setting: str, arms: tuple[str, str], rows: tuple[np.ndarray, np.ndarray]
) -> Pair:
    first, second = ({keys[place][row] for row in rows[place]} for place in (0, 1))
    shared = len(first & second)
    if shared and first != second:
        raise ResultsError(
            f"A has {len(first)} and B {plural(len(second), 'trial')} of the setting {setting}, and {shared} of them "
            "are the same: say with --where, or with another A and B, which trials belong to which side"
        )
    return Pair(setting_id=setting, arms=arms, rows=rows, same=bool(shared))


def _ambiguous(first: Sequence[str], second: Sequence[str]) -> ResultsError:
    told = " and ".join(
        f"{name} has the arm{'s' * (len(arms) > 1)} {_list(map(repr, arms))}"
        for name, arms in zip(NAMES, (first, second), strict=True)
    )
    several = first if len(first) > 1 else second
    return ResultsError(
        f"it is open what belongs together: of one setting, {told}; choose an arm, as with --where "
        f"\"arm in ['{several[0]}', …]\", or by an A or B such as \"arm == '{several[0]}'\""
    )


def _nothing_in_common(tables: Sequence[pd.DataFrame]) -> ResultsError:
    told = []
    for name, table in zip(NAMES, tables, strict=True):
        settings = table.drop_duplicates("setting_id")
        of = f" of {_list(map(repr, dict.fromkeys(table['suite'].dropna())))}" if "suite" in table.columns else ""
        which = f" ({_list(map(str, settings['setting_id']))})" if len(settings) else ""
        told.append(f"{name} has {plural(len(settings), 'setting') if len(settings) else 'no settings'}{of}{which}")
    return ResultsError(f"A and B have no setting in common, so there is nothing to compare: {'; '.join(told)}")


def _list(texts: object) -> str:
    found = list(texts)  # type: ignore[call-overload]
    return ", ".join(found[:_SHOWN]) + (", …" if len(found) > _SHOWN else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """In what the trials of one setting differ although they are compared, and how, in words."""

    allowed: Mapping[str, str]
    strays: tuple[int, int]  # trials of each side that ran alone, where most ran beside others, or the reverse


def refuse_mixing(
    first: pd.DataFrame, second: pd.DataFrame, pairs: Sequence[Pair], mix: Collection[str] = ()
) -> Mixture:
    """Return in which of `MIXABLE` the completed trials of a setting differ, if `mix` allows all of these.

    ``neighbours`` is whether other trials ran beside one. Where up to a third of a side's trials of a setting are an
    exception, as the first and the last of a run may be, they are counted as strays and nothing is refused.

    Raises:
        ResultsError: naming the values on both sides and the way out; also for a side that differs in itself.
        SuiteError: for a name in `mix` that is none of `MIXABLE`.
    """
    for name in mix:
        if name not in MIXABLE:
            raise SuiteError(
                f"--mix {name!r}: this is not among what can be mixed;{did_you_mean(name, MIXABLE)} "
                f"that is {', '.join(MIXABLE)}, or all"
            )
    columns = [{name: _values(table, name) for name in MIXABLE} for table in (first, second)]
    differing: dict[str, Counter[tuple[str, str]]] = {}
    strays = [0, 0]
    for pair in (one for one in pairs if not one.same):
        for name in MIXABLE:
            found = []
            for place, column in enumerate(columns):
                counts = Counter(value for row in pair.rows[place] if (value := column[name][row]) is not None)
                if name == "neighbours":
                    few = [value for value, count in counts.items() if count <= counts.total() * _STRAY]
                    strays[place] += sum(counts.pop(value) for value in few)
                found.append(sorted(counts))
            if all(found) and (found[0] != found[1] or len(found[0]) > 1):
                differing.setdefault(name, Counter())[", ".join(found[0]), ", ".join(found[1])] += 1
    told = {name: _told(counts, len(pairs)) for name, counts in differing.items()}
    refused = [name for name in told if name not in mix]
    if refused:
        every = ",".join(sorted({*refused, *mix}, key=MIXABLE.index))
        raise ResultsError(
            "trials of one setting ran differently, and what is compared would be that as well: "
            + "; ".join(f"{name}: {told[name]}" for name in refused)
            + f"; choose like with like with --where, or allow it: --mix {every}"
        )
    return Mixture(allowed=told, strays=(strays[0], strays[1]))


def _values(trials: pd.DataFrame, name: str) -> list[str | None]:
    """Return what each completed trial has of one of `MIXABLE`; None: not known, or it did not complete."""
    if name not in trials.columns:
        return [None] * len(trials)
    known = (trials[name].notna() & (trials["status"] == "completed")).to_numpy(dtype=bool)
    found = trials[name].tolist()
    words = {"neighbours": ("alone", "beside others"), "packed": ("whole shares", "packed")}.get(name)
    if words is not None:
        return [words[one > 0] if is_known else None for one, is_known in zip(found, known, strict=True)]
    return [str(one) if is_known else None for one, is_known in zip(found, known, strict=True)]


def _told(counts: Counter[tuple[str, str]], of: int) -> str:
    (first, second), most = counts.most_common(1)[0]
    where = "" if of == 1 else f" ({most} of {of} settings)"
    further = f", and {len(counts) - 1} other mixtures" if len(counts) > 1 else ""
    return f"{first} in A, {second} in B{where}{further}"
