"""A setting: what a training is, without its seed, and how it is executed.

Three groups of fields. Those that change the mathematics make up `setting_id`; those of `EXECUTION` only say how or
where it is executed and make up the *arm*, so that one setting can be compared across back ends, engines, precisions
and hardware; those of `OBSERVATION` say what is looked at and kept besides, and are part of neither.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from harness.domain.component import Component, Declaration, did_you_mean, plain_value
from harness.domain.errors import SuiteError
from harness.domain.metrics import METRICS

# Fields that leave the mathematics as it is (in exact arithmetic): they name the arm, not the setting.
EXECUTION = (
    "backend", "precision", "engine", "dispatch", "cpus", "gpus", "exclusive", "devices", "nodes", "accelerator",
    "node_labels", "node", "label",
)  # fmt: skip

# The back ends that can split a batch over several devices.
SPLITTING = ("jax",)

# How many workers one core, or one GPU, is shared by at most.
MOST_PACKED = 64

# The engines of each back end, each of which falls back to the next.
ENGINES = {"tensorflow": ("xla", "graph", "fit"), "jax": ("xla", "fit"), "torch": ("graph", "eager", "fit")}

# What names a node, a kind of GPU and a label's value may have; none has what parts an arm's text: a comma or "=".
_NODE_NAME = r"^[\w.:@-]+$"
_ACCELERATOR = r"^\w[\w. /-]*$"
_LABEL = re.compile(r"[\w./-]*")

# Fields that change nothing of the training: what is measured and kept of it besides.
OBSERVATION = ("metrics", "save_model", "tensorboard")


def _component(kind: str) -> BeforeValidator:
    return BeforeValidator(lambda value: value if value is None else Component.of(kind, value))


def _components(kind: str) -> BeforeValidator:
    def convert(value: Any) -> Any:
        if isinstance(value, str | Component | Mapping) or callable(value):
            value = [value]
        return tuple(Component.of(kind, item) for item in value) if isinstance(value, list | tuple) else value

    return BeforeValidator(convert)


class Dataset(Declaration):
    """Which samples: a name, the options that every dataset has, and the arguments of its own.

    `take` keeps the first samples of the training part; `scale` is "none" (as stored), "unit" (divided by
    the largest value the type can hold, 255 for pixels), "standard" (less the mean, over the standard
    deviation, both of the training samples used, as two scalars) or "columns" (the same for each feature by itself;
    one that never varies becomes 0). `held_out` is what `val_*` refers to.
    """

    name: str
    take: Annotated[int, Field(ge=1, strict=True)] | None = None
    scale: Literal["none", "unit", "standard", "columns"] = "unit"
    held_out: Annotated[Component, _component("held_out")] = Component(kind="held_out", name="test")
    args: dict[str, Any] = Field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """Return the flat mapping that stands for this dataset in files and on the command line."""
        return {
            "name": self.name,
            "take": self.take,
            "scale": self.scale,
            "held_out": self.held_out.plain(),
            **self.args,
        }

    @classmethod
    def of(cls, value: Any) -> Dataset:
        """Return the dataset that a suite author meant by a name, a function, a mapping or a dataset."""
        if isinstance(value, Dataset):
            return value
        if isinstance(value, str):
            return cls(name=value)
        if isinstance(value, Component) and value.kind in ("dataset", "function"):
            return cls(name=value.name, args=value.args)
        if isinstance(value, Mapping):
            given = dict(value)
            given.pop("kind", None)
            own = {key: given.pop(key) for key in ("name", "take", "scale", "held_out") if key in given}
            args = {key: plain_value(item, f"dataset, argument {key!r}") for key, item in given.items()}
            return cls(**own, args=args)
        if callable(value):
            return cls.of(Component.of("dataset", value))
        raise SuiteError(f"expected a dataset (a name or dataset(...)), got {value!r}")


class Setting(Declaration):
    """What a training is, without its seed (see the module for which fields are identity)."""

    dataset: Annotated[Dataset, BeforeValidator(Dataset.of)] | None = None
    model: Annotated[Component | None, _component("model")] = None
    loss: Annotated[Component, _component("loss")] = Component(kind="loss", name="categorical_crossentropy")
    optimizer: Annotated[Component, _component("optimizer")] = Component(
        kind="optimizer", name="sgd", args={"learning_rate": 0.01}
    )
    batch_size: Annotated[int, Field(ge=1, strict=True)] = 32
    epochs: Annotated[int, Field(ge=1, strict=True)] = 1
    shuffle: Annotated[bool, Field(strict=True)] = True
    early_stopping: Annotated[Component | None, _component("early_stopping")] = None
    workload: Annotated[Component, _component("workload")] = Component(kind="workload", name="training")
    # How it is executed:
    backend: Literal["tensorflow", "jax", "torch"] = "tensorflow"
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    engine: Literal["auto", "xla", "graph", "eager", "fit"] = "auto"
    dispatch: Literal["epoch", "step"] = "epoch"
    # Of each node; a fraction: that many workers share a core or a GPU, and are not pinned.
    cpus: Annotated[float, Field(gt=0, strict=True, allow_inf_nan=False)] = 1
    gpus: Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)] = 0
    exclusive: Annotated[bool, Field(strict=True)] = False
    devices: Annotated[int, Field(ge=1, strict=True)] = 1  # of each node that a batch is split over
    nodes: Annotated[int, Field(ge=1, strict=True)] = 1  # that a batch is split over
    accelerator: Annotated[str | None, Field(pattern=_ACCELERATOR)] = None  # a kind of GPU, such as "A100"
    node_labels: dict[str, str] = Field(default_factory=dict)  # what the node's labels must be
    node: Annotated[str | None, Field(pattern=_NODE_NAME)] = None  # its name
    label: Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$")] = ""  # no control characters
    # What is looked at and kept besides:
    metrics: Annotated[tuple[Component, ...], _components("metric")] = ()  # of the held-out part, after each epoch
    save_model: Annotated[bool, Field(strict=True)] = False  # its structure and its weights
    tensorboard: Annotated[bool, Field(strict=True)] = False  # histograms of the weights, scalars and the graph

    @field_validator("cpus", "gpus")
    @classmethod
    def _whole_or_fraction(cls, value: float) -> float:
        if value > 1 and value != int(value):
            raise ValueError("must be a whole number or a fraction of one, such as 0.5")
        if 0 < value < 1 / MOST_PACKED:
            raise ValueError(f"must be at least {1 / MOST_PACKED:g}, of which {MOST_PACKED} workers share one")
        return int(value) if value == int(value) else value

    @field_validator("node_labels", mode="before")
    @classmethod
    def _texts(cls, value: Any) -> Any:
        """Take a whole number for its text: the command line cannot tell them apart."""
        if not isinstance(value, dict):
            return value
        return {name: str(item) if type(item) is int else item for name, item in value.items()}

    @field_validator("node_labels")
    @classmethod
    def _plain_labels(cls, value: dict[str, str]) -> dict[str, str]:
        for text in (*value, *value.values()):
            if not _LABEL.fullmatch(text):
                raise ValueError(f"must be of letters, digits and _ . / - alone, and {text!r} is not")
        return dict(sorted(value.items()))

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        self.check()
        return self

    def check(self) -> None:
        """Raise for fields that do not fit one another; for settings made by `model_copy`, which checks nothing.

        Raises:
            SuiteError: for an engine that the back end has not, for a placement that cannot be, for two metrics of one
                name, and for early stopping on what is not measured.
        """
        if self.engine != "auto" and self.engine not in ENGINES[self.backend]:
            raise SuiteError(
                f"engine: the back end {self.backend!r} has no engine {self.engine!r}; "
                f"it has: auto, {', '.join(ENGINES[self.backend])}"
            )
        self._check_placement()
        names = [one.name for one in self.metrics]
        for one in self.metrics:
            if one.name == "function" or f"val_{one.name}" in METRICS:
                what = "a function" if one.name == "function" else f"recorded anyway, as val_{one.name}"
                raise SuiteError(f"metrics: {one.name!r} is {what}; name those of Keras's that are wanted besides")
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise SuiteError(f"metrics: {twice!r} is there twice, and can be recorded once")
        stop = self.early_stopping
        if stop is None:
            return
        self.check_measured(stop.args["metric"], "early_stopping.metric")
        if stop.args["best_weights"] and self.workload.name != "training":
            raise SuiteError(f"early_stopping.best_weights: the workload {self.workload.name!r} has no weights to keep")

    def _check_placement(self) -> None:
        packed = [f"{name}={value:g}" for name, value in (("cpus", self.cpus), ("gpus", self.gpus)) if 0 < value < 1]
        if self.exclusive and packed:
            raise SuiteError(f"exclusive: a trial cannot have the node for itself and share it ({packed[0]}); say one")
        parts = self.devices * self.nodes
        if parts == 1:
            return
        asked = f"nodes={self.nodes}" if self.nodes > 1 else f"devices={self.devices}"
        if self.workload.name != "training":
            raise SuiteError(f"{asked}: only a training can be split, and the workload is {self.workload.name!r}")
        if self.backend not in SPLITTING:
            raise SuiteError(
                f"{asked}: the back end {self.backend!r} cannot split a batch; say backend={SPLITTING[0]!r}"
            )
        if packed:
            raise SuiteError(f"{asked}: the parts of a training keep step, and need whole shares: {packed[0]} is none")
        if self.gpus not in (0, self.devices):
            raise SuiteError(
                f"{asked}: gpus={self.gpus:g}, but a node has {self.devices} of the devices; say gpus={self.devices}, "
                "one for each, or gpus=0 for the CPU's"
            )
        if self.nodes > 1 and self.node is not None:
            raise SuiteError(f"{asked}: a trial on several nodes cannot be on node={self.node!r} alone; leave one away")
        if self.batch_size % parts:
            nearest = max(parts, round(self.batch_size / parts) * parts)
            raise SuiteError(
                f"batch_size={self.batch_size} cannot be split evenly over {parts} devices "
                f"(devices={self.devices}, nodes={self.nodes}); the nearest that can is {nearest}"
            )

    @property
    def packed(self) -> bool:
        """Whether workers of the run share a core or a GPU for it."""
        return self.cpus < 1 or 0 < self.gpus < 1

    @property
    def further(self) -> tuple[str, ...]:
        """What `metrics` are recorded as."""
        return tuple(f"val_{one.name}" for one in self.metrics)

    def check_measured(self, metric: str, asked_by: str) -> None:
        """Raise for what a training with this setting does not measure; other workloads may report anything.

        Raises:
            SuiteError: naming what `asked_by` it, and the metrics that there are.
        """
        right = (*METRICS, *self.further)
        if self.workload.name == "training" and metric not in right:
            raise SuiteError(
                f"{asked_by}: unknown metric {metric!r};{did_you_mean(metric, right)} the metrics are: "
                f"{', '.join(right)}; others of Keras's are added by metrics=[...]"
            )

    @property
    def needs(self) -> str:
        """The back end that a worker process must have imported to run this; "none" where it brings its own."""
        by_keras = self.workload.name == "minimise" and self.workload.args.get("optimizer") is not None
        return self.backend if self.workload.name == "training" or by_keras else "none"

    def plain(self) -> dict[str, Any]:
        """Return every field as plain JSON: the namespace of paths and expressions."""
        values: dict[str, Any] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, tuple):
                value = [item.plain() for item in value]
            values[name] = value.plain() if isinstance(value, Component | Dataset) else value
        return values

    def canonical(self) -> str:
        """Return the canonical JSON of all that changes the mathematics; fields at their default are left out,
        so that a field added by a later version leaves the ids of today's settings as they are."""
        defaults = _DEFAULTS
        kept = {
            name: value
            for name, value in self.plain().items()
            if name not in (*EXECUTION, *OBSERVATION) and (name not in defaults or value != defaults[name])
        }
        if self.early_stopping is not None:  # it changes the mathematics, and so does what it looks at
            watched = [one.plain() for one in self.metrics if f"val_{one.name}" == self.early_stopping.args["metric"]]
            kept |= {"metrics": watched} if watched else {}
        if isinstance(kept.get("dataset"), dict):
            kept["dataset"] = {
                key: value
                for key, value in kept["dataset"].items()
                if key not in _DATASET_DEFAULTS or value != _DATASET_DEFAULTS[key]
            }
            if kept["dataset"]["name"] == "file":
                for place in ("path", "test_path", "target_path"):  # their hashes say what is in them
                    kept["dataset"].pop(place, None)
        return json.dumps(canonical_numbers(kept), sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @property
    def setting_id(self) -> str:
        """Twelve hexadecimal digits that are the same for the same mathematics on any machine."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()[:12]

    @property
    def arm(self) -> str:
        """How it is executed, as ``"cpus=2,dispatch=step"``; ``"default"`` when nothing was asked for."""
        values = self.plain()
        told: list[str] = []
        for name in sorted(EXECUTION):
            value = values[name]
            if isinstance(value, dict):
                told += [f"{name}.{key}={_arm_value(item)}" for key, item in value.items()]
            elif value != _DEFAULTS[name]:
                told.append(f"{name}={_arm_value(value)}")
        return ",".join(told) or "default"

    @property
    def program_key(self) -> str:
        """A cheap guess at which settings share a compiled program, for dispatch alone: equal but for what a
        program holds in a variable (a plain learning rate) and for the epochs."""
        values = self.plain()
        for name in ("epochs", "shuffle", "label", "early_stopping", "node", "node_labels", *OBSERVATION):
            del values[name]
        if not isinstance(values["optimizer"].get("learning_rate"), dict):  # a schedule is part of the program
            values["optimizer"]["learning_rate"] = None
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


class Alone(Setting):
    """A setting whose fields are checked each by itself, and need not fit one another."""

    called: ClassVar[str] = "Setting"

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        return self


def _arm_value(value: Any) -> str:
    if isinstance(value, float) and value == int(value):
        return str(int(value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def canonical_numbers(value: Any) -> Any:
    """Return `value` with 1.0 written as 1, so that equal numbers have one text."""
    if isinstance(value, float) and value == int(value) and abs(value) < 2**53:
        return int(value)
    if isinstance(value, dict):
        return {key: canonical_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [canonical_numbers(item) for item in value]
    return value


_DEFAULTS: dict[str, Any] = Setting().plain()
_DATASET_DEFAULTS: dict[str, Any] = {
    key: value for key, value in Dataset(name="-").plain().items() if key in ("take", "scale", "held_out")
}
