"""Local copies: where they are looked for, how they are verified, and what is said of those that are wrong.

A small dataset of the same kind as `mnist` stands in the catalogue meanwhile, with its true checksums.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.datasets import load
from harness.datasets.catalogue import CATALOGUE, Entry
from harness.datasets.manage import fetch, import_file, list_datasets, verify
from harness.datasets.parts import Array, describe_all
from harness.datasets.store import npz_bytes, places, read_verified
from harness.domain.errors import DataError, SuiteError
from harness.domain.setting import Dataset

ARRAYS: dict[str, Array] = {
    "x_train": np.arange(6 * 4, dtype=np.uint8).reshape(6, 2, 2),
    "y_train": np.array([0, 1, 2, 0, 1, 2], dtype=np.uint8),
    "x_test": np.arange(3 * 4, dtype=np.uint8).reshape(3, 2, 2) + 100,
    "y_test": np.array([2, 1, 0], dtype=np.uint8),
}
TINY = Entry(
    name="tiny",
    summary="six small pictures",
    kept="local",
    train=6,
    test=3,
    shape=(2, 2),
    classes=3,
    source="this test",
    licence="none needed",
    arrays=describe_all(ARRAYS),
)
WAYS = r"set HARNESS_DATA_DIR .* `harness data fetch tiny`.* `harness data import tiny FILE`"


@pytest.fixture(autouse=True)
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Add the dataset to the catalogue, and keep this machine's own folders out of the tests."""
    monkeypatch.setitem(CATALOGUE, "tiny", TINY)
    monkeypatch.setenv("HARNESS_DATA_DIR", str(tmp_path / "shared"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))


def put(path: Path, content: bytes | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(npz_bytes(ARRAYS) if content is None else content)
    return path


def first_value() -> float:
    return float(load(Dataset(name="tiny", scale="none"), {}).x_val[0, 0, 0])


def no_download() -> Mapping[str, Array]:
    raise AssertionError("nothing should be downloaded")


def test_a_dataset_that_is_nowhere_names_the_places_looked_at_and_every_way_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=WAYS) as missing:
        load(Dataset(name="tiny"), {})
    for folder in ("shared", "cache/harness/datasets", "keras/datasets"):
        assert str(tmp_path / folder / "tiny.npz") in str(missing.value)


def test_the_data_dir_comes_before_harness_own_folder_and_that_before_keras_cache(tmp_path: Path) -> None:
    for folder in ("keras/datasets", "cache/harness/datasets", "shared"):
        path = put(tmp_path / folder / "tiny.npz")
        assert verify("tiny").path == path
    assert first_value() == 100


def test_without_the_data_dir_harness_own_folder_is_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARNESS_DATA_DIR")
    assert [path.parent for path in places("tiny")] == [
        tmp_path / "cache/harness/datasets",
        tmp_path / "keras/datasets",
    ]


def test_a_broken_copy_is_an_error_even_where_a_good_one_lies_further_on(tmp_path: Path) -> None:
    put(tmp_path / "keras/datasets/tiny.npz")
    broken = put(tmp_path / "shared/tiny.npz", npz_bytes(ARRAYS)[:-30])
    with pytest.raises(DataError, match=f"{broken} cannot be read as tiny.npz; it may be cut off"):
        load(Dataset(name="tiny"), {})


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_a_damaged_file_is_refused_or_else_holds_the_very_arrays(tmp_path: Path, data: st.DataObject) -> None:
    good = npz_bytes(ARRAYS)
    cut = data.draw(st.integers(0, len(good)))
    flips = data.draw(st.lists(st.tuples(st.integers(0, len(good) - 1), st.integers(1, 255)), max_size=3))
    damaged = bytearray(good)
    for position, bits in flips:
        damaged[position] ^= bits
    path = put(tmp_path / "damaged.npz", bytes(damaged[:cut] if data.draw(st.booleans()) else damaged))
    with suppress(DataError):
        arrays = read_verified("tiny", path, tuple(ARRAYS))
        assert all(np.array_equal(arrays[key], ARRAYS[key]) for key in ARRAYS)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"x_test": ARRAYS["x_test"] + 1}, r"the sha256 of x_test is \w{64}, expected \w{64}"),
        ({"y_train": ARRAYS["y_train"][::-1].copy()}, r"the sha256 of y_train"),
        ({"x_train": ARRAYS["x_train"][:5]}, r"x_train is uint8 \(5, 2, 2\), expected uint8 \(6, 2, 2\)"),
        ({"y_test": ARRAYS["y_test"].astype(np.int64)}, r"y_test is int64 \(3,\), expected uint8 \(3,\)"),
    ],
)
def test_a_file_with_other_arrays_is_told_what_was_expected_and_found(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    path = put(tmp_path / "other.npz", npz_bytes({**ARRAYS, **changed}))
    with pytest.raises(DataError, match=f"{path} does not hold the dataset 'tiny': {said}"):
        import_file("tiny", path)


def test_a_file_that_lacks_arrays_is_told_which_and_what_it_has(tmp_path: Path) -> None:
    path = put(tmp_path / "half.npz", npz_bytes({"x_train": ARRAYS["x_train"], "labels": ARRAYS["y_train"]}))
    with pytest.raises(DataError, match="it lacks x_test, y_test, y_train; it has labels, x_train"):
        import_file("tiny", path)


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    trap = tmp_path / "trap"

    class Trap:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(trap),))

    pickled = np.array([Trap()], dtype=object)
    np.savez(tmp_path / "pickled.npz", x_train=pickled, y_train=pickled, x_test=pickled, y_test=pickled)
    np.save(tmp_path / "pickled.npy", pickled)
    for name in ("pickled.npz", "pickled.npy"):
        with pytest.raises(DataError, match="pickled Python objects, which are never loaded"):
            import_file("tiny", tmp_path / name)
    assert not trap.exists()


def test_a_file_that_is_not_there_or_is_a_folder_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.npz", tmp_path):
        with pytest.raises(DataError, match=f"{path} is not a file"):
            import_file("tiny", path)


def test_a_copy_that_changes_on_disk_is_verified_again(tmp_path: Path) -> None:
    path = put(tmp_path / "shared/tiny.npz")
    assert first_value() == 100
    put(path, npz_bytes({**ARRAYS, "x_test": ARRAYS["x_test"] + 1}) + b" ")
    with pytest.raises(DataError, match="sha256 of x_test"):
        first_value()


def test_only_the_arrays_that_are_used_are_read(tmp_path: Path) -> None:
    put(tmp_path / "shared/tiny.npz", npz_bytes({**ARRAYS, "x_test": ARRAYS["x_test"] + 1}))
    tail = Dataset.of({"name": "tiny", "held_out": {"name": "tail", "fraction": 0.5}})
    assert len(load(tail, {}).x_val) == 3
    with pytest.raises(DataError, match="sha256 of x_test"):
        verify("tiny")


def test_importing_verifies_and_copies_into_the_data_folder_and_nothing_else(tmp_path: Path) -> None:
    path = put(tmp_path / "download/some name.npz")
    target = import_file("tiny", path)
    assert target == tmp_path / "shared/tiny.npz"
    assert [file.name for file in target.parent.iterdir()] == ["tiny.npz"]
    assert first_value() == 100
    assert import_file("tiny", target) == target


def test_a_wrong_file_never_replaces_a_right_one(tmp_path: Path) -> None:
    put(tmp_path / "shared/tiny.npz")
    with pytest.raises(DataError):
        import_file("tiny", put(tmp_path / "wrong.npz", b"not a zip"))
    assert first_value() == 100


def test_a_folder_that_cannot_be_written_is_named_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path / "tiny.npz")
    monkeypatch.setenv("HARNESS_DATA_DIR", str(path / "inside"))
    with pytest.raises(DataError, match=r"inside/tiny.npz cannot be written: .* Set HARNESS_DATA_DIR"):
        import_file("tiny", path)


def test_fetching_downloads_verifies_and_keeps_the_dataset(tmp_path: Path) -> None:
    assert fetch("tiny", download=lambda: ARRAYS) == tmp_path / "shared/tiny.npz"
    assert first_value() == 100
    assert fetch("tiny", download=no_download) == tmp_path / "shared/tiny.npz"


def test_a_download_that_fails_names_the_other_ways() -> None:
    def unreachable() -> Mapping[str, Array]:
        raise OSError("name or service not known")

    with pytest.raises(DataError, match=rf"'tiny' cannot be downloaded: name or service not known\. .*{WAYS}"):
        fetch("tiny", download=unreachable)


def test_a_download_of_something_else_is_refused_and_not_kept(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the download does not hold the dataset 'tiny': the sha256 of y_test"):
        fetch("tiny", download=lambda: {**ARRAYS, "y_test": ARRAYS["y_test"] + 1})
    assert not (tmp_path / "shared").exists()


def test_fetching_what_is_here_but_broken_is_an_error_not_a_download(tmp_path: Path) -> None:
    put(tmp_path / "shared/tiny.npz", b"PK")
    with pytest.raises(DataError, match=r"shared/tiny\.npz cannot be read"):
        fetch("tiny", download=no_download)


def test_what_needs_no_file_cannot_be_fetched_or_imported(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="'synthetic' is generated"):
        fetch("synthetic")
    with pytest.raises(SuiteError, match="'synthetic' is generated"):
        import_file("synthetic", tmp_path)
    with pytest.raises(SuiteError, match="'mnist5k' is a part of harness"):
        import_file("mnist5k", tmp_path)
    for act in (fetch, verify):
        with pytest.raises(
            SuiteError,
            match="unknown dataset 'cifar'; known datasets: mnist, mnist5k, products, products_like, synthetic",
        ):
            act("cifar")


def test_fetching_what_ships_with_harness_says_where_it_is() -> None:
    assert fetch("mnist5k", download=no_download) == places("mnist5k")[0]


def test_a_damaged_installation_is_told_to_install_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "store.py"
    monkeypatch.setattr("harness.datasets.store.__file__", str(copy))
    with pytest.raises(DataError, match=r"'mnist5k' is not on .* install harness again"):
        load(Dataset(name="mnist5k"), {})
    shutil.copy(Path(__file__), tmp_path / "mnist5k.npz")
    with pytest.raises(DataError, match=r"mnist5k\.npz cannot be read.* install harness again"):
        load(Dataset(name="mnist5k"), {})


def test_the_list_says_where_each_dataset_is_or_how_to_get_it(tmp_path: Path) -> None:
    def listed() -> dict[str, Any]:
        return {status.name: status for status in list_datasets()}

    before = listed()
    assert before["mnist5k"].state == "shipped"
    assert before["mnist5k"].path == places("mnist5k")[0]
    assert (before["synthetic"].state, before["synthetic"].path) == ("generated", None)
    assert (before["tiny"].state, before["tiny"].path) == ("missing", None)
    assert "harness data import tiny FILE" in before["tiny"].how_to_get
    put(tmp_path / "shared/tiny.npz")
    after = listed()
    assert (after["tiny"].state, after["tiny"].path) == ("found", tmp_path / "shared/tiny.npz")
    assert after["tiny"].how_to_get == ""
    assert all(status.source and status.licence and status.summary for status in after.values())
