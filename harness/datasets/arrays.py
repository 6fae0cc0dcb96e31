"""A dataset's declaration → the arrays that a trial trains and validates on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.datasets import files, own, products, scaling, store, synthetic
from harness.datasets.catalogue import check, fold_size, own_args, split_counts, title
from harness.datasets.parts import Array, Parts, shuffled
from harness.datasets.preparation import Preparation
from harness.datasets.scaling import Samples, Scale, scale_rows
from harness.domain.errors import DataError, SuiteError
from harness.domain.setting import Dataset
from harness.domain.sources import Source

Targets = NDArray[np.int32] | NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrays:
    """What a trial trains on and what it validates on; all arrays are contiguous, a sample a row.

    Samples are scaled: ``x = (stored - offset) / divisor``, each of the two one number, or one for each feature in the
    shape of a sample. Targets are int32 labels below `classes`, or float32 numbers where `classes` is None.
    """

    x_train: Samples
    y_train: Targets
    x_val: Samples
    y_val: Targets
    classes: int | None
    offset: Scale  # 0.0, or the mean of the samples trained on
    divisor: Scale  # 1.0, the stored type's largest value, or the deviation of the samples trained on; 0: x becomes 0
    sha256: str  # of the dataset's stored bytes, all of them, before any option
    train_class_counts: tuple[int, ...] | None  # samples of each class; None where the targets are numbers
    val_class_counts: tuple[int, ...] | None
    class_names: tuple[str, ...] | None  # by label; None: a label is its own name
    feature_names: tuple[str, ...] | None  # of a table's columns

    @property
    def preparation(self) -> Preparation:
        """What it takes to read and scale further rows as these were."""
        return Preparation(
            shape=self.x_train.shape[1:],
            offset=np.asarray(self.offset).tolist(),
            divisor=np.asarray(self.divisor).tolist(),
            classes=self.classes,
            class_names=self.class_names,
            feature_names=self.feature_names,
        )


def load(dataset: Dataset, sources: Mapping[str, Source]) -> Arrays:
    """Return the arrays that the declaration describes; `sources` holds the texts of own functions.

    Raises:
        SuiteError: for a declaration that is wrong, or asks for more than the dataset holds.
        DataError: for data that are not here, not what they should be, or cannot be scaled as asked.
    """
    check(dataset)
    parts = _parts(dataset, sources)
    train, val, x_held, y_held = _split(dataset, parts)
    x_train, y_train = parts.x_train[train], parts.y_train[train]
    x_val, y_val = x_held[val], y_held[val]
    offset, divisor = scaling.found(dataset, x_train, x_val)
    return Arrays(
        x_train=_scaled(dataset, x_train, offset, divisor),
        y_train=_targets(dataset, y_train, parts.classes),
        x_val=_scaled(dataset, x_val, offset, divisor),
        y_val=_targets(dataset, y_val, parts.classes),
        classes=parts.classes,
        offset=offset,
        divisor=divisor,
        sha256=parts.sha256,
        train_class_counts=_class_counts(y_train, parts.classes),
        val_class_counts=_class_counts(y_val, parts.classes),
        class_names=parts.class_names,
        feature_names=parts.feature_names,
    )


def _parts(dataset: Dataset, sources: Mapping[str, Source]) -> Parts:
    if dataset.name == "function":
        return own.call(dataset, sources)
    if dataset.name == "synthetic":
        return synthetic.make(dataset)
    if dataset.name == "file":
        return files.read(dataset)
    if dataset.name == "products":
        return products.read(store.located("products"))
    if dataset.name == "products_like":
        return products.make(**own_args(dataset))
    return store.load_stored(dataset.name, test=dataset.held_out.name == "test")


Chosen = slice | NDArray[np.int64]


def _split(dataset: Dataset, parts: Parts) -> tuple[Chosen, Chosen, Array, Array]:
    """Return which training samples are trained on, which samples are held out, and the arrays these are in."""
    if dataset.held_out.name == "test":
        train, val = split_counts(dataset, train=len(parts.x_train), test=len(parts.x_test))
        return slice(0, train), slice(0, val), parts.x_test, parts.y_test
    train, val = split_counts(dataset, train=len(parts.x_train), test=0)
    if dataset.held_out.name == "tail":
        return slice(0, train), slice(train, train + val), parts.x_train, parts.y_train
    held_out = _fold(dataset, parts.y_train[: train + val], parts.classes)
    return np.flatnonzero(~held_out), np.flatnonzero(held_out), parts.x_train, parts.y_train


def _fold(dataset: Dataset, labels: Array, classes: int | None) -> NDArray[np.bool_]:
    """Return which samples are in the fold held out; whatever the way, samples keep the order they are stored in.

    Contiguous and shuffled folds are cut from the samples as stored and as shuffled. For stratified ones the samples,
    sorted by class and, given a seed, shuffled within it, are dealt to the folds in turn like cards.
    """
    args = dataset.held_out.args
    k, of, how, seed = args["k"], args["of"], args.get("how", "contiguous"), args.get("seed")
    count = len(labels)
    order = np.arange(count)
    if how == "shuffled" or seed is not None:
        order = shuffled(seed or 0, 0, count)
    if how == "stratified":
        if classes is None:
            raise SuiteError(f"dataset.held_out.how is 'stratified', but {title(dataset)} has numbers, not classes")
        order = order[np.argsort(labels[order], kind="stable")]
        chosen = order[k::of]
    else:
        start = sum(fold_size(count, k=earlier, of=of) for earlier in range(k))
        chosen = order[start : start + fold_size(count, k=k, of=of)]
    held_out = np.zeros(count, dtype=np.bool_)
    held_out[chosen] = True
    return held_out


def _scaled(dataset: Dataset, x: Array, offset: Scale, divisor: Scale) -> Samples:
    scaled = scale_rows(x, offset, divisor)
    _check_finite(dataset, scaled, x)
    return scaled


def _class_counts(y: Array, classes: int | None) -> tuple[int, ...] | None:
    return None if classes is None else tuple(np.bincount(y, minlength=classes).tolist())


def _targets(dataset: Dataset, y: Array, classes: int | None) -> Targets:
    if classes is not None:
        return np.array(y, np.int32)  # a copy of its own, as the samples are: what is stored may be kept
    with np.errstate(over="ignore"):  # reported below
        numbers = np.array(y, np.float32)
    _check_finite(dataset, numbers, y)
    return numbers


def _check_finite(dataset: Dataset, made: Samples, stored: Array) -> None:
    """Raise where float data hold NaN or values beyond float32; integers always fit."""
    if stored.dtype.kind == "f" and not (finite := np.isfinite(made)).all():
        raise DataError(f"{title(dataset)} gives {np.sum(~finite)} values that are NaN, infinite or beyond float32")
