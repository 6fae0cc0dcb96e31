"""Which settings a reference holds for: found once, in the suite as it is declared, and kept with the run by their ids.

So a run with ``--small``, or with other values, has other settings, and is not compared with what was published.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from harness.domain.component import Declaration, did_you_mean
from harness.domain.errors import SuiteError
from harness.domain.expression import Expression, unknown_path
from harness.domain.paths import MISSING, elsewhere, leaves, read
from harness.domain.reference import EPOCH_QUANTITIES, KINDS, Alike, AnyReference, Direction
from harness.domain.setting import EXECUTION, OBSERVATION, Dataset, Setting, canonical_numbers
from harness.domain.trial import Trial

Read = Callable[[str], Any]  # a dotted path -> its plain value in one setting, or MISSING


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """A reference with the ids of the settings that it holds for.

    The groups of a `Reference` are judged one by one, each holds the settings that its `over` joins; those of a
    `Direction` are two, the higher and the lower; those of an `Alike` are held against one another, a setting each.
    """

    reference: AnyReference
    groups: tuple[tuple[str, ...], ...]

    def plain(self) -> dict[str, Any]:
        """Return it as the plain JSON that `applied` reads."""
        kind = type(self.reference).__name__.lower()
        return {"kind": kind, **self.reference.plain(), "settings": [list(group) for group in self.groups]}


def applied(plain: Mapping[str, Any]) -> Applied:
    """Return what `Applied.plain` wrote.

    Raises:
        SuiteError: when it cannot have been.
    """
    fields = dict(plain)
    kind, groups = fields.pop("kind", None), fields.pop("settings", None)
    if kind not in KINDS or not isinstance(groups, list):
        raise SuiteError(f"expected a reference with its kind and settings, got {dict(plain)!r}")
    return Applied(reference=KINDS[kind](**fields), groups=tuple(tuple(map(str, group)) for group in groups))


def resolve(references: Iterable[AnyReference], trials: Sequence[Trial]) -> tuple[Applied, ...]:
    """Return each reference with the settings that it holds for; `trials` are all that the suite declares.

    Raises:
        SuiteError: for a condition that selects nothing, an unknown path or quantity, and an epoch that no such
            training comes to.
    """
    fields = _Fields()
    found = []
    for reference in references:
        try:
            found.append(_resolved(reference, trials, fields))
        except SuiteError as error:
            kind = type(reference).__name__.lower()
            raise SuiteError(f"{kind} {reference.name!r}: {error}") from None
    return tuple(found)


class _Fields:
    """Reads paths of settings; a field that many settings share becomes plain once."""

    def __init__(self) -> None:
        self._plain: dict[int, tuple[Any, Any]] = {}  # by identity; the field is kept, so that it stays its own

    def of(self, setting: Setting) -> Read:
        return partial(self._read, setting)

    def _read(self, setting: Setting, path: str) -> Any:
        root, _, rest = path.partition(".")
        value = getattr(setting, root, MISSING) if root in Setting.model_fields else MISSING
        if isinstance(value, Declaration):
            if id(value) not in self._plain:
                self._plain[id(value)] = (value, value.plain())
            value = self._plain[id(value)][1]
        return read(value, rest) if rest else value


def _resolved(reference: AnyReference, trials: Sequence[Trial], fields: _Fields) -> Applied:
    groups = []
    for where in reference.conditions:
        settings = _selected(where, trials, fields)
        for setting in settings:
            _can_be_measured(reference, setting)
        groups.append(settings)
    if isinstance(reference, Direction):
        return Applied(reference=reference, groups=tuple(_ids(settings) for settings in groups))
    (settings,) = groups
    if isinstance(reference, Alike):
        if len({(setting.setting_id, setting.arm) for setting in settings}) < 2:
            raise SuiteError(f"one setting alone meets {reference.where!r}; a likeness is one of at least two")
        return Applied(reference=reference, groups=tuple((one,) for one in _ids(settings)))
    if not reference.over:
        return Applied(reference=reference, groups=tuple((one,) for one in _ids(settings)))
    for path in reference.over:
        if all(fields.of(setting)(path) is MISSING for setting in settings):
            raise SuiteError(f"over: {unknown_path(path, leaves(settings[0].plain()))}")
    return Applied(
        reference=reference,
        groups=joined(reference.over, [(setting.plain(), setting.setting_id) for setting in settings]),
    )


def _ids(settings: Iterable[Setting]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(setting.setting_id for setting in settings))


def joined(over: Sequence[str], settings: Iterable[tuple[Mapping[str, Any], str]]) -> tuple[tuple[str, ...], ...]:
    """Return the ids of settings, given as plain values with their ids, in groups that differ by the axes `over`."""
    groups: dict[str, dict[str, None]] = {}
    for plain, identity in settings:
        kept: Any = {name: value for name, value in plain.items() if name not in (*EXECUTION, *OBSERVATION)}
        for path in over:
            kept = _without(kept, path.split("."))
        groups.setdefault(json.dumps(canonical_numbers(kept), sort_keys=True), {})[identity] = None
    return tuple(map(tuple, groups.values()))


def _without(plain: Any, parts: Sequence[str]) -> Any:
    """Return a copy of a plain value with null at the place that `parts` lead to."""
    if not parts:
        return None
    part, rest = parts[0], parts[1:]
    if isinstance(plain, dict) and part in plain:
        return plain | {part: _without(plain[part], rest)}
    if isinstance(plain, list) and part.isdigit() and int(part) < len(plain):
        return [_without(item, rest) if place == int(part) else item for place, item in enumerate(plain)]
    return plain


def _selected(where: str, trials: Sequence[Trial], fields: _Fields) -> list[Setting]:
    """Return the distinct settings that meet a condition, in the order of the trials."""
    condition = Expression(where)
    settings = {id(trial.setting): trial.setting for trial in trials}
    check_paths(condition, [fields.of(setting) for setting in settings.values()], trials[0].setting.plain())
    if "seed" in condition.names:
        met = {
            id(trial.setting): trial.setting
            for trial in trials
            if holds(condition, fields.of(trial.setting), trial.seed)
        }
    else:
        met = {key: setting for key, setting in settings.items() if holds(condition, fields.of(setting))}
    if not met:
        raise SuiteError(f"no setting of the suite meets {where!r}; `harness plan --all` lists what there is")
    return list(met.values())


def holds(condition: Expression, setting: Read, seed: int | None = None) -> bool:
    """Return whether a setting, with this seed, meets a condition; a path that it does not have is None."""

    def lookup(path: str) -> Any:
        value = seed if path == "seed" else setting(path)
        return None if value is MISSING else value

    return condition.holds(lookup)


def check_paths(condition: Expression, settings: Sequence[Read], plain: Mapping[str, Any]) -> None:
    """Raise for a path that none of the settings has; `plain` is one of them, whose paths a message lists.

    Raises:
        SuiteError: naming the path and those that would be right.
    """
    for path in condition.names:
        if path == "seed" or path in elsewhere(path):
            continue
        if all(setting(path) is MISSING for setting in settings):
            raise SuiteError(
                f"expression {condition.text!r}: {unknown_path(path, ['seed', *leaves(plain)], elsewhere(path))}"
            )


def _can_be_measured(reference: AnyReference, setting: Setting) -> None:
    """Raise for what a training with this setting is known not to come to; other workloads may record anything."""
    if setting.workload.name != "training" or reference.epoch is None:
        return
    if isinstance(reference.epoch, int) and reference.epoch > setting.epochs:
        raise SuiteError(f"epoch is {reference.epoch}, but a training that it selects has only {setting.epochs}")
    right = [*EPOCH_QUANTITIES, *setting.further]
    for name in Expression(reference.metric).names:
        if name not in right:
            raise SuiteError(
                f"metric: {name!r} is not recorded;{did_you_mean(name, right)} the quantities of an epoch are: "
                f"{', '.join(right)}; others of Keras's are added by metrics=[...]"
            )


def plain_setting(canonical: str, arm: Mapping[str, Any]) -> dict[str, Any]:
    """Return a setting's plain values from its canonical JSON and those of its arm by field; what leaves the training
    as it is (see `OBSERVATION`), and what is null of the arm, is at its default."""
    told = {name: value for name, value in arm.items() if value is not None}  # runs of before a field was there
    if isinstance(told.get("node_labels"), str):
        told["node_labels"] = json.loads(told["node_labels"])
    values: dict[str, Any] = _DEFAULTS | json.loads(canonical) | told
    if values["dataset"] is not None:
        values["dataset"] = _DATASET_DEFAULTS | values["dataset"]
    return values


_DEFAULTS = Setting().plain()
_DATASET_DEFAULTS = Dataset(name="-").plain()
