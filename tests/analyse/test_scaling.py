"""Speed-up over cores, GPUs and nodes, checked against machines of which the serial fraction is known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.analyse.scaling import karp_flatt, node_scaling, scaling
from harness.domain.errors import SuiteError


def run(
    rates: Mapping[int, Sequence[float]], *, resource: str = "cpus", run_id: str = "r", **more: Any
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One trial of one epoch a rate, in samples a second; the seeds of each count of the resource are 0, 1, ..."""
    rows = [
        {"run_id": run_id, "trial_id": f"t{seed}", "setting_id": "s", "arm": f"{resource}={count},dispatch=step",
         "seed": seed, "block": seed, "status": "completed", "cpus": 1, "gpus": 0.0, resource: count, "rate": rate,
         "neighbours": 0} | more
        for count, values in rates.items() for seed, rate in enumerate(values)
    ]  # fmt: skip
    trials = pd.DataFrame(rows)
    epochs = trials[["run_id", "trial_id", "arm"]].assign(epoch=1, warmup=False, samples_per_s=trials["rate"])
    return trials.drop(columns="rate"), epochs


def amdahl(serial: float, count: float) -> float:
    return 1 / (serial + (1 - serial) / count)


def together(*runs: tuple[pd.DataFrame, pd.DataFrame]) -> tuple[pd.DataFrame, pd.DataFrame]:
    return pd.concat([one[0] for one in runs], ignore_index=True), pd.concat(
        [one[1] for one in runs], ignore_index=True
    )


def test_a_known_serial_fraction_is_found_at_every_count() -> None:
    table = scaling(*run({count: [100 * amdahl(0.1, count)] * 2 for count in (1, 2, 4, 8)}))
    assert table["count"].tolist() == [1, 2, 4, 8]
    assert table["speedup"].tolist() == pytest.approx([1, 1 / 0.55, 1 / 0.325, 1 / 0.2125])
    assert table["efficiency"].tolist() == pytest.approx([1, 1 / 1.1, 1 / 1.3, 1 / 1.7])
    assert math.isnan(table["serial_fraction"][0])
    assert table["serial_fraction"].tolist()[1:] == pytest.approx([0.1] * 3)
    assert table["amdahl_serial_fraction"].tolist() == pytest.approx([0.1] * 4)
    assert table["amdahl_limit"].tolist() == pytest.approx([10] * 4)
    assert table["amdahl_speedup"].tolist() == pytest.approx(table["speedup"].tolist())


def test_the_smallest_count_need_not_be_one() -> None:
    table = scaling(*run({count: [amdahl(0.2, count)] * 2 for count in (2, 4, 8)}))
    assert table["speedup"].tolist() == pytest.approx([1, 0.6 / 0.4, 0.6 / 0.3])
    assert table["efficiency"].tolist() == pytest.approx([1, 0.75, 0.5])
    assert table["serial_fraction"].tolist()[1:] == pytest.approx([0.2, 0.2])
    assert table["amdahl_serial_fraction"][0] == pytest.approx(0.2)
    assert table["amdahl_limit"][0] == pytest.approx(5)


def test_perfect_scaling_has_no_limit() -> None:
    table = scaling(*run({1: [10.0, 10.0], 2: [20.0, 20.0], 4: [40.0, 40.0]}))
    assert table["efficiency"].tolist() == pytest.approx([1, 1, 1])
    assert table["amdahl_serial_fraction"][0] == pytest.approx(0, abs=1e-9)
    assert table["amdahl_limit"][0] > 1e9


def test_more_than_linear_is_told_as_it_is() -> None:
    table = scaling(*run({1: [10.0], 2: [25.0]}))
    assert table["efficiency"][1] == pytest.approx(1.25)
    assert table["serial_fraction"][1] == pytest.approx((0.4 - 0.5) / 0.5)
    assert table["amdahl_limit"][1] == math.inf


@given(st.floats(0, 1), st.integers(2, 1024), st.integers(1, 1023))
def test_karp_and_flatt_undo_amdahl(serial: float, count: int, smallest: int) -> None:
    smallest = min(smallest, count - 1)
    speedup = amdahl(serial, count) / amdahl(serial, smallest)
    # A few parts in 10^16 of the speed-up are that many times count / (count - smallest) of the fraction.
    assert karp_flatt(speedup, count, smallest) == pytest.approx(serial, abs=1e-6)


def test_slower_than_any_serial_fraction_explains_has_none() -> None:
    assert math.isnan(karp_flatt(0.1, 4, 2))


def test_speed_ups_of_one_run_are_paired_by_seed() -> None:
    drift = np.array([1.0, 2.0, 3.0])
    noise = np.array([0.99, 1.0, 1.01])
    table = scaling(*run({1: list(drift), 2: list(1.8 * drift * noise)}))
    assert table["paired"].tolist() == [False, True]
    logs = np.log(1.8 * noise)
    reach = stats.t.ppf(0.99, 2) * logs.std(ddof=1) / math.sqrt(3)
    assert table["low"][1] == pytest.approx(math.exp(logs.mean() - reach))
    assert table["high"][1] == pytest.approx(math.exp(logs.mean() + reach))
    assert table["low_efficiency"][1] == pytest.approx(table["low"][1] / 2)
    assert math.isnan(table["low"][0])


def test_different_seeds_are_compared_by_welchs_t() -> None:
    one, other = [10.0, 11.0, 12.0], [20.0, 23.0, 21.0, 22.0]
    first, second = run({1: one}), run({2: other})
    second[0]["seed"] += 10
    table = scaling(*together(first, second))
    assert not table["paired"].any()
    interval = stats.ttest_ind(np.log(other), np.log(one), equal_var=False).confidence_interval(0.98)
    assert table["low"][1] == pytest.approx(math.exp(interval.low))
    assert table["high"][1] == pytest.approx(math.exp(interval.high))


def test_the_same_seeds_of_different_runs_are_pairs_too() -> None:
    table = scaling(*together(run({1: [10.0, 11.0]}, run_id="r"), run({2: [20.0, 22.0]}, run_id="q")))
    assert table["paired"].tolist() == [False, True]


def test_one_repeat_has_no_intervals() -> None:
    table = scaling(*run({1: [10.0], 2: [18.0]}))
    assert table["speedup"].tolist() == pytest.approx([1, 1.8])
    assert table[["low", "high", "low_samples_per_s", "high_samples_per_s"]].isna().all().all()


def test_throughput_has_the_t_interval_of_its_logs() -> None:
    table = scaling(*run({1: [10.0, 20.0, 40.0], 2: [20.0, 40.0, 80.0]}))
    assert table["samples_per_s"].tolist() == pytest.approx([20, 40])
    reach = stats.t.ppf(0.99, 2) * math.log(2) / math.sqrt(3)
    assert table["low_samples_per_s"][0] == pytest.approx(20 * math.exp(-reach))
    assert table["n"].tolist() == [3, 3]


def test_gpus_are_counted_as_cpus_are_and_none_is_no_count() -> None:
    table = scaling(*run({0: [1.0], 1: [10.0], 4: [30.0]}, resource="gpus"), resource="gpus")
    assert table["count"].tolist() == [1, 4]
    assert table["resource"].tolist() == ["gpus", "gpus"]
    assert table["arm"].tolist() == ["dispatch=step"] * 2


def test_arms_that_differ_in_more_and_other_machines_are_groups_of_their_own() -> None:
    quick, slow = run({1: [10.0], 2: [20.0]}), run({1: [10.0], 2: [11.0]}, run_id="q")
    slow[0]["arm"] = slow[1]["arm"] = slow[0]["arm"].str.replace("step", "epoch")
    quick[0]["cpu_model"], slow[0]["cpu_model"] = "EPYC", None
    table = scaling(*together(quick, slow))
    assert table["arm"].tolist() == ["dispatch=step"] * 2 + ["dispatch=epoch"] * 2
    assert table["speedup"].tolist() == pytest.approx([1, 2, 1, 1.1])
    assert table["cpu_model"].tolist()[0] == "EPYC"


def test_a_group_of_one_count_does_not_scale() -> None:
    table = scaling(*run({2: [10.0, 11.0]}))
    assert table.empty
    assert {"speedup", "samples_per_s", "amdahl_limit", "resource"} <= set(table.columns)


def test_neighbours_stand_beside_what_they_disturb() -> None:
    trials, epochs = run({1: [10.0, 10.0], 2: [15.0, 15.0]})
    trials["neighbours"] = [0, 3, 0, 0]
    assert scaling(trials, epochs)["neighbours"].tolist() == [3, 0]


def test_failed_trials_are_no_throughput() -> None:
    trials, epochs = run({1: [10.0, 99.0], 2: [20.0, 20.0]})
    trials.loc[1, "status"] = "failed"
    assert scaling(trials, epochs)["n"].tolist() == [1, 2]


def test_arrow_columns_scale_as_plain_ones_do() -> None:
    plain = run({1: [10.0, 11.0], 2: [20.0, 21.0]})
    arrow = [frame.convert_dtypes(dtype_backend="pyarrow") for frame in plain]
    assert scaling(arrow[0], arrow[1])["speedup"].tolist() == scaling(*plain)["speedup"].tolist()


def test_wrong_requests_say_what_was_meant() -> None:
    trials, epochs = run({1: [10.0]})
    with pytest.raises(SuiteError, match=r"unknown resource 'cpu'; did you mean 'cpus'\?"):
        scaling(trials, epochs, resource="cpu")  # type: ignore[arg-type]
    with pytest.raises(SuiteError, match=r"unknown column 'setting'; did you mean 'setting_id'\?"):
        scaling(trials, epochs, by=["setting"])
    with pytest.raises(SuiteError, match="confidence must lie between 0 and 1"):
        scaling(trials, epochs, confidence=95)


def whole(
    run_id: str, nodes: int, span_s: float, *, trials: int = 4
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """A run of trials of 10 s and 1,000 samples on workers of as many nodes, two a node, within a span."""
    start = pd.Timestamp("2026-01-01T00:00:00Z")
    began = [start + pd.Timedelta(seconds=second) for second in np.linspace(0, span_s - 10, trials)]
    table = pd.DataFrame({
        "run_id": run_id, "trial_id": [f"t{number}" for number in range(trials)], "setting_id": "s", "arm": "default",
        "status": "completed", "started_at": began, "ended_at": [at + pd.Timedelta(seconds=10) for at in began],
        "wall_s": 10.0, "worker": [f"w{number % (2 * nodes)}" for number in range(trials)],
    })  # fmt: skip
    epochs = table[["run_id", "trial_id", "arm"]].assign(epoch=1, samples=1000)
    return table, epochs, pd.DataFrame({"run_id": run_id, "node": [f"n{number}" for number in range(nodes)]})


def all_of(*parts: tuple[pd.DataFrame, ...]) -> list[pd.DataFrame]:
    return [pd.concat(frames, ignore_index=True) for frames in zip(*parts, strict=True)]


def test_whole_runs_are_compared_by_their_span() -> None:
    table = node_scaling(*all_of(whole("a", 1, 20.0), whole("b", 2, 12.5)))
    assert table["count"].tolist() == [1, 2]
    assert table["trials"].tolist() == [4, 4]
    assert table["span_s"].tolist() == [20.0, 12.5]
    assert table["trials_per_s"].tolist() == pytest.approx([0.2, 0.32])
    assert table["samples_per_s"].tolist() == pytest.approx([200, 320])
    assert table["workers"].tolist() == [2, 4]
    assert table["utilisation"].tolist() == pytest.approx([40 / 40, 40 / 50])
    assert table["speedup"].tolist() == pytest.approx([1, 1.6])
    assert table["efficiency"].tolist() == pytest.approx([1, 0.8])
    assert table["serial_fraction"][1] == pytest.approx((1 / 1.6 - 1 / 2) / (1 / 2))


def test_runs_of_other_trials_are_other_work() -> None:
    table = node_scaling(*all_of(whole("a", 1, 20.0), whole("b", 2, 12.5), whole("c", 4, 30.0, trials=8)))
    assert table["count"].tolist() == [1, 2]
    assert table["work"].nunique() == 1


def test_resumed_runs_stood_still_and_are_left_out() -> None:
    frames = all_of(whole("a", 1, 20.0), whole("b", 2, 12.5))
    runs = [{"run_id": "a", "attempts": [{}, {}]}, {"run_id": "b", "attempts": [{}]}]
    assert node_scaling(*frames, runs=runs).empty


def test_several_runs_on_as_many_nodes_have_an_interval() -> None:
    parts = [whole(f"a{number}", 1, 20.0 + number) for number in range(3)]
    parts += [whole(f"b{number}", 2, 12.0 + number / 10) for number in range(3)]
    table = node_scaling(*all_of(*parts))
    assert table["n"].tolist() == [3, 3]
    assert table["low"][1] < table["speedup"][1] < table["high"][1]
    assert table["low_trials_per_s"][0] < table["trials_per_s"][0] < table["high_trials_per_s"][0]


def test_a_run_in_which_nothing_completed_is_no_work() -> None:
    lost = whole("a", 1, 20.0)
    lost[0]["status"] = "lost"
    lost[0]["started_at"] = pd.NaT
    assert node_scaling(*lost).empty


def test_devices_that_are_gpus_are_one_group_and_those_of_cores_another() -> None:
    on_gpus = [
        run({count: [100.0 * count]}, resource="devices", arm=f"devices={count},gpus={count}") for count in (1, 2)
    ]
    on_cores = run({1: [10.0], 2: [12.0]}, resource="devices", setting_id="s", run_id="other")
    table = scaling(*together(*on_gpus, on_cores), resource="devices")
    assert table["arm"].tolist() == ["gpus", "gpus", "dispatch=step", "dispatch=step"]
    assert table["speedup"].tolist() == pytest.approx([1, 2, 1, 1.2])


def grown(each: int, rates: Mapping[int, Sequence[float]], *, resource: str = "devices") -> Any:
    """Trials whose batch grows with the resource, and whose setting_id so differs from count to count."""
    parts = [
        run(
            {count: values}, resource=resource, setting_id=f"b{each * count}", run_id=f"r{each}",
            batch_size=each * count, setting=f'{{"batch_size":{each * count},"epochs":2}}',
        )
        for count, values in rates.items()
    ]  # fmt: skip
    return together(*parts)


@pytest.mark.parametrize("resource", ["devices", "nodes"])
def test_weak_scaling_holds_batches_against_each_other_that_grow_with_the_resource(resource: str) -> None:
    both = together(
        grown(48, {1: [50.0], 2: [100.0]}, resource=resource),
        grown(64, {1: [100.0, 100.0], 2: [180.0, 180.0], 4: [300.0, 300.0]}, resource=resource),
    )
    assert scaling(*both, resource=resource).empty  # no setting ran on several counts
    table = scaling(*both, resource=resource, weak=True)
    assert table["batch_each"].tolist() == [48, 48, 64, 64, 64]
    assert table["efficiency"].tolist() == pytest.approx([1, 1, 1, 0.9, 0.75])
    assert table["setting_id"].isna().all()
    assert table[["serial_fraction", "amdahl_speedup", "amdahl_limit"]].isna().all(axis=None)
    assert table["paired"].tolist() == [False, False, False, True, True]
