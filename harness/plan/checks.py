"""What can be known of settings without their data and without Keras: those that cannot be right are refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness import datasets
from harness.domain.errors import SuiteError
from harness.domain.grid import show
from harness.domain.paths import Field, Point, Resolver
from harness.domain.setting import OBSERVATION, Dataset, Setting
from harness.domain.suite import Suite
from harness.domain.trial import Trial
from harness.workloads.program.command import fill


class Checks:
    """What can be known of one setting after the other; each dataset is asked once."""

    def __init__(self, resolver: Resolver, suite: Suite) -> None:
        self._resolver = resolver
        self._suite = suite
        self._facts: dict[tuple[str, ...], datasets.Facts | None] = {}

    def check(self, setting: Setting, fields: Mapping[str, Field], point: Point) -> None:
        """Raise for a setting that cannot be right; `fields` are what it was made of, by the grid's `point`."""
        if setting.workload.name == "training":
            for name in ("dataset", "model"):
                if getattr(setting, name) is None:
                    raise SuiteError(
                        f"a training needs a {name}, and {show(point)} has none; say {name}=... in the base"
                    )
        if setting.workload.name == "program":
            fill(setting.workload.args["command"], setting)
        if setting.dataset is not None:
            self._check_data(setting, setting.dataset, fields)
        if self._suite.every_node:
            _check_node(setting)

    def _check_data(self, setting: Setting, dataset: Dataset, fields: Mapping[str, Field]) -> None:
        key = self._resolver.identity(fields, ("dataset",))
        if key not in self._facts:
            self._facts[key] = datasets.facts(dataset)
        facts, target = self._facts[key], self._suite.target
        if facts is None or setting.workload.name != "training":
            return
        if setting.batch_size > facts.train:
            raise SuiteError(
                f"batch_size is {setting.batch_size}, but the dataset {dataset.name!r} gives "
                f"{facts.train} samples to train on; choose a batch_size of at most {facts.train}"
            )
        if target is not None and target.metric.startswith("val_") and not facts.val:
            raise SuiteError(
                f"the target is {target}, but the dataset {dataset.name!r} holds nothing out; "
                "give it held_out=tail(0.2), or a target on the training itself"
            )


def _check_node(setting: Setting) -> None:
    """Raise for a setting that says where it runs, as one of a suite that runs on every node."""
    if setting.node is not None:
        raise SuiteError(f"every_node: each trial runs on every node, and node={setting.node!r} names one; say one")
    if setting.nodes > 1:
        raise SuiteError(f"every_node: each trial runs on one node at a time, and nodes={setting.nodes} asks for more")


def check_unlike(points: Sequence[Point], settings: Sequence[Mapping[str, Field]], resolver: Resolver) -> None:
    """Raise for two points that are the same setting."""
    names = tuple(sorted({name for fields in settings for name in fields}))
    seen: dict[tuple[str, ...], int] = {}
    for index, fields in enumerate(settings):
        first = seen.setdefault(resolver.identity(fields, names), index)
        if first != index:
            raise SuiteError(
                f"two points of the grid are the same setting: number {first + 1} ({show(points[first])}) "
                f"and number {index + 1} ({show(points[index])}); for more trials of one setting use repeats"
            )


def check_told_apart(trials: Sequence[Trial], axes: set[str]) -> None:
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
