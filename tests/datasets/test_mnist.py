"""The full set, from a local copy. Skipped where there is none, but for continuous integration, which must have one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.datasets import load
from harness.datasets.manage import import_file, verify
from harness.datasets.store import find
from harness.domain.component import Component
from harness.domain.setting import Dataset


@pytest.fixture(autouse=True)
def copy(require: Callable[[object, str], None]) -> Path:
    path = find("mnist")
    require(path is not None, "no copy of MNIST here: set HARNESS_DATA_DIR to a folder that holds mnist.npz")
    assert path is not None
    return path


def test_every_byte_is_as_published(copy: Path) -> None:
    assert verify("mnist").path == copy


def test_the_first_6000_images_have_the_mean_and_deviation_of_the_reference() -> None:
    held_out = Component(kind="held_out", name="test", args={"take": 5_000})
    arrays = load(Dataset(name="mnist", take=6_000, scale="standard", held_out=held_out), {})
    assert round(arrays.offset, 2) == 33.53
    assert round(arrays.divisor, 2) == 78.79
    assert arrays.x_val.shape == (5_000, 28, 28)


def test_the_tail_of_the_first_20000_images_is_images_16000_to_19999() -> None:
    tail = Component(kind="held_out", name="tail", args={"fraction": 0.2})
    arrays = load(Dataset(name="mnist", take=20_000, scale="none", held_out=tail), {})
    all_of_it = load(Dataset(name="mnist", scale="none"), {})
    assert np.array_equal(arrays.x_train, all_of_it.x_train[:16_000])
    assert np.array_equal(arrays.x_val, all_of_it.x_train[16_000:20_000])
    assert np.array_equal(arrays.y_val, all_of_it.y_train[16_000:20_000])


def test_the_contiguous_thirds_have_the_share_of_ones_that_the_reference_found_with_zero_weights() -> None:
    shares = []
    for k in range(3):
        fold = Component(kind="held_out", name="fold", args={"k": k, "of": 3})
        shares.append(float((load(Dataset(name="mnist", held_out=fold), {}).y_val == 1).mean()))
    assert round(float(np.mean(shares)), 4) == 0.1124
    assert round(float(np.std(shares)), 4) == 0.0024


def test_an_imported_copy_is_found_first(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_DATA_DIR", str(tmp_path))
    assert import_file("mnist", copy) == tmp_path / "mnist.npz"
    assert find("mnist") == tmp_path / "mnist.npz"


def test_mnist5k_is_a_part_of_its_training_images() -> None:
    whole, part = load(Dataset(name="mnist", scale="none"), {}), load(Dataset(name="mnist5k", scale="none"), {})
    labels = {image.tobytes(): label for image, label in zip(whole.x_train, whole.y_train, strict=True)}
    for image, label in zip(part.x_train, part.y_train, strict=True):
        assert labels[image.tobytes()] == label
