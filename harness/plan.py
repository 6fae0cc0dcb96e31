"""A suite and a request → the trials to run: pure, deterministic, and without TensorFlow.

What a request changes comes first: `small`, then each ``--set``, before the grid's conditions and computed axes
are evaluated. ``--where`` filters what comes out.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness import datasets
from harness.domain.component import text
from harness.domain.errors import SuiteError
from harness.domain.expression import Expression
from harness.domain.grid import MOST_TRIALS, Context, Excluded, check_names, show
from harness.domain.paths import MISSING, Field, Point, Resolver, value_key
from harness.domain.repeats import Auto
from harness.domain.setting import OBSERVATION, Setting
from harness.domain.suite import OWN_PATHS, LoadedSuite, Suite, Target, located
from harness.domain.trial import Trial
from harness.workloads.program.command import fill

Override = tuple[str, tuple[Any, ...]]  # a path, and the plain values that replace whatever the grid says of it
_Fields = Mapping[str, Field]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The trials of one request, in order: setting by setting, seed by seed."""

    suite: Suite  # as asked for: `small`, and overrides of its own fields (`OWN_PATHS`), are in it
    trials: tuple[Trial, ...]
    settings: int  # distinct settings
    axes: Mapping[str, tuple[Any, ...]]  # path -> its distinct values, as they stand in `Trial.axes`
    excluded: tuple[Excluded, ...]
    sha256: str  # of what was asked: the suite's declaration and the request's changes
    shard: tuple[int, int] | None = None  # which of how many, from 0, where these are the trials of one alone

    @property
    def target(self) -> Target | None:
        return self.suite.target


def plan(
    suite: Suite | LoadedSuite,
    *,
    overrides: Sequence[Override] = (),
    where: Sequence[str] = (),
    small: bool = False,
) -> Plan:
    """Return the trials that are asked for.

    An override replaces a path: every point of the grid loses it, points that then coincide are merged, and the
    rest is multiplied by the values given. The suite's own fields (`OWN_PATHS`) can be overridden as well.
    A condition of `where` sees the whole setting and its `seed`.

    Raises:
        SuiteError: naming the suite's file, the path and the value, for whatever cannot be right.
    """
    path = suite.path if isinstance(suite, LoadedSuite) else None
    declared = suite.suite if isinstance(suite, LoadedSuite) else suite
    with located(path):
        return _plan(declared, overrides, [Expression(condition) for condition in where], small)


def _plan(declared: Suite, overrides: Sequence[Override], where: Sequence[Expression], small: bool) -> Plan:
    suite, changes = _requested(declared, overrides, small)
    resolver = Resolver(suite.base)
    points, excluded = _points(suite, resolver, changes)
    if len(points) * len(suite.all_seeds) > MOST_TRIALS:
        total = f"{len(points):,} settings with {len(suite.all_seeds):,} seeds each"
        raise SuiteError(f"{total} are more than {MOST_TRIALS:,} trials; thin the grid out, or lower repeats")
    settings = [resolver.fields(point) for point in points]
    _no_duplicates(points, settings, resolver)
    for condition in where:
        check_names(condition, resolver, settings, besides=["seed"])
    axes = _axes(suite, changes)
    checks = _Checks(resolver, suite.target)
    trials: list[Trial] = []
    count = 0
    for point, fields in zip(points, settings, strict=True):
        kept = []
        for repeat, seed in enumerate(suite.all_seeds):
            failed = _failed(where, resolver, fields, seed)
            if failed is None:
                kept.append((repeat, seed))
            else:
                excluded.append(Excluded({**point, "seed": seed}, f"--where {failed}"))
        if not kept:
            continue
        if isinstance(suite.repeats, Auto) and len(kept) < suite.repeats.at_least:
            raise SuiteError(
                f"repeats: auto makes at least {suite.repeats.at_least} repeats, and --where leaves {len(kept)} of "
                f"{show(point)}; leave seed out of --where, or say how many with --set repeats=N"
            )
        count += 1
        setting = resolver.setting(fields)
        checks.check(setting, fields, point)
        _check_nodes(suite, setting)
        shown = tuple((path, resolver.shown(path, value)) for path, value in point.items() if path in axes)
        for repeat, seed in kept:
            trials.append(
                Trial(
                    setting=setting, seed=seed, repeat=repeat, axes=shown, timeout_s=suite.timeout,
                    checkpoint_s=suite.checkpoint,
                )
            )  # fmt: skip
    if not trials:
        reasons = dict.fromkeys(item.reason for item in excluded)
        raise SuiteError(f"no trial is left: all {len(excluded)} were left out by {'; '.join(reasons)}")
    _check_told_apart(trials, axes)
    asked = {
        "overrides": [[path, list(values)] for path, values in overrides if path != "checkpoint"],
        "where": [str(condition) for condition in where],
        "small": small,
    }
    return Plan(
        suite=suite,
        trials=tuple(trials),
        settings=count,
        axes=_distinct(trials),
        excluded=tuple(excluded),
        sha256=declared.sha256(asked),
    )


def shard(made: Plan, number: int, of: int) -> Plan:
    """Return the plan with the trials of one shard alone: every `of`-th, from `number` on, which counts from 0.

    Raises:
        SuiteError: for a suite whose trials cannot be told apart from one another's, or too few of them.
    """
    suite, count = made.suite, len(made.trials)
    if isinstance(suite.repeats, Auto):
        raise SuiteError(
            'repeats: how many are needed is decided over all trials, so that a run with repeats="auto" cannot be in '
            "shards; say how many with --set repeats=N"
        )
    if suite.every_node:
        raise SuiteError("every_node: such a run is of one cluster and cannot be in shards; run it as one")
    nodes = max(trial.setting.nodes for trial in made.trials)
    if nodes > 1:
        raise SuiteError(
            f"nodes={nodes}: a shard has one node, so that trials on several cannot be in shards; run them as one, or "
            "leave them out by --where 'nodes == 1'"
        )
    if not 1 <= of <= count:
        trials = f"{count} trial{'' if count == 1 else 's'}"
        raise SuiteError(f"{of} shards of {trials}: each needs a trial; ask for at most {count}")
    if not 0 <= number < of:
        raise SuiteError(f"shard {number} of {of}: there are 0 to {of - 1}")
    trials_of_it = made.trials[number::of]
    settings = len({(trial.setting_id, trial.arm) for trial in trials_of_it})
    return replace(made, trials=trials_of_it, settings=settings, shard=(number, of))


def on_nodes(made: Plan, names: Callable[[Trial], Iterable[str]]) -> Plan:
    """Return the plan of an `every_node` suite with each of its trials on every node that `names` has for it."""
    settings: dict[tuple[int, str], Setting] = {}
    trials = []
    for trial in made.trials:
        for name in names(trial):
            key = (id(trial.setting), name)
            if key not in settings:
                settings[key] = trial.setting.model_copy(update={"node": name})
            trials.append(replace(trial, setting=settings[key], axes=(*trial.axes, ("node", name))))
    return replace(made, trials=tuple(trials), axes=_distinct(trials))


def _check_nodes(suite: Suite, setting: Setting) -> None:
    """Raise for a setting that says where it runs in a suite that runs on every node."""
    if not suite.every_node:
        return
    if setting.node is not None:
        raise SuiteError(f"every_node: each trial runs on every node, and node={setting.node!r} names one; say one")
    if setting.nodes > 1:
        raise SuiteError(f"every_node: each trial runs on one node at a time, and nodes={setting.nodes} asks for more")


def _check_told_apart(trials: Sequence[Trial], axes: set[str]) -> None:
    """Raise for settings that differ only in what is looked at and kept besides, and so are one in the records."""
    watched = {path for path in axes if path.partition(".")[0] in OBSERVATION}
    if not watched:
        return
    seen: set[tuple[str, str]] = set()
    for trial in trials:
        if trial.key in seen:
            raise SuiteError(
                f"{', '.join(sorted(watched))}: two settings that differ in nothing else are one in the records; "
                "say it in the base, or give each a label"
            )
        seen.add(trial.key)


def in_full(suite: Suite | LoadedSuite) -> tuple[Trial, ...]:
    """Return the trials of a suite as it is declared, whatever a request changes. Its data need not be here."""
    path = suite.path if isinstance(suite, LoadedSuite) else None
    declared = suite.suite if isinstance(suite, LoadedSuite) else suite
    with located(path):
        resolver = Resolver(declared.base)
        settings = [resolver.setting(resolver.fields(point)) for point in _points(declared, resolver, [])[0]]
    seeds = list(enumerate(declared.all_seeds))
    return tuple(Trial(setting=setting, seed=seed, repeat=repeat) for setting in settings for repeat, seed in seeds)


def _requested(suite: Suite, overrides: Sequence[Override], small: bool) -> tuple[Suite, list[Override]]:
    """Return the suite with the changes of its own fields, and those of the setting's paths; later ones win."""
    if small and suite.small is None:
        raise SuiteError(f"the suite {suite.name!r} has no small variant; give it one as small={{'epochs': 2}}")
    changes = {path: (value,) for path, value in suite.small.items()} if small and suite.small else {}
    for path, values in overrides:
        changes.pop(path, None)  # so that the last one stands last
        changes[path] = values
    own = {path: changes.pop(path) for path in (*OWN_PATHS, "grid") if path in changes}
    return _with_own(suite, own), list(changes.items())


def _with_own(suite: Suite, changes: Mapping[str, tuple[Any, ...]]) -> Suite:
    """Return the suite, checked again, with these changes of its own fields."""
    if not changes:
        return suite
    own: dict[str, Any] = {}
    for path, values in changes.items():
        if path == "repeats" and values == (None,):
            raise SuiteError('repeats must be a whole number, "auto" or auto(...), got null')
        if path == "seeds" and not isinstance(values[0], list):
            own[path] = list(values)
        elif len(values) == 1:
            own[path] = values[0]
        else:
            raise SuiteError(f"{path} takes one value, got {', '.join(map(text, values))}")
    if "seeds" in own:
        own.setdefault("repeats", None)
    return Suite(**{name: getattr(suite, name) for name in Suite.model_fields} | own)


def _points(suite: Suite, resolver: Resolver, changes: Sequence[Override]) -> tuple[list[Point], list[Excluded]]:
    """Return the grid's points and what it excluded, with the changes in place."""
    if suite.grid is None and not changes:
        return [{}], []
    points: list[Point] = []
    excluded: list[Excluded] = []
    for values in itertools.product(*(values for _, values in changes)):
        fixed = dict(zip((path for path, _ in changes), values, strict=True))
        if suite.grid is None:
            points.append(fixed)
            continue
        found = suite.grid.points(Context(resolver, fixed))
        points += [{**point, **fixed} for point in found.kept] if fixed else found.kept
        excluded += found.excluded
    if changes:
        points = list({_point_key(point): point for point in reversed(points)}.values())[::-1]
        excluded = list({(_point_key(item.point), item.reason): item for item in excluded}.values())
    if not points:
        reasons = dict.fromkeys(item.reason for item in excluded)
        raise SuiteError(f"the grid is empty: all {len(excluded)} of its points are left out by {'; '.join(reasons)}")
    return points, excluded


def _point_key(point: Point) -> Any:
    return tuple(sorted((path, repr(value_key(value))) for path, value in point.items()))


def _no_duplicates(points: Sequence[Point], settings: Sequence[_Fields], resolver: Resolver) -> None:
    names = tuple(sorted({name for fields in settings for name in fields}))
    seen: dict[tuple[str, ...], int] = {}
    for index, fields in enumerate(settings):
        first = seen.setdefault(resolver.identity(fields, names), index)
        if first != index:
            raise SuiteError(
                f"two points of the grid are the same setting: number {first + 1} ({show(points[first])}) "
                f"and number {index + 1} ({show(points[index])}); for more trials of one setting use repeats"
            )


def _axes(suite: Suite, changes: Sequence[Override]) -> set[str]:
    """Return the paths that are axes: those of the grid, and those that a change gives several values."""
    declared = suite.grid.paths() if suite.grid is not None else set()
    return declared | {path for path, values in changes if len(values) > 1}


def _distinct(trials: Sequence[Trial]) -> dict[str, tuple[Any, ...]]:
    found: dict[str, dict[Any, Any]] = {}
    for trial in trials:
        for path, value in trial.axes:
            found.setdefault(path, {}).setdefault(value_key(value), value)
    return {path: tuple(values.values()) for path, values in found.items()}


def _failed(where: Sequence[Expression], resolver: Resolver, fields: _Fields, seed: int) -> Expression | None:
    """Return the first condition that the setting with this seed does not meet."""

    def lookup(path: str) -> Any:
        value = seed if path == "seed" else resolver.read(fields, path)
        return None if value is MISSING else value

    return next((condition for condition in where if not condition.holds(lookup)), None)


class _Checks:
    """What can be known of a setting without its data and without Keras; each dataset is asked once."""

    def __init__(self, resolver: Resolver, target: Target | None) -> None:
        self._resolver = resolver
        self._target = target
        self._facts: dict[tuple[str, ...], datasets.Facts | None] = {}

    def check(self, setting: Setting, fields: _Fields, point: Point) -> None:
        if setting.workload.name == "training":
            for name in ("dataset", "model"):
                if getattr(setting, name) is None:
                    raise SuiteError(
                        f"a training needs a {name}, and {show(point)} has none; say {name}=... in the base"
                    )
        if setting.workload.name == "program":
            fill(setting.workload.args["command"], setting)
        if setting.dataset is None:
            return
        key = self._resolver.identity(fields, ("dataset",))
        if key not in self._facts:
            self._facts[key] = datasets.facts(setting.dataset)
        facts = self._facts[key]
        if facts is None or setting.workload.name != "training":
            return
        if setting.batch_size > facts.train:
            raise SuiteError(
                f"batch_size is {setting.batch_size}, but the dataset {setting.dataset.name!r} gives "
                f"{facts.train} samples to train on; choose a batch_size of at most {facts.train}"
            )
        if self._target is not None and self._target.metric.startswith("val_") and not facts.val:
            raise SuiteError(
                f"the target is {self._target}, but the dataset {setting.dataset.name!r} holds nothing out; "
                "give it held_out=tail(0.2), or a target on the training itself"
            )


# The command line's PATH=VALUE[,VALUE…]. --------------------------------------------------------------------

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}
_CLOSING = {"(": ")", "[": "]", "{": "}"}


def parse_override(argument: str) -> Override:
    """Return the path and the values of ``PATH=VALUE[,VALUE…]``.

    A value is a number, ``true``, ``false``, ``null``, a bare word, a text in quotes, a list (``[128,64]``), or a
    component (``adam(learning_rate=0.01)``).

    Raises:
        SuiteError: naming the argument, for anything else.
    """
    path, equals, values = argument.partition("=")
    path = path.strip()
    if not equals or not path or not values.strip():
        raise SuiteError(f"--set {argument!r}: expected PATH=VALUE or PATH=VALUE,VALUE…, such as batch_size=32,64")
    try:
        found = tuple(_value(part) for part in _split(values))
    except ValueError as error:
        raise SuiteError(f"--set {argument!r}: {error}") from None
    if len(set(map(repr, found))) < len(found):
        raise SuiteError(f"--set {argument!r}: a value is given twice")
    return path, found


def _split(values: str) -> list[str]:
    """Return the parts between the commas that stand outside brackets and quotes."""
    parts, start, open_, quote = [], 0, [], ""
    for place, character in enumerate(values):
        if quote:
            quote = "" if character == quote and values[place - 1] != "\\" else quote
        elif character in "'\"":
            quote = character
        elif character in _CLOSING:
            open_.append(_CLOSING[character])
        elif open_ and character == open_[-1]:
            open_.pop()
        elif character in ")]}":
            raise ValueError(f"unexpected {character!r} in {values!r}")
        elif character == "," and not open_:
            parts.append(values[start:place])
            start = place + 1
    if quote or open_:
        raise ValueError(f"missing {quote or open_[-1]!r} in {values!r}")
    return [*parts, values[start:]]


def _value(written: str) -> Any:
    """Return the plain value of one part."""
    written = written.strip()
    if not written:
        raise ValueError("a value is empty")
    if written in _WORDS:
        return _WORDS[written]
    if _NUMBER.fullmatch(written):
        return int(written) if written.lstrip("+-").isdigit() else float(written)
    if written[0] in "'\"" and written[-1] == written[0] and len(written) > 1:
        return written[1:-1].replace("\\" + written[0], written[0])
    if written[0] == "[" and written[-1] == "]":
        return [_value(part) for part in _split(written[1:-1])] if written[1:-1].strip() else []
    if written[0] == "{":
        try:
            return json.loads(written)
        except json.JSONDecodeError as error:
            raise ValueError(f"{written!r} is not JSON: {error}") from None
    if (component := re.fullmatch(r"(\w+)\((.*)\)", written, re.DOTALL)) is not None:
        return {"name": component[1], **dict(_argument(part) for part in _split(component[2]) if part.strip())}
    if re.search(r"[\[\](){}'\"]", written):
        raise ValueError(f"cannot read the value {written!r}")
    return written


def _argument(written: str) -> tuple[str, Any]:
    name, equals, value = written.partition("=")
    if not equals or not name.strip().isidentifier():
        raise ValueError(f"{written.strip()!r} is no argument; write name=value, such as sgd(learning_rate=0.1)")
    return name.strip(), _value(value)
