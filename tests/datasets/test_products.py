"""The competition's file as a user has it, and the made-up data that stand in for it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.datasets import Arrays, Facts, Preparation, facts, load, rows
from harness.datasets.catalogue import CATALOGUE, PRODUCT_COUNTS
from harness.datasets.manage import fetch, import_file, list_datasets, verify
from harness.datasets.products import make
from harness.domain.component import Component
from harness.domain.errors import DataError, SuiteError
from harness.domain.setting import Dataset

TAIL = Component(kind="held_out", name="tail", args={"fraction": 0.15})
HEADER = ["id", *(f"feat_{number}" for number in range(1, 94)), "target"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep this machine's own folders out of the tests."""
    monkeypatch.setenv("HARNESS_DATA_DIR", str(tmp_path / "shared"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def written(path: Path, *, count: int = 40, labelled: bool = True, **changes: Any) -> Path:
    """Write made-up products as the competition's file has them; ``changes`` are columns, None for none."""
    parts = make(samples=count, seed=0)
    columns: dict[str, list[Any]] = {"id": list(range(1, count + 1))}
    columns |= {f"feat_{number + 1}": parts.x_train[:, number].tolist() for number in range(93)}
    if labelled:
        columns["target"] = [f"Class_{label + 1}" for label in parts.y_train]
    columns = {name: values for name, values in (columns | changes).items() if values is not None}
    lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def products(**more: Any) -> Dataset:
    return Dataset(name="products", **{"scale": "none", "held_out": TAIL, **more})


def like(scale: str = "columns", **args: Any) -> Arrays:
    return load(Dataset.of({"name": "products_like", "scale": scale, "held_out": TAIL, **args}), {})


def softmax_regression(x: NDArray[np.float32], y: NDArray[Any], *, epochs: int) -> list[float]:
    """Return the accuracy on these samples after each step of gradient descent on all of them, from zero weights."""
    truth = np.eye(9, dtype=np.float32)[y]
    weights, biases = np.zeros((x.shape[1], 9), np.float32), np.zeros(9, np.float32)
    accuracies = []
    for _ in range(epochs):
        scores = x @ weights + biases
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        slopes = (powers / powers.sum(axis=1, keepdims=True) - truth) / len(x)
        weights -= 0.01 * x.T @ slopes
        biases -= 0.01 * slopes.sum(axis=0)
        accuracies.append(float(((x @ weights + biases).argmax(axis=1) == y).mean()))
    return accuracies


def test_softmax_regression_learns_the_made_up_products_as_well_as_was_published_of_the_real_ones() -> None:
    raw = make(samples=61_878, seed=0)
    counts = raw.x_train.astype(np.float32)
    standardised = (counts - counts.mean(axis=0)) / counts.std(axis=0)
    accuracies = softmax_regression(standardised, raw.y_train, epochs=25)
    assert accuracies[0] == pytest.approx(0.6650, abs=0.01)
    assert accuracies[-1] == pytest.approx(0.6717, abs=0.01)


def test_made_up_products_have_the_classes_of_the_real_ones_and_mostly_zeros() -> None:
    parts = make(samples=61_878, seed=0)
    assert np.bincount(parts.y_train).tolist() == list(PRODUCT_COUNTS)
    assert parts.x_train.shape == (61_878, 93)
    assert 0.7 < (parts.x_train == 0).mean() < 0.85
    assert 20 < parts.x_train.max() < 400
    assert len(set(parts.y_train[:60].tolist())) > 5


def test_made_up_products_are_the_same_bytes_on_this_machine_too_and_quickly_made() -> None:
    make.cache_clear()
    start_s = time.thread_time()
    make(samples=61_878, seed=0)
    assert time.thread_time() - start_s < 5  # 0.2 s on an idle machine
    assert verify("products_like").sha256 == like().sha256


def test_fewer_made_up_products_are_the_first_of_more_and_another_seed_draws_others() -> None:
    some, more, others = (make(samples=count, seed=seed) for count, seed in ((50, 1), (200, 1), (50, 2)))
    assert np.array_equal(some.x_train, more.x_train[:50])
    assert np.array_equal(some.y_train, more.y_train[:50])
    assert not np.array_equal(some.x_train, others.x_train)


def test_facts_foretell_how_many_made_up_products_there_will_be() -> None:
    dataset = Dataset.of({"name": "products_like", "held_out": TAIL, "samples": 1_000})
    assert facts(dataset) == Facts(train=850, val=150, shape=(93,), classes=9)
    arrays = like(samples=1_000)
    assert (len(arrays.x_train), len(arrays.x_val)) == (850, 150)
    assert sum(arrays.train_class_counts or ()) == 850
    assert arrays.class_names is not None
    assert arrays.class_names[8] == "Class_9"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"samples": 0}, r"dataset\.samples .* at least 1, got 0"),
        ({"samples": 61_879}, r"dataset\.samples must be at most 61878, got 61879"),
        ({"seed": -1}, r"dataset\.seed .* got -1"),
        ({"classes": 3}, r"dataset\.classes: .* takes: held_out, samples, scale, seed, take"),
    ],
)
def test_made_up_products_refuse_wrong_arguments(args: dict[str, Any], said: str) -> None:
    with pytest.raises(SuiteError, match=said):
        facts(Dataset(name="products_like", held_out=TAIL, args=args))


@pytest.mark.parametrize("name", ["products", "products_like"])
def test_products_have_no_test_part(name: str) -> None:
    with pytest.raises(SuiteError, match=f'held_out is "test", but the dataset {name!r} has no test part; use a tail'):
        facts(Dataset(name=name))


def test_products_that_are_nowhere_name_the_places_and_the_ways_out(folder: Path) -> None:
    ways = r"train\.csv, run `harness data import products FILE`.* products_like stands in"
    for ask in (lambda: load(products(), {}), lambda: fetch("products"), lambda: verify("products")):
        with pytest.raises(DataError, match=ways) as missing:
            ask()
        for place in ("shared", "cache/harness/datasets"):
            assert str(folder / place / "products/train.csv") in str(missing.value)


def test_a_users_file_is_imported_found_counted_and_loaded(folder: Path) -> None:
    file = written(folder / "downloads/train.csv")
    target = import_file("products", file)
    assert target == folder / "shared/products/train.csv"
    status = next(one for one in list_datasets() if one.name == "products")
    assert (status.state, status.path, status.train) == ("found", target, 40)
    arrays = load(products(), {})
    expected = make(samples=40, seed=0)
    assert np.array_equal(np.concatenate([arrays.x_train, arrays.x_val]), expected.x_train)
    assert np.array_equal(np.concatenate([arrays.y_train, arrays.y_val]), expected.y_train)
    assert arrays.classes == 9  # whether the file has all of them or not
    assert arrays.sha256 == expected.sha256 == verify("products").sha256


def test_the_order_of_the_columns_does_not_matter(folder: Path) -> None:
    file = written(folder / "shared/products/train.csv")
    before = load(products(), {}).sha256
    lines = [line.split(",")[::-1] for line in file.read_text().splitlines()]
    file.write_text("\n".join(map(",".join, lines)))
    assert load(products(), {}).sha256 == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"feat_7": None}, r"train\.csv has no column 'feat_7'; it has 'id', 'feat_1', .* and 82 more"),
        ({"feat_94": [0] * 40}, "it has a column 'feat_94' besides"),
        ({"feat_2": [0, 1, "many", *[0] * 37]}, r"row 4 \(the header is row 1\), column 'feat_2': 'many' is no number"),
        ({"feat_2": [0, -1, *[0] * 38]}, r"row 3 .*, column 'feat_2': -1 is no count"),
        ({"feat_3": [0.5, *[0] * 39]}, r"row 2 .*, column 'feat_3': 0\.5 is no count"),
        ({"feat_3": [70_000, *[0] * 39]}, r"row 2 .*, column 'feat_3': 70000 is no count"),
        ({"feat_3": [0, "", *[0] * 38]}, r"row 3 .*, column 'feat_3': is empty"),
        ({"target": ["Class_1"] * 39 + ["Class_10"]}, r"row 41 .*'Class_10' is no class .*: Class_1, .* Class_9"),
    ],
)
def test_a_file_of_another_structure_is_told_the_place_and_not_imported(
    folder: Path, changes: dict[str, Any], said: str
) -> None:
    file = written(folder / "train.csv", **changes)
    with pytest.raises(DataError, match=said):
        import_file("products", file)
    assert not (folder / "shared").exists()


def test_a_file_of_another_kind_is_not_imported(folder: Path) -> None:
    file = written(folder / "train.csv").rename(folder / "train.parquet")
    with pytest.raises(DataError, match=r"train\.parquet is not the dataset 'products', which is a CSV file"):
        import_file("products", file)


def test_more_folds_than_products_are_refused_by_what_the_file_holds(folder: Path) -> None:
    written(folder / "shared/products/train.csv")
    many = Component(kind="held_out", name="fold", args={"k": 0, "of": 41})
    with pytest.raises(SuiteError, match=r"held_out\.of is 41, but the dataset 'products' has only 40 samples"):
        load(products(held_out=many), {})
    with pytest.raises(SuiteError, match=r"of is 61879, .* only 61878 samples"):
        facts(products(held_out=Component(kind="held_out", name="fold", args={"k": 0, "of": 61_879})))


def test_unlabelled_products_are_read_and_scaled_as_those_trained_on(folder: Path) -> None:
    arrays = like()
    file = written(folder / "test.csv", labelled=False)
    known = Preparation.of(arrays.preparation.plain())
    found = rows(file, Dataset(name="products_like", held_out=TAIL), known)
    assert found.y is None
    assert (found.id_name, found.ids) == ("id", tuple(range(1, 41)))
    assert np.array_equal(found.x, arrays.x_train[:40])
    labelled = rows(written(folder / "more.csv"), products(), known)
    assert labelled.y is not None
    assert np.array_equal(labelled.y, arrays.y_train[:40])
    assert [known.name_of(label) for label in labelled.y[:2]] == [f"Class_{label + 1}" for label in labelled.y[:2]]


def test_the_catalogue_names_every_feature_and_class() -> None:
    entry = CATALOGUE["products"]
    assert ["id", *(entry.feature_names or ()), "target"] == HEADER
    assert len(entry.class_names or ()) == entry.classes == 9
