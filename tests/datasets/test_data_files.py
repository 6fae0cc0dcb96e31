"""Files of one's own: what is read of them, what they are known by, and what is said of those that are wrong."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.datasets import Arrays, Preparation, Rows, facts, load, rows
from harness.domain.errors import DataError, HarnessError, SuiteError
from harness.domain.handy import data_file, fold, sgd, tail
from harness.domain.setting import Dataset, Setting
from harness.domain.suite import load_suite

ROWS = "id,width,height,kind\na,1,0.5,pear\nb,2,1.5,apple\nc,3,2.5,pear\nd,4,3.5,fig\n"


def put(path: Path, text: str = ROWS) -> Path:
    path.write_text(text)
    return path


def read(path: Path, **more: Any) -> Arrays:
    return load(data_file(path, **{"scale": "none", "held_out": tail(0.25), **more}), {})


def fruit(path: Path, **more: Any) -> Arrays:
    return read(path, target="kind", drop="id", **more)


def arrays_of(kind: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Write the same 4 samples in one of the kinds of file; return it with what data_file is to be told."""
    x, y = np.array([[1, 0.5], [2, 1.5], [3, 2.5], [4, 3.5]]), np.array([2, 0, 2, 1])
    path = folder / f"data.{kind}"
    if kind == "npz":
        np.savez(path, x=x, y=y)
    elif kind == "npy":
        np.save(path, np.column_stack([x, y]))
        return path, {"targets": "classes"}
    elif kind == "parquet":
        pa.parquet.write_table(pa.table({"width": x[:, 0], "label": y, "height": x[:, 1]}), path)
        return path, {"target": "label"}
    else:
        lines = [f"{a},{b},{label}" for (a, b), label in zip(x, y, strict=True)]
        put(path, "\n".join(["width,height,label", *lines]))
        return path, {"target": "label"}
    return path, {}


@pytest.mark.parametrize("kind", ["npz", "npy", "parquet", "csv"])
def test_every_kind_of_file_gives_the_same_samples(tmp_path: Path, kind: str) -> None:
    path, told = arrays_of(kind, tmp_path)
    arrays = read(path, **told)
    assert arrays.x_train.tolist() == [[1, 0.5], [2, 1.5], [3, 2.5]]
    assert arrays.x_val.tolist() == [[4, 3.5]]
    assert arrays.y_train.tolist() == [2, 0, 2]
    assert arrays.y_val.tolist() == [1]
    assert (arrays.classes, arrays.class_names) == (3, ("0", "1", "2"))
    assert (arrays.train_class_counts, arrays.val_class_counts) == ((1, 0, 2), (0, 1, 0))


def test_texts_become_classes_in_the_order_of_the_alphabet_and_other_columns_features_in_that_of_the_file(
    tmp_path: Path,
) -> None:
    arrays = fruit(put(tmp_path / "fruit.csv"))
    assert arrays.class_names == ("apple", "fig", "pear")
    assert arrays.y_train.tolist() == [2, 0, 2]
    assert arrays.feature_names == ("width", "height")


@pytest.mark.parametrize(
    ("values", "told", "classes", "targets"),
    [
        ([-1, 1, -1, 10], None, ("-1", "1", "10"), [0, 1, 0]),
        ([-1, 1, -1, 10], "numbers", None, [-1, 1, -1]),
        ([0.5, 1, 2, 3], None, None, [0.5, 1, 2]),
        ([5.0, 1.0, 5.0, 1.0], "classes", ("1", "5"), [1, 0, 1]),
        (["true", "false", "true", "true"], None, ("false", "true"), [1, 0, 1]),
        (["2020-01-02", "2020-01-01", "2020-01-02", "2020-01-02"], None, ("2020-01-01", "2020-01-02"), [1, 0, 1]),
    ],
)
def test_targets_are_classes_or_numbers_by_their_type_unless_told(
    tmp_path: Path, values: list[Any], told: Any, classes: Any, targets: list[float]
) -> None:
    lines = [f"{index},{value}" for index, value in enumerate(values)]
    arrays = read(put(tmp_path / "some.csv", "\n".join(["a,y", *lines])), target="y", targets=told)
    assert arrays.class_names == classes
    assert arrays.y_train.tolist() == targets


def test_a_file_is_split_taken_and_scaled_like_any_dataset(tmp_path: Path) -> None:
    path = put(tmp_path / "fruit.csv")
    arrays = fruit(path, take=3, scale="columns", held_out=fold(0, of=3))
    assert np.asarray(arrays.offset).tolist() == [2.5, 2.0]
    assert arrays.x_train.tolist() == [[-1, -1], [1, 1]]
    assert arrays.x_val.tolist() == [[-3, -3]]
    with pytest.raises(SuiteError, match=r"of is 5, but the file .*fruit\.csv has only 4 samples to make folds of"):
        fruit(path, held_out=fold(0, of=5))
    with pytest.raises(SuiteError, match=r"take is 5, but the file .*fruit\.csv holds 4 training samples"):
        fruit(path, take=5)


def test_small_integers_of_an_array_keep_their_unit(tmp_path: Path) -> None:
    np.savez(tmp_path / "pictures.npz", x=np.full((4, 2, 2), 51, np.uint8), y=np.array([0, 1, 0, 1]))
    arrays = read(tmp_path / "pictures.npz", scale="unit")
    assert arrays.x_train.shape == (3, 2, 2)
    assert arrays.x_train[0, 0, 0] == np.float32(0.2)


def test_a_test_part_is_in_the_same_npz_or_in_a_file_of_its_own(tmp_path: Path) -> None:
    x, y = np.arange(8.0).reshape(4, 2), np.array(["b", "a", "b", "a"])
    np.savez(tmp_path / "both.npz", x_train=x, y_train=y, x_test=x[:1], y_test=y[:1])
    np.savez(tmp_path / "train.npz", x=x, y=y)
    np.savez(tmp_path / "test.npz", x=x[:1], y=y[:1])
    for arrays in (
        read(tmp_path / "both.npz", held_out="test"),
        read(tmp_path / "train.npz", test=tmp_path / "test.npz", held_out="test"),
    ):
        assert (len(arrays.x_train), len(arrays.x_val)) == (4, 1)
        assert arrays.y_val.tolist() == [1]
    other = put(tmp_path / "other.csv", "kind,height,width\nfig,9,1\n")  # found by name, without what is dropped
    arrays = fruit(put(tmp_path / "fruit.csv"), test=other, held_out="test")
    assert arrays.x_val.tolist() == [[1, 9]]
    assert arrays.y_val.tolist() == [1]


def test_an_npy_file_can_have_its_targets_in_another(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(24.0).reshape(4, 3, 2))
    np.save(tmp_path / "y.npy", np.array([[0.5], [1.5], [2.5], [3.5]]))
    arrays = read(tmp_path / "x.npy", target=tmp_path / "y.npy")
    assert arrays.x_train.shape == (3, 3, 2)
    assert arrays.y_train.tolist() == [0.5, 1.5, 2.5]
    assert arrays.classes is None


def test_a_dataset_is_what_is_in_its_files_wherever_they_lie(tmp_path: Path) -> None:
    def setting_id(folder: str, text: str = ROWS) -> str:
        (tmp_path / folder).mkdir(exist_ok=True)
        path, test = put(tmp_path / folder / "fruit.csv", text), put(tmp_path / folder / "test.csv")
        return Setting(dataset=data_file(path, target="kind", test=test), optimizer=sgd()).setting_id

    here = setting_id("here")
    assert here == setting_id("there")
    assert here != setting_id("here", ROWS.replace("3.5", "3.6"))


def test_a_relative_path_is_taken_from_the_folder_of_the_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "suites"
    (folder / "data").mkdir(parents=True)
    put(folder / "data/fruit.csv")
    suite = put(
        folder / "fruit.py",
        "from harness import Setting, Suite, data_file, tail\n"
        "fruit = data_file('data/fruit.csv', target='kind', held_out=tail(0.25))\n"
        "suite = Suite(name='fruit', base=Setting(dataset=fruit))\n",
    )
    dataset = load_suite(suite).suite.base.dataset
    assert dataset is not None
    assert dataset.args["path"] == str(folder / "data/fruit.csv")
    monkeypatch.chdir(folder)
    made = subprocess.run(
        [sys.executable, "-c", "from harness import data_file; print(data_file('data/fruit.csv').args['path'])"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert made.stdout.strip() == str(folder / "data/fruit.csv")
    (folder / "data/fruit.csv").unlink()
    with pytest.raises(SuiteError, match=r"fruit\.py:2: .*fruit\.csv cannot be read .* taken from .*suites"):
        load_suite(suite)


def test_a_file_that_changed_since_it_was_declared_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path / "fruit.csv")
    dataset = data_file(path, target="kind", drop=["id"], scale="none", held_out=tail(0.25))
    load(dataset, {})
    put(path, ROWS.replace("3.5", "3.25"))
    with pytest.raises(DataError, match=r"fruit\.csv is not what it was .* sha256 is \w{64}, expected \w{64}; start"):
        load(dataset, {})
    path.unlink()
    with pytest.raises(DataError, match=r"fruit\.csv is not a file on .* the same place on every machine"):
        load(dataset, {})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"fruit\.csv is empty: it has 0 bytes"),
        ("id,width,height,kind\n", r"is empty: it has 4 columns and no rows"),
        ("id,width,height\na,1,2\n", r"has no column 'kind'; it has 'id', 'width', 'height'$"),
        ("id;width;height;kind\na;1;2;fig\n", r"has no columns 'kind', 'id'; .* separated by commas"),
        (ROWS + "e,4,wide,fig\n", r"row 6 \(the header is row 1\), column 'height': 'wide' is no number; .*'height'"),
        (ROWS + "e,NA,4,fig\n", r"row 6 .*, column 'width': 'NA' is no number"),
        (ROWS + "e,4,nan,fig\n", r"row 6 .*, column 'height': nan is no finite number"),
        (ROWS + "e,4,inf,fig\n", r"row 6 .*, column 'height': inf is no finite number"),
        (ROWS + "e,4,,fig\n", r"row 6 .*, column 'height': is empty; fill it in"),
        (ROWS + "e,4,5,\n", r"row 6 .*, column 'kind': is empty"),
        (ROWS + "e,4,5\n", r"fruit\.csv cannot be read as CSV: .*Row #6: Expected 4 columns, got 3: e,4,5"),
        (ROWS + "e,4,5,6,7\n", r"Row #6: Expected 4 columns, got 5"),
        (ROWS.replace("width", "height"), r"several columns named 'height'"),
        ("id,kind\na,fig\nb,pear\n", r"no columns but its target"),
        ("id,width,kind\na,2020-01-01,fig\n", r"row 2 .*, column 'width': datetime\.date\(2020, 1, 1\) is no number"),
    ],
)
def test_a_wrong_csv_file_is_told_the_row_the_column_and_the_value(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        fruit(put(tmp_path / "fruit.csv", text))


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "fruit.csv"
    path.write_bytes(ROWS.encode() + b"e,4,5,p\xeache\n")
    with pytest.raises(DataError, match=r"row \d .*column 'kind': b.* is no text in UTF-8"):
        fruit(path)


def test_a_class_that_was_never_seen_is_named_with_those_that_were(tmp_path: Path) -> None:
    test = put(tmp_path / "test.csv", "width,height,kind\n1,2,fig\n3,4,plum\n")
    with pytest.raises(DataError, match=r"test\.csv, row 3 .*'plum' is no class .* these are: apple, fig, pear"):
        fruit(put(tmp_path / "fruit.csv"), test=test, held_out="test")
    x = np.zeros((3, 2))
    np.savez(tmp_path / "both.npz", x_train=x, y_train=[1, 2, 2], x_test=x, y_test=[1, 2, 3])
    with pytest.raises(DataError, match=r"both\.npz, y_test\[2\]: '3' is no class .* these are: 1, 2"):
        read(tmp_path / "both.npz", held_out="test")


def test_a_text_where_numbers_were_asked_for_or_a_fraction_where_classes_were_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 2 .*'pear' is no number, and the targets are to be numbers"):
        fruit(put(tmp_path / "fruit.csv"), targets="numbers")
    with pytest.raises(DataError, match=r"row 3 .*column 'height': 1\.5 names no class"):
        read(put(tmp_path / "b.csv", "a,height\n1,1\n2,1.5\n"), target="height", targets="classes")


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (np.array([[1.0, np.nan]]), [0], r"x_train\[0, 1\] is nan, no finite number"),
        (np.array([["a", "b"]]), [0], r"x_train holds <U1, not numbers"),
        (np.array([[1j, 2]]), [0], r"x_train holds complex128, not numbers"),
        (np.zeros((0, 2)), [], r"x_train has the shape \(0, 2\)"),
        (np.zeros(3), [0, 1, 2], r"x_train has the shape \(3,\); it needs samples as rows"),
        (np.zeros((3, 2)), [0, 1], r"x_train has 3 samples, but y_train has 2"),
        (np.zeros((2, 2)), [[0, 1], [1, 0]], r"y_train holds int64 of the shape \(2, 2\); give one whole number"),
        (np.zeros((2, 2)), [0.5, np.inf], r"y_train\[1\]: inf is no finite number"),
        (np.array([[1, None]]), [0], r"holds Python objects .*never loaded; make each an array of numbers"),
        (np.zeros((1, 2)), np.array([{"a": 1}]), r"holds Python objects"),
    ],
)
def test_wrong_arrays_are_told_what_they_hold(tmp_path: Path, x: Any, y: Any, said: str) -> None:
    np.savez(tmp_path / "some.npz", x=x, y=np.asarray(y), allow_pickle=True)
    with pytest.raises(DataError, match=said):
        read(tmp_path / "some.npz")


def test_an_npz_file_with_other_arrays_is_told_which_it_should_have(tmp_path: Path) -> None:
    np.savez(tmp_path / "some.npz", X=np.zeros((2, 2)), labels=np.zeros(2))
    with pytest.raises(DataError, match=r"has the arrays X, labels; it should have the arrays x and y, or x_train"):
        read(tmp_path / "some.npz")


@pytest.mark.parametrize("name", ["data.pkl", "data.pickle", "DATA.PKL", "model.joblib"])
def test_pickles_are_refused_unread_with_the_way_to_convert_them(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(pickle.dumps({"x": [1]}))
    with pytest.raises(SuiteError, match=r"is a pickle, which can run any program .* numpy\.savez.*to_parquet"):
        facts(data_file(path))


@pytest.mark.parametrize("name", ["data.npy", "data.npz", "data.csv", "data.parquet"])
def test_a_pickle_under_another_name_is_never_unpickled(tmp_path: Path, name: str) -> None:
    trap = tmp_path / "trap"

    class Trap:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(trap),))

    path = tmp_path / name
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(DataError, match=str(path)):
        read(path, **({"target": "y"} if name.endswith(("csv", "parquet")) else {}))
    np.save(tmp_path / "objects.npy", np.array([[Trap()]], dtype=object))
    with pytest.raises(DataError, match="never loaded"):
        read(tmp_path / "objects.npy")
    assert not trap.exists()


def test_any_other_kind_of_file_is_told_which_are_read(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"data\.xlsx is of a kind that is not read; these are: \.csv, \.parquet .*"):
        facts(data_file(put(tmp_path / "data.xlsx")))


def test_what_does_not_go_together_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    csv, npy, npz = (put(tmp_path / f"data.{kind}") for kind in ("csv", "npy", "npz"))
    for dataset, said in (
        (data_file(csv), "which column is the target"),
        (data_file(csv, target="a", drop=["a"], held_out=tail(0.5)), "drop names 'a', which is the target"),
        (data_file(csv, target="a"), r"held_out is \"test\", but the file .*data\.csv has no test part; use a tail"),
        (data_file(npz, target="a"), r"target is 'a', but .*data\.npz has no columns with names"),
        (data_file(npz, drop="a"), r"drop is \['a'\], but"),
        (data_file(npy, target=csv), r"data\.csv cannot be the target of .*data\.npy"),
        (data_file(npy, target=npy, test=npy), "goes with no test file; put all of them into one"),
        (data_file(csv, target="a", test=npz), r"data\.npz cannot be the test part of .*data\.csv"),
        (data_file(npz, targets="labels"), 'targets must be "classes" or "numbers", got \'labels\''),  # type: ignore[arg-type]
        (Dataset(name="file"), r"write dataset=data_file\(\"my\.csv\", target=\"label\"\)"),
        (Dataset(name="file", args={"path": "a.csv"}), "and its checksum"),
        (Dataset(name="file", args={"colour": 1}), r"dataset\.colour: a file has no such argument"),
        (Dataset(name="file", args={"path": 1}), r"dataset\.path must be a str, got 1"),
    ):
        with pytest.raises(SuiteError, match=said):
            facts(dataset)


@pytest.mark.parametrize("kind", ["npz", "npy", "parquet", "csv"])
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_a_damaged_file_is_an_error_of_ours_or_else_is_read(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    path, told = arrays_of(kind, tmp_path)
    damaged = bytearray(path.read_bytes())
    for position, bits in data.draw(st.lists(st.tuples(st.integers(0, len(damaged) - 1), st.integers(1, 255)))):
        damaged[position] ^= bits
    path.write_bytes(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]))
    try:
        read(path, **told)
    except HarnessError as error:
        assert path.name in str(error)  # noqa: PT017


# Further rows, for a model that was trained. --------------------------------------------------------------------


def further(path: Path, trained: Path, **more: Any) -> Rows:
    """Return the rows of `path` for a model that was trained on the file `trained`."""
    dataset = data_file(trained, **{"scale": "columns", "held_out": tail(0.25), **more})
    return rows(path, dataset, Preparation.of(load(dataset, {}).preparation.plain()))


def test_further_rows_are_found_by_name_with_their_ids_and_their_targets_where_they_have_them(tmp_path: Path) -> None:
    trained = put(tmp_path / "fruit.csv")
    more = put(tmp_path / "more.csv", "height,id,width\n1.5,x,2\n2.5,y,3\n")
    found = further(more, trained, target="kind", drop="id")
    assert np.allclose(found.x, [[0, 0], [np.sqrt(1.5), np.sqrt(1.5)]])
    assert (found.y, found.ids, found.id_name) == (None, ("x", "y"), "id")
    put(more, "height,kind,width\n1.5,fig,2\n2.5,apple,3\n")
    found = further(more, trained, target="kind", drop="id")
    assert found.y is not None
    assert (found.y.tolist(), found.y.dtype, found.ids) == ([1, 0], np.int32, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("width\n1\n", r"more\.csv has no column 'height'; it has 'width'"),
        ("width,height,depth\n1,2,3\n", r"has a column 'depth', which the model was not trained on"),
        ("width,height\n1,tall\n", r"row 2 .*, column 'height': 'tall' is no number"),
        (
            "width,height,kind\n1,2,plum\n",
            r"row 2 .*'plum' is no class of those trained on; these are: apple, fig, pear",
        ),
        ("width,height\n", "is empty"),
    ],
)
def test_wrong_further_rows_are_told_the_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        further(put(tmp_path / "more.csv", text), put(tmp_path / "fruit.csv"), target="kind", drop="id")


def test_further_rows_can_be_arrays_whatever_the_model_was_trained_on(tmp_path: Path) -> None:
    trained = put(tmp_path / "fruit.csv")
    x = np.array([[2, 1.5], [3, 2.5]])
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "xy.npz", x=x, y=np.array(["pear", "fig"]))
    unlabelled = further(tmp_path / "x.npy", trained, target="kind", drop="id")
    labelled = further(tmp_path / "xy.npz", trained, target="kind", drop="id")
    assert unlabelled.y is None
    assert np.allclose(unlabelled.x, labelled.x)
    assert labelled.y is not None
    assert labelled.y.tolist() == [2, 1]
    np.save(tmp_path / "wide.npy", np.zeros((2, 5)))
    with pytest.raises(DataError, match=r"samples of the shape \(5,\), but the model was trained on \(2,\)"):
        further(tmp_path / "wide.npy", trained, target="kind", drop="id")
    with pytest.raises(DataError, match=r"nothing\.csv: there is no such file"):
        further(tmp_path / "nothing.csv", trained, target="kind", drop="id")


def test_a_model_of_pictures_is_given_pictures(tmp_path: Path) -> None:
    dataset = Dataset(name="mnist5k")
    arrays = load(dataset, {})
    raw = (arrays.x_val[:3] * 255).round().astype(np.uint8)
    np.savez(tmp_path / "mnist.npz", x_train=raw[:1], y_train=[0], x_test=raw, y_test=arrays.y_val[:3].astype(np.uint8))
    found = rows(tmp_path / "mnist.npz", dataset, arrays.preparation)
    assert np.array_equal(found.x, arrays.x_val[:3])
    assert found.y is not None
    assert found.y.tolist() == arrays.y_val[:3].tolist()


def test_a_table_trained_with_its_target_last_takes_rows_with_and_without_it(tmp_path: Path) -> None:
    table = np.array([[1, 2, 0.5], [3, 4, 1.5], [5, 6, 2.5], [7, 8, 3.5]])
    np.save(tmp_path / "train.npy", table)
    np.save(tmp_path / "x.npy", table[:, :2])
    assert further(tmp_path / "x.npy", tmp_path / "train.npy").y is None
    labelled = further(tmp_path / "train.npy", tmp_path / "train.npy")
    assert labelled.y is not None
    assert labelled.y.tolist() == [0.5, 1.5, 2.5, 3.5]


def test_what_a_trial_does_to_its_arrays_changes_nothing_for_the_next(tmp_path: Path) -> None:
    path, told = arrays_of("npz", tmp_path)
    arrays = read(path, **told)
    for array in (arrays.x_train, arrays.y_train, arrays.x_val, arrays.y_val):
        array[:] = 1
    assert read(path, **told).y_train.tolist() == [2, 0, 2]
