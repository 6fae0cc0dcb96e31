"""The 5,000 digits in the package."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import numpy as np

import harness.datasets
from harness.datasets import load
from harness.datasets.manage import verify
from harness.datasets.repack_mnist5k import CSV_SHA256, repack, split
from harness.datasets.store import places
from harness.domain.setting import Dataset

FILE = places("mnist5k")[0]


def test_it_has_400_digits_of_each_class_to_train_on_and_100_to_test_on() -> None:
    arrays = load(Dataset(name="mnist5k"), {})
    assert arrays.x_train.shape == (4_000, 28, 28)
    assert arrays.x_val.shape == (1_000, 28, 28)
    assert np.bincount(arrays.y_train).tolist() == [400] * 10
    assert np.bincount(arrays.y_val).tolist() == [100] * 10
    assert (arrays.x_train.min(), arrays.x_train.max()) == (0.0, 1.0)


def test_the_first_and_the_last_samples_are_a_mixture_of_all_classes() -> None:
    arrays = load(Dataset(name="mnist5k"), {})
    for some in (arrays.y_train[:100], arrays.y_train[-100:], arrays.y_val[:100], arrays.y_val[-100:]):
        counts = np.bincount(some, minlength=10)
        assert 1 <= counts.min() <= counts.max() <= 20


def test_no_test_image_is_also_a_training_image() -> None:
    arrays = load(Dataset(name="mnist5k", scale="none"), {})
    images = {image.tobytes() for part in (arrays.x_train, arrays.x_val) for image in part}
    assert len(images) == 5_000


def test_its_checksums_are_right_and_the_page_beside_it_states_them() -> None:
    assert verify("mnist5k").path == FILE
    page = FILE.with_suffix(".md").read_text(encoding="utf-8")
    assert hashlib.sha256(FILE.read_bytes()).hexdigest() in page
    assert f"{FILE.stat().st_size:,} bytes" in page
    assert CSV_SHA256 in page
    for array in harness.datasets.catalogue.CATALOGUE["mnist5k"].arrays.values():
        assert array.sha256 in page


def test_it_is_small_enough_to_ship() -> None:
    assert FILE.stat().st_size <= 1_300_000


def test_it_is_mlxtends_file_to_the_last_byte_and_repacking_that_makes_it_again(tmp_path: Path) -> None:
    """The source is sorted by class, so the split can be undone: its text must come out, and pack to the same."""
    stored = np.load(FILE)
    labels = np.repeat(np.arange(10, dtype=np.uint8), 500)
    train, test = split(labels)
    images = np.empty((5_000, 28, 28), np.uint8)
    images[train], images[test] = stored["x_train"], stored["x_test"]
    assert labels[train].tolist() == stored["y_train"].tolist()
    assert labels[test].tolist() == stored["y_test"].tolist()

    rows = np.column_stack([images.reshape(-1, 784), labels]).tolist()
    text = "".join(",".join(map(str, row)) + "\n" for row in rows)
    assert hashlib.sha256(text.encode()).hexdigest() == CSV_SHA256

    again = tmp_path / "again.npz"
    again.write_bytes(repack(images, labels))
    packed = np.load(again)
    assert all(np.array_equal(packed[key], stored[key]) for key in ("x_train", "y_train", "x_test", "y_test"))


def test_loading_it_again_in_a_process_costs_next_to_nothing() -> None:
    load(Dataset(name="mnist5k"), {})
    start = time.thread_time()
    load(Dataset(name="mnist5k"), {})
    assert time.thread_time() - start < 0.25  # 5 ms on an idle core
