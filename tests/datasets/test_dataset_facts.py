"""What is known of a dataset without touching it, and what a wrong declaration is told."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.datasets import Facts, check, facts, load
from harness.domain.component import Component
from harness.domain.errors import SuiteError
from harness.domain.setting import Dataset


def held(name: str, **args: Any) -> Component:
    return Component(kind="held_out", name=name, args=args)


def synthetic(**args: Any) -> Dataset:
    return Dataset(name="synthetic", args=args)


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        (Dataset(name="mnist5k"), (4_000, 1_000)),
        (Dataset(name="mnist"), (60_000, 10_000)),
        (Dataset(name="mnist", take=20_000, held_out=held("tail", fraction=0.2)), (16_000, 4_000)),
        (Dataset(name="mnist", take=6_000, held_out=held("test", take=5_000)), (6_000, 5_000)),
        (Dataset(name="mnist", held_out=held("fold", k=2, of=3)), (40_000, 20_000)),
        (Dataset(name="mnist5k", take=10, held_out=held("fold", k=0, of=3)), (6, 4)),
        (Dataset(name="mnist5k", take=10, held_out=held("fold", k=2, of=3)), (7, 3)),
        (Dataset(name="mnist5k", take=10, held_out=held("tail", fraction=0.9)), (1, 9)),
    ],
)
def test_facts_count_what_is_left_after_take_and_the_held_out_split(
    dataset: Dataset, expected: tuple[int, int]
) -> None:
    assert facts(dataset) == Facts(train=expected[0], val=expected[1], shape=(28, 28), classes=10)


def test_facts_of_a_synthetic_dataset_come_from_its_arguments_not_from_generating_it() -> None:
    dataset = synthetic(samples=10**12, test_samples=7, shape=[3, 5, 2], classes=4)
    assert facts(dataset) == Facts(train=10**12, val=7, shape=(3, 5, 2), classes=4)


def test_an_own_function_has_no_facts_before_it_is_called() -> None:
    assert facts(Dataset(name="function", args={"function": "make", "sha256": "0" * 64, "size": 3})) is None


def test_asking_for_facts_imports_no_numpy_and_reads_no_file(tmp_path: Path) -> None:
    file = tmp_path / "my.npz"
    file.write_text("not read")
    code = (
        "import sys; from harness.datasets import facts; from harness.domain.handy import data_file, dataset, tail; "
        "[facts(dataset(name, held_out=tail(0.5))) for name in ('mnist', 'synthetic', 'products', 'products_like')]; "
        f"facts(data_file({str(file)!r})); "
        "sys.exit('numpy' in sys.modules or 'pyarrow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        (
            Dataset(name="mnits"),
            r"unknown dataset 'mnits'; known datasets: mnist, mnist5k, products, products_like, synthetic",
        ),
        (Dataset(name="mnist", args={"colour": 1}), r"dataset\.colour: .*'mnist'.* takes: held_out, scale, take"),
        (Dataset(name="function"), "give the function itself"),
        (synthetic(sample=3), r"dataset\.sample: .*it takes: .*samples"),
        (synthetic(samples=0), r"dataset\.samples must be a whole number of at least 1, got 0"),
        (synthetic(samples=10.0), r"dataset\.samples .* got 10\.0"),
        (synthetic(test_samples=True), r"dataset\.test_samples .* got True"),
        (synthetic(classes=1), r"dataset\.classes .* at least 2, got 1"),
        (synthetic(seed=-1), r"dataset\.seed .* got -1"),
        (synthetic(shape=[]), r"dataset\.shape .* got \[\]"),
        (synthetic(shape=28), r"dataset\.shape .* got 28"),
        (synthetic(shape=[28, 0]), r"dataset\.shape .* got 0"),
        (synthetic(separation=0), r"dataset\.separation .* above 0, got 0"),
        (synthetic(separation="far"), r"dataset\.separation .* got 'far'"),
        (Dataset(name="mnist", held_out=held("half")), "'half'"),
        (Dataset(name="mnist", held_out=held("tail")), "fraction"),
        (Dataset(name="mnist", held_out=held("tail", fraction=1.0)), "fraction.*1.0"),
        (Dataset(name="mnist", held_out=held("tail", fraction=0.1, of=3)), "'of'"),
        (Dataset(name="mnist", held_out=held("test", take=0)), "take.*0"),
        (Dataset(name="mnist", held_out=held("fold", k=3, of=3)), "k .*3"),
        (Dataset(name="mnist", held_out=held("fold", k=0, of=1)), "of.*1"),
        (Dataset(name="mnist", held_out=held("fold", k=0, of=3, how="mixed")), "how.*'mixed'"),
        (Dataset(name="mnist", held_out=held("fold", k=0, of=3, seed=1)), "seed has no meaning for contiguous"),
        (Dataset(name="mnist", held_out=held("fold", k=0, of=3, how="contiguous", seed=1)), "no meaning"),
    ],
)
def test_a_wrong_declaration_is_told_the_value_and_what_would_be_right(dataset: Dataset, said: str) -> None:
    for ask in (check, facts):
        with pytest.raises(SuiteError, match=said):
            ask(dataset)


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        (Dataset(name="mnist5k", take=4_001), r"dataset\.take is 4001, but the dataset 'mnist5k' holds 4000 training"),
        (Dataset(name="mnist", held_out=held("test", take=10_001)), r"held_out\.take is 10001, .* 10000 test samples"),
        (Dataset(name="mnist", take=2, held_out=held("fold", k=0, of=3)), r"of is 3, .* only 2 samples"),
        (Dataset(name="mnist", take=2, held_out=held("tail", fraction=0.9)), r"fraction is 0\.9, which leaves 0 of"),
        (Dataset(name="mnist", take=1, held_out=held("tail", fraction=0.1)), r"fraction is 0\.1, which leaves 0 of"),
    ],
)
def test_more_than_the_data_hold_is_refused_before_anything_is_loaded(dataset: Dataset, said: str) -> None:
    with pytest.raises(SuiteError, match=said):
        facts(dataset)


splits = st.one_of(
    st.builds(lambda take: held("test", take=take), st.none() | st.integers(1, 12)),
    st.builds(lambda fraction: held("tail", fraction=fraction), st.floats(0.01, 0.99)),
    st.builds(
        lambda of, k, how: held("fold", k=k % of, of=of, how=how),
        st.integers(2, 9),
        st.integers(0, 8),
        st.sampled_from(["contiguous", "shuffled", "stratified"]),
    ),
)


@settings(max_examples=60)
@given(samples=st.integers(1, 40), take=st.none() | st.integers(1, 45), split=splits)
def test_facts_foretell_exactly_what_load_returns(samples: int, take: int | None, split: Component) -> None:
    args = {"samples": samples, "test_samples": 10, "shape": [3, 2], "classes": 3}
    dataset = Dataset(name="synthetic", take=take, held_out=split, args=args)
    try:
        foretold = facts(dataset)
    except SuiteError as refused:
        with pytest.raises(SuiteError, match=re.escape(str(refused))):
            load(dataset, {})
        return
    arrays = load(dataset, {})
    assert foretold == Facts(
        train=len(arrays.x_train), val=len(arrays.x_val), shape=arrays.x_train.shape[1:], classes=arrays.classes
    )
    assert (len(arrays.y_train), len(arrays.y_val)) == (foretold.train, foretold.val)
