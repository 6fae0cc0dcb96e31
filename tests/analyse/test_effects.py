"""Effects of axes on a figure, checked against designs that were worked out by hand."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.analyse.effects import effects, levels
from harness.domain.errors import SuiteError

TARGET = {"metric": "val_accuracy", "at_least": 0.9, "at_most": None}


def run(rows: Sequence[dict[str, Any]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One trial of one epoch a row; ``value`` is both its val_accuracy and its train_s, the rest are columns."""
    ids = [{"run_id": "r", "trial_id": f"t{number}", "arm": "default"} for number in range(len(rows))]
    plain = [{name: value for name, value in row.items() if name != "value"} for row in rows]
    trials = pd.DataFrame([one | {"status": "completed"} | row for one, row in zip(ids, plain, strict=True)])
    numbers = [row["value"] for row in rows]
    more = {"epoch": 1, "warmup": False, "train_s": numbers, "elapsed_train_s": numbers, "val_accuracy": numbers}
    return trials, pd.DataFrame(ids).assign(**more)


def grid(
    value: Callable[..., float], *, repeats: Sequence[float] = (0.0,), **axes: Sequence[Any]
) -> list[dict[str, Any]]:
    """A full grid: ``value(*levels)`` plus each of `repeats`."""
    return [
        dict(zip(axes, point, strict=True)) | {"value": value(*point) + extra}
        for point in itertools.product(*axes.values())
        for extra in repeats
    ]


def found(rows: Sequence[dict[str, Any]], axes: Any, figure: str = "val_accuracy", **options: Any) -> pd.DataFrame:
    return effects(*run(rows), figure=figure, axes=axes, **options).set_index("term")


def test_two_by_two_with_an_interaction_has_the_shares_worked_out_by_hand() -> None:
    # y = 10 ± 2 ± 1 ± 0.5 ± 0.2, two repeats: squares are 8 times those of the effects; the noise has 4 degrees left.
    def value(a: int, b: int) -> float:
        return 10 + 2 * a + b + 0.5 * a * b

    table = found(grid(value, repeats=(-0.2, 0.2), a=(-1, 1), b=(-1, 1)), ["a", "b"])
    assert table.index.tolist() == ["a", "b", "a × b", "noise"]
    assert table["squares"].tolist() == pytest.approx([32, 8, 2, 0.32])
    assert table["freedom"].tolist() == [1, 1, 1, 4]
    assert table["f"].tolist()[:3] == pytest.approx([400, 100, 25])
    assert table["p"].tolist()[:3] == pytest.approx([stats.f.sf(value, 1, 4) for value in (400, 100, 25)])
    assert table["share"].tolist() == pytest.approx(
        [(32 - 0.08) / 42.4, (8 - 0.08) / 42.4, (2 - 0.08) / 42.4, 0.64 / 42.4]
    )
    assert table["share"].sum() == pytest.approx(1)
    assert (table["low"] < table["share"]).all()
    assert (table["share"] < table["high"]).all()
    assert table["levels"].tolist()[:3] == [2, 2, 4]
    assert table["n"].tolist() == [8] * 4


def test_levels_are_told_against_the_mean_with_the_t_interval() -> None:
    table = levels(*run(grid(lambda a: 10 + 2 * a, repeats=(-0.2, 0.2), a=(-1, 1))), figure="val_accuracy", axes=["a"])
    assert table[["axis", "level", "n"]].values.tolist() == [["a", "-1", 2], ["a", "1", 2]]
    assert table["difference"].tolist() == pytest.approx([-2, 2])
    # The variance is 0.16 / 2; a level's mean less that of both has a quarter of it: 1/2 + 1/2 over 4.
    reach = stats.t.ppf(0.99, 2) * math.sqrt(0.08 / 4)
    assert table["low"].tolist() == pytest.approx([-2 - reach, 2 - reach])
    assert table["high"].tolist() == pytest.approx([-2 + reach, 2 + reach])


def test_times_are_told_as_ratios() -> None:
    rows = [
        {"batch_size": size, "value": seconds * noise}
        for size, seconds in ((16, 4.0), (64, 1.0))
        for noise in (0.9, 1.1)
    ]
    table = levels(*run(rows), figure="train_s", axes=["batch_size"])
    assert table["ratio"].tolist() == pytest.approx([2.0, 0.5])
    assert (table["low"] < table["ratio"]).all()
    assert (table["ratio"] < table["high"]).all()


def test_the_shares_of_times_do_not_depend_on_their_unit() -> None:
    rows = grid(lambda a, b: a * b, repeats=(0.0, 0.1), a=(1, 2, 4), b=(1, 3))
    milli = [row | {"value": 1000 * row["value"]} for row in rows]
    one, other = (found(each, ["a", "b"], figure="train_s")["share"] for each in (rows, milli))
    assert one.tolist() == pytest.approx(other.tolist())


def test_an_unbalanced_design_has_type_ii_squares() -> None:
    # Two axes that occur together more often than apart: squares of each after the other, by plain regression.
    rows = [
        {"a": a, "b": b, "value": value}
        for a, b, values in ((0, 0, (1.0, 2.0, 1.5, 0.5)), (0, 1, (3.0,)), (1, 0, (2.0,)), (1, 1, (5.0, 6.0, 4.5)))
        for value in values
    ]
    table = found(rows, ["a", "b"])
    a, b, y = (np.array([row[name] for row in rows], dtype=float) for name in ("a", "b", "value"))

    def rest(*columns: np.ndarray) -> float:
        design = np.stack([np.ones(len(y)), *columns], axis=1)
        return float(np.linalg.lstsq(design, y, rcond=None)[1][0])

    assert table["squares"]["a"] == pytest.approx(rest(b) - rest(a, b))
    assert table["squares"]["b"] == pytest.approx(rest(a) - rest(a, b))
    assert table["squares"]["a × b"] == pytest.approx(rest(a, b) - rest(a, b, a * b))
    assert table["squares"]["noise"] == pytest.approx(rest(a, b, a * b))


def test_levels_hold_the_other_axes_equal() -> None:
    # The slow device ran more of the large batches; its own effect is 1 all the same.
    rows = [
        {"device": device, "size": size, "value": device + 5 * size + noise}
        for device, size, count in ((0, 0, 4), (0, 1, 1), (1, 0, 1), (1, 1, 4))
        for noise in np.linspace(-0.1, 0.1, count)
    ]
    table = levels(*run(rows), figure="val_accuracy", axes=["device", "size"]).set_index(["axis", "level"])
    of_device = table["difference"]["device"]
    assert of_device["1"] - of_device["0"] == pytest.approx(1, abs=0.1)
    assert table["adjusted"].all()


def test_one_repeat_does_not_separate_interactions_from_noise() -> None:
    table = found(grid(lambda a, b: a + b + 0.1 * a * b, a=(0, 1, 2), b=(0, 1)), ["a", "b"])
    assert pd.isna(table["share"]["a × b"])
    assert table["note"]["a × b"] == "not separable from noise: too few trials"
    assert table["note"]["noise"] == "with all interactions: too few trials to tell them from it"
    assert table["freedom"]["noise"] == 2
    assert table["share"]["a"] > 0.5


def test_with_three_axes_one_repeat_leaves_the_interaction_of_all() -> None:
    table = found(grid(lambda a, b, c: a + 2 * b + a * b + 0.1 * a * b * c, a=(0, 1), b=(0, 1), c=(0, 1)), list("abc"))
    assert table["freedom"]["noise"] == 1
    assert table["note"]["noise"] == "with interactions of three or more axes"
    assert table["share"]["a × b"] > 0


def test_one_trial_a_level_tells_no_share() -> None:
    table = found([{"a": level, "value": float(level)} for level in range(3)], ["a"])
    assert table["share"].isna().all()
    assert table["low"].isna().all()
    assert table["note"]["noise"] == "nothing is left to tell noise by: too few trials"
    of_levels = levels(
        *run([{"a": level, "value": float(level)} for level in range(3)]), figure="val_accuracy", axes=["a"]
    )
    assert of_levels["difference"].tolist() == pytest.approx([-1, 0, 1])
    assert of_levels["low"].isna().all()


def test_zipped_axes_are_one_term() -> None:
    rows = [
        {"size": size, "rate": rate, "value": size + noise} for size, rate in ((16, 0.1), (32, 0.2)) for noise in (0, 1)
    ]
    table = found(rows, ["size", "rate"])
    assert table.index.tolist() == ["size & rate", "noise"]
    assert table["note"]["size & rate"] == "zipped axes: one effect"
    of_levels = levels(*run(rows), figure="val_accuracy", axes=["size", "rate"])
    assert of_levels["level"].tolist() == ["16 & 0.1", "32 & 0.2"]


def test_an_axis_within_another_counts_after_it_alone() -> None:
    # A momentum that sgd alone has: the optimizer's squares are those of a one-way design, the momentum's the rest.
    rows = [
        {"optimizer": name, "momentum": momentum, "value": value + noise}
        for name, momentum, value in (("adam", None, 0.0), ("sgd", 0.0, 4.0), ("sgd", 0.9, 6.0))
        for noise in (-0.1, 0.1)
    ]
    table = found(rows, ["optimizer", "momentum"])
    assert table["squares"]["optimizer"] == pytest.approx(2 * 4 * 5**2 / 6)  # means 0 of 2 trials and 5 of 4
    assert table["squares"]["momentum"] == pytest.approx(4)
    assert table["note"]["momentum"] == "within optimizer"
    assert table["freedom"].tolist() == [1, 1, 3]
    assert "optimizer × momentum" not in table.index
    of_levels = levels(*run(rows), figure="val_accuracy", axes=["optimizer", "momentum"])
    assert of_levels["level"].tolist() == ["adam", "sgd", "0", "0.9", "–"]
    assert of_levels["difference"].tolist() == pytest.approx([-10 / 3, 5 / 3, 2 / 3, 8 / 3, -10 / 3])


def test_what_a_latin_square_does_not_tell_apart_is_a_row_of_its_own() -> None:
    rows = [
        {"a": a, "b": b, "c": (a + b) % 3, "value": a + 3.0 * (a == b) + noise}
        for a, b in itertools.product(range(3), range(3))
        for noise in (-0.1, 0.1)
    ]
    table = found(rows, ["a", "b", "c"])
    assert table["share"]["not separable"] > 0
    assert (table["note"][["a × b", "a × c", "b × c"]] == "not separable from the other axes").all()
    assert table["freedom"].sum() == len(rows) - 1


def test_axes_that_do_not_vary_are_left_out() -> None:
    table = found(
        [{"a": level, "b": 1, "value": level + noise} for level in (0, 1) for noise in (0.0, 0.1)], ["a", "b"]
    )
    assert table.index.tolist() == ["a", "noise"]


def test_without_an_axis_all_is_noise() -> None:
    table = found([{"a": 1, "value": value} for value in (0.1, 0.2, 0.4)], ["a"])
    assert table["share"].to_dict() == {"noise": pytest.approx(1.0)}
    assert levels(*run([{"a": 1, "value": 0.5}]), figure="val_accuracy", axes=["a"]).empty


def test_a_figure_that_does_not_vary_has_no_shares() -> None:
    table = found(grid(lambda a: 0.1, repeats=(0.0, 0.0, 0.0), a=(0, 1)), ["a"])
    assert table["share"].isna().all()
    assert (table["note"] == "the figure does not vary").all()


def test_an_effect_without_any_noise_is_all_of_the_variance() -> None:
    table = found(grid(lambda a, b: float(a), repeats=(0.0, 0.0), a=(0, 1), b=(0, 1)), ["a", "b"])
    assert table["share"].to_dict() == pytest.approx({"a": 1, "b": 0, "a × b": 0, "noise": 0})
    assert table["p"]["a"] == 0
    assert math.isnan(table["p"]["b"])


def test_a_numeric_axis_of_many_levels_is_cut_into_classes_and_seeds_are_not() -> None:
    random = np.random.default_rng(0)
    rates = 10 ** random.uniform(-4, 0, 40)
    rows = [
        {"rate": rate, "seed": seed % 20, "value": math.log(rate) + random.normal()} for seed, rate in enumerate(rates)
    ]
    table = found(rows, ["rate", "seed"])
    assert table["levels"]["rate"] == 5
    assert table["levels"]["seed"] == 20
    of_rate = levels(*run(rows), figure="val_accuracy", axes=["rate"])
    assert of_rate["n"].tolist() == [8] * 5
    assert of_rate["difference"].is_monotonic_increasing
    assert of_rate["level"].iloc[0].startswith(f"{rates.min():.4g} … ")


def test_a_random_search_tells_axes_and_not_pairs() -> None:
    random = np.random.default_rng(0)
    points = random.uniform(size=(30, 3))
    rows = [{"a": a, "b": b, "c": c, "value": 5 * a + b + random.normal(0, 0.1)} for a, b, c in points]
    table = found(rows, ["a", "b", "c"])
    assert table.index[0] == "a"
    assert table["p"]["a"] < 0.001
    assert table["share"]["c"] < 0.1
    assert table["share"][["a × b", "a × c", "b × c"]].isna().all()


def test_json_text_booleans_and_arms_are_axes() -> None:
    layers = [json.dumps([{"units": units}]) for units in (32, 64)]
    rows = grid(lambda layer, engine, shuffle: len(engine) + 0.1 * (layer == layers[0]), repeats=(0.0, 0.01),
                layers=layers, engine_asked=("xla", "graph"), shuffle=(True, False))  # fmt: skip
    table = found(rows, {"layers": "layers", "engine": "engine_asked", "shuffle": "shuffle"})
    assert table.index[0] == "engine"
    assert {"layers", "shuffle", "layers × engine"} <= set(table.index)
    of_levels = levels(*run(rows), figure="val_accuracy", axes=["shuffle"])
    assert of_levels["level"].tolist() == ["true", "false"]


def test_misses_are_left_out_and_counted() -> None:
    rows = [{"a": a, "value": value} for a, value in ((0, 0.95), (0, 1.0), (1, 0.92), (1, 0.5), (2, 0.4), (2, 0.3))]
    trials, epochs = run(rows)
    epochs["elapsed_train_s"] = [2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    table = levels(trials, epochs, figure="time_to_target", axes=["a"], target=TARGET).set_index("level")
    assert table["n"].tolist() == [2, 1, 0]
    assert table["left_out"].tolist() == [0, 1, 2]
    assert math.isnan(table["ratio"]["2"])
    shares = effects(trials, epochs, figure="time_to_target", axes=["a"], target=TARGET)
    assert set(shares["n"]) == {3}
    assert set(shares["left_out"]) == {3}


def test_failed_trials_make_the_grid_incomplete_and_are_counted() -> None:
    rows = grid(lambda a, b: a + b, repeats=(-0.1, 0.1), a=(0, 1, 2), b=(0, 1))
    trials, epochs = run(rows)
    trials.loc[[0, 1], "status"] = "failed"
    table = effects(trials, epochs, figure="val_accuracy", axes=["a", "b"]).set_index("term")
    assert set(table["left_out"]) == {2}
    assert table["freedom"].tolist() == [2, 1, 1, 5]


def test_trials_without_the_figure_give_empty_tables() -> None:
    trials, epochs = run([{"a": 0, "value": 0.1}, {"a": 1, "value": 0.1}])
    missed = {"figure": "time_to_target", "axes": ["a"], "target": TARGET}
    assert effects(trials, epochs, **missed).empty
    assert levels(trials, epochs, **missed).empty
    assert "share" in effects(trials, epochs, **missed)


def test_arrow_columns_and_nulls_are_read_as_plain_ones() -> None:
    rows = grid(lambda a, b: float(a) + len(b or ""), repeats=(0.0, 0.1), a=(0, 1), b=("x", None))
    trials, epochs = run(rows)
    plain = effects(trials, epochs, figure="train_s", axes=["a", "b"])
    arrow = trials.convert_dtypes(dtype_backend="pyarrow"), epochs.convert_dtypes(dtype_backend="pyarrow")
    pd.testing.assert_frame_equal(effects(*arrow, figure="train_s", axes=["a", "b"]), plain)


def test_the_same_trials_always_give_the_same_intervals() -> None:
    rows = grid(lambda a: float(a), repeats=(0.0, 0.4, 0.1), a=(0, 1))
    pd.testing.assert_frame_equal(found(rows, ["a"]), found(rows, ["a"]))


def test_the_interval_begins_at_0_unless_the_test_finds_something() -> None:
    random = np.random.default_rng(3)
    for _ in range(20):
        noise = random.normal(size=(4, 3))
        rows = [{"a": a, "value": 0.7 * a + value} for a in range(4) for value in noise[a]]
        row = found(rows, ["a"]).loc["a"]
        if abs(row["p"] - 0.01) > 0.005:  # the draws are 2,000
            assert (row["low"] > 0) == (row["p"] < 0.01)


@settings(max_examples=15)
@given(st.integers(2, 4), st.integers(2, 3), st.integers(2, 3), st.integers(0, 2**32 - 1))
def test_in_balanced_grids_squares_add_up_and_shares_are_shares(
    first: int, second: int, repeats: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    rows = [
        {"a": a, "b": b, "value": a + random.normal()}
        for a, b, _ in itertools.product(range(first), range(second), range(repeats))
    ]
    table = found(rows, ["a", "b"])
    values = np.array([row["value"] for row in rows])
    assert table["squares"].sum() == pytest.approx(((values - values.mean()) ** 2).sum())
    assert table["freedom"].sum() == len(rows) - 1
    assert table["share"].between(0, 1).all()
    assert (table["low"] <= table["high"]).all()
    assert table[["low", "high"]].stack().between(0, 1).all()


def test_the_interval_holds_the_true_share_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(5)
    held = []
    for _ in range(40):
        rows = [{"a": a, "value": (a - 1) * math.sqrt(1.5) + random.normal()} for a in range(3) for _ in range(4)]
        row = found(rows, ["a"]).loc["a"]  # variance of the levels 1, of the noise 1: a share of one half
        held.append(row["low"] <= 0.5 <= row["high"])
    assert 0.85 <= np.mean(held) <= 1


def test_wrong_requests_say_what_was_meant() -> None:
    trials, epochs = run([{"batch_size": 1, "value": 1.0}])
    epochs["node"] = "n"
    with pytest.raises(SuiteError, match=r"unknown axis 'batch_siz'; did you mean 'batch_size'\?"):
        effects(trials, epochs, figure="train_s", axes=["batch_siz"])
    with pytest.raises(SuiteError, match=r"unknown figure 'trian_s'; did you mean 'train_s'\?"):
        levels(trials, epochs, figure="trian_s", axes=["batch_size"])
    with pytest.raises(SuiteError, match="time_to_target needs a target"):
        effects(trials, epochs, figure="time_to_target", axes=["batch_size"])
    with pytest.raises(SuiteError, match="figure 'node' is not a number"):
        effects(trials, epochs, figure="node", axes=["batch_size"])
    with pytest.raises(SuiteError, match="confidence must lie between 0 and 1"):
        effects(trials, epochs, figure="train_s", axes=["batch_size"], confidence=95)


def test_lists_are_no_levels() -> None:
    rows = [{"cores": [place], "value": float(place)} for place in range(4)]
    with pytest.raises(SuiteError, match="axis 'cores' holds lists"):
        found(rows, ["cores"])


def test_where_a_level_never_reached_the_target_no_share_is_claimed() -> None:
    rows = grid(lambda a, b: 0.95 if a == 1 else 0.5, repeats=(-0.01, 0.01), a=(1, 2), b=(1, 2))
    table = found(rows, ["a", "b"], "time_to_target", target=TARGET)
    assert not table["enough"].any()
    assert table["share"].isna().all()
    assert set(table["note"]) == {"no trial of a = 2 has the figure"}


def test_where_less_than_four_in_five_have_the_figure_no_share_is_claimed() -> None:
    rows = [
        {"a": a, "value": 0.95 + 0.001 * number + 0.01 * a if number < hits else 0.5}
        for a in (1, 2)
        for number, hits in itertools.product(range(5), [3])
    ]
    table = found(rows, ["a"], "time_to_target", target=TARGET)
    assert table["share"].isna().all()
    assert set(table["note"]) == {"only 6 of 10 trials have the figure"}
    assert found(rows, ["a"])["enough"].all()
