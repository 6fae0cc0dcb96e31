"""What more cores, GPUs, devices and nodes bring: speed-up, efficiency, the share of the work that stays serial."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from scipy import optimize

from harness.analyse.compare import figures, t_quantile
from harness.analyse.frames import floats, owners
from harness.analyse.variance import check_columns, check_confidence
from harness.domain.component import did_you_mean
from harness.domain.design import CONFIDENCE
from harness.domain.errors import SuiteError

RESOURCES: Final = ("cpus", "gpus", "devices", "nodes")

# What pairs two counts, the closest first: the same seed in the same run, else the same seed.
_PAIRS: Final = (["run_id", "seed"], ["seed"])
_MODELS: Final = {"cpus": ["cpu_model"], "gpus": ["gpu_model"]}  # of devices and nodes, both
_SCALED: Final = ("count", "n", "rate", "low_rate", "high_rate", "speedup", "low", "high", "paired", "efficiency",
                  "low_efficiency", "high_efficiency", "serial_fraction", "amdahl_serial_fraction", "amdahl_speedup",
                  "amdahl_limit")  # fmt: skip


def scaling(
    trials: pd.DataFrame,
    epochs: pd.DataFrame,
    *,
    resource: Literal["cpus", "gpus", "devices", "nodes"] = "cpus",
    by: Sequence[str] = ("setting_id",),
    weak: bool = False,
    confidence: float = CONFIDENCE,
) -> pd.DataFrame:
    """Return how throughput grows with the CPUs, GPUs, devices or nodes of a trial: one row a group and count of them.

    A group is the trials that are alike in `by`, in their arm but for the resource, and in the model of the CPU or GPU
    where `trials` tell it (see `described`); groups of one count alone are left out, as are trials without the resource
    or without a throughput. A trial's throughput is the median over its epochs that are no warm-up. Of ``devices`` a
    trial on several nodes has so many on each. Columns, beside those of `by`, ``arm`` (without the resource) and the
    model:

    - ``batch_each``: samples of a batch for each of the resource, where `weak`;

    - ``resource``; ``count`` of it; ``n`` trials; ``neighbours``: most other trials that ran beside one of them (null
      where not known), since they take what is counted here as the trial's;
    - ``samples_per_s``, ``low_samples_per_s``, ``high_samples_per_s``: geometric mean, and its interval by Student's t
      on logs; null for one repeat;
    - ``speedup``, ``low``, ``high``: ratio to the throughput at the smallest count of the group, with its interval on
      logs: by the differences of pairs of one seed (``paired``), of the same run if there are such, where at least half
      of the larger side has a counterpart; else by Welch's t. Null interval for the smallest count itself, and where
      one side has one repeat;
    - ``efficiency``, ``low_efficiency``, ``high_efficiency``: the speed-up over the ratio of the counts;
    - ``serial_fraction``: what of the work is serial, by this row's speed-up alone (Karp and Flatt, Measuring parallel
      processor performance, 1990): (1 / s - 1 / p) / (1 - 1 / p) for a speed-up s of p processors over one. Over p0
      instead of one it is the f with s = (f + (1 - f) / p0) / (f + (1 - f) / p), which is
      (1 / p0 - s / p) / (s (1 - 1 / p) - (1 - 1 / p0)). It rises with p where there is overhead besides serial work,
      and is negative where the speed-up is above the ratio of the counts. Null for the smallest count;
    - ``amdahl_serial_fraction``: f of the one curve T(p) = T(1) (f + (1 - f) / p) through all counts (Amdahl, Validity
      of the single processor approach, 1967), by least squares of the relative errors of T, the time of a sample, with
      no negative part; ``amdahl_speedup``: what the curve says at this count, over the smallest; ``amdahl_limit``: what
      it says of infinitely many, over one: 1 / f, infinite for 0.

    That is strong scaling: the same training, batch and all, on more. `weak` looks at trainings whose batch grows with
    the resource: a group is then the trials that are alike in ``batch_each`` and, in place of the setting_id in `by`
    (null then), in all of their setting but the batch. A speed-up as large as the ratio of the counts, an efficiency of
    1, again means that nothing is lost (Gustafson, Reevaluating Amdahl's law, 1988). The fractions and Amdahl's curve
    are of fixed work, and null.

    Raises:
        SuiteError: for a resource or a column in `by` that is none, or a confidence that does not lie between 0 and 1.
    """
    if resource not in RESOURCES:
        hint = did_you_mean(resource, RESOURCES)
        raise SuiteError(f"unknown resource {resource!r};{hint} it is one of {', '.join(RESOURCES)}; for nodes: "
                         "node_scaling")  # fmt: skip
    by = [by] if isinstance(by, str) else list(by)
    if weak:
        check_columns(trials, ["setting", "batch_size"], what="column")
        each = floats(trials, "batch_size") / floats(trials, resource)
        trials = trials.assign(setting_id=_but_the_batch(trials["setting"]), batch_each=each)
        by.append("batch_each")
    check_columns(trials, [*by, resource], what="column")
    table = figures(trials, epochs, figure="samples_per_s")
    its = trials.iloc[owners(trials, table)].reset_index(drop=True)
    rest = [_without(str(arm), resource) for arm in its["arm"]] if "arm" in its else "default"
    models = _MODELS.get(resource, ["cpu_model", "gpu_model"])
    model = [name for name in models if name in its.columns and name not in by]
    group = [*by, *(name for name in ("arm",) if name not in by), *model]
    identity = [name for name in ("run_id", "seed") if name in its.columns]
    neighbours = floats(its, "neighbours")
    table = its[[*dict.fromkeys([*by, *model, *identity])]].assign(
        arm=rest, count=floats(its, resource), rate=table["value"].to_numpy(dtype=float), neighbours=neighbours
    )
    table = table[(table["count"] > 0) & (table["rate"] > 0)]
    found = _scaled(table, group, confidence=confidence, more={"neighbours": "max"})
    found.insert(len(group), "resource", resource)
    if weak:
        of_fixed_work = ["serial_fraction", "amdahl_serial_fraction", "amdahl_speedup", "amdahl_limit"]
        found = found.assign(**dict.fromkeys(of_fixed_work, math.nan))
        if "setting_id" in found:
            found["setting_id"] = None
    names = {"rate": "samples_per_s", "low_rate": "low_samples_per_s", "high_rate": "high_samples_per_s"}
    return found.rename(columns=names)


def node_scaling(
    trials: pd.DataFrame,
    epochs: pd.DataFrame,
    nodes: pd.DataFrame,
    *,
    runs: Iterable[Mapping[str, Any]] = (),
    confidence: float = CONFIDENCE,
) -> pd.DataFrame:
    """Return how whole runs get quicker with the number of nodes: one row a kind of work and number of nodes.

    Runs are compared that completed the same trials (same settings, seeds and arms); work that was done on one number
    of nodes alone is left out. A run lasts from the start of its first trial to the end of its last one, by the clocks
    of its nodes, so that what comes before (starting workers) and after is not in it. `nodes` is the table of that
    name, which tells idle nodes, too. `runs`, what each run.json holds, tells runs that were resumed: they are left
    out, since they stood still meanwhile. Columns:

    - ``work``: name of the set of trials, eight hexadecimal digits; ``trials`` in it; ``count`` of nodes; ``n`` runs;
    - ``trials_per_s``, ``low_trials_per_s``, ``high_trials_per_s``: geometric mean of the runs, with its interval;
      ``samples_per_s``: samples trained on a second, likewise; ``span_s``: median length of the runs;
    - ``workers``: median number of those that ran trials; ``utilisation``: median over the runs of the share of the
      workers' time within the span in which they ran trials (sum of wall_s over workers times span);
    - ``speedup`` (of trials a second) to ``amdahl_limit``: as `scaling` has them, by Welch's t.

    Raises:
        SuiteError: for a confidence that does not lie between 0 and 1.
    """
    resumed = {str(run.get("run_id")) for run in runs if len(run.get("attempts") or ()) > 1}
    own = owners(trials, epochs)
    samples = np.bincount(own[own >= 0], np.nan_to_num(floats(epochs, "samples"))[own >= 0], minlength=len(trials))
    sizes = nodes.groupby("run_id", observed=True)["node"].nunique()
    rows = []
    for run_id, of_run in trials.assign(trained=samples).groupby("run_id", sort=False, observed=True):
        done = of_run[of_run["status"] == "completed"]
        start, end = of_run["started_at"].dropna(), of_run["ended_at"].dropna()
        if str(run_id) in resumed or run_id not in sizes.index or done.empty or start.empty or end.empty:
            continue
        span_s = (pd.Timestamp(end.max()) - pd.Timestamp(start.min())).total_seconds()
        if span_s <= 0:
            continue
        work = hashlib.sha256("\n".join(sorted(done["trial_id"] + " " + done["arm"])).encode()).hexdigest()[:8]
        workers = int(of_run["worker"].nunique())
        busy_s = float(np.nansum(floats(of_run, "wall_s")))
        rows.append({
            "run_id": str(run_id), "work": work, "trials": len(done), "count": float(sizes[run_id]),
            "rate": len(done) / span_s, "samples_per_s": float(of_run["trained"].sum()) / span_s, "span_s": span_s,
            "workers": workers, "utilisation": busy_s / (workers * span_s),
        })  # fmt: skip
    names = ["run_id", "work", "trials", "count", "rate", "samples_per_s", "span_s", "workers", "utilisation"]
    more: dict[str, Any] = {"samples_per_s": _geometric, "span_s": "median", "workers": "median",
                            "utilisation": "median"}  # fmt: skip
    found = _scaled(pd.DataFrame(rows, columns=names), ["work", "trials"], confidence=confidence, more=more)
    return found.rename(
        columns={name: name.replace("rate", "trials_per_s") for name in ("rate", "low_rate", "high_rate")}
    )


def _but_the_batch(settings: pd.Series) -> list[str]:
    """Return the canonical JSON of settings without their batch size."""
    known = {}
    for text in settings.unique():
        setting = json.loads(text)
        setting.pop("batch_size", None)
        known[text] = json.dumps(setting, sort_keys=True)
    return [known[text] for text in settings]


def _without(arm: str, resource: str) -> str:
    """Return an arm without the resource; of devices that are GPUs only that they are is left."""
    kept = [part for part in arm.split(",") if not part.startswith(f"{resource}=")]
    if resource == "devices":
        kept = ["gpus" if part.startswith("gpus=") else part for part in kept]
    return ",".join(kept) or "default"


def _geometric(values: pd.Series) -> float:
    with np.errstate(divide="ignore"):
        return float(np.exp(np.log(values.to_numpy(dtype=float)).mean()))


def _scaled(table: pd.DataFrame, by: list[str], *, confidence: float, more: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row a group and count, given ``count`` and ``rate`` of each trial or run; `more` columns by how."""
    check_confidence(confidence)
    parts = []
    for key, of_group in table.groupby(by, sort=False, observed=True, dropna=False):
        counts = sorted(of_group["count"].unique())
        if len(counts) < 2:
            continue
        here = {count: of_group[of_group["count"] == count] for count in counts}
        rates = np.array([_geometric(one["rate"]) for one in here.values()])
        rows = [_row(here[counts[0]], one, confidence=confidence) for one in here.values()]
        part = pd.DataFrame(rows).assign(count=counts, rate=rates)
        serial, curve = _amdahl(np.array(counts), rates)
        limit = 1 / serial if serial > 0 else math.inf
        part = part.assign(amdahl_serial_fraction=serial, amdahl_speedup=curve, amdahl_limit=limit)
        for name, how in more.items():
            part[name] = [float(one[name].agg(how)) for one in here.values()]
        values: Any = key
        parts.append(part.assign(**dict(zip(by, values, strict=True))))
    columns = [*by, *_SCALED[:5], *more, *_SCALED[5:]]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def _row(base: pd.DataFrame, here: pd.DataFrame, *, confidence: float) -> dict[str, Any]:
    """Return what is told of one count beside the smallest one, of which `base` is the trials."""
    logs = np.log(here["rate"].to_numpy(dtype=float))
    reach = _reach(_variance(logs), len(logs) - 1, confidence)
    row: dict[str, Any] = {"n": len(here), "low_rate": math.exp(logs.mean() - reach),
                           "high_rate": math.exp(logs.mean() + reach)}  # fmt: skip
    smallest, count = float(base["count"].iloc[0]), float(here["count"].iloc[0])
    if here is base:
        return row | {"speedup": 1.0, "low": math.nan, "high": math.nan, "paired": False, "efficiency": 1.0,
                      "low_efficiency": math.nan, "high_efficiency": math.nan, "serial_fraction": math.nan}  # fmt: skip
    effect, reach, paired = _against(base, here, confidence)
    speedup, low, high = (math.exp(end) for end in (effect, effect - reach, effect + reach))
    ideal = count / smallest
    return row | {
        "speedup": speedup, "low": low, "high": high, "paired": paired, "efficiency": speedup / ideal,
        "low_efficiency": low / ideal, "high_efficiency": high / ideal,
        "serial_fraction": karp_flatt(speedup, count, smallest),
    }  # fmt: skip


def _against(base: pd.DataFrame, here: pd.DataFrame, confidence: float) -> tuple[float, float, bool]:
    """Return the log of the ratio to the base, half the width of its interval (NaN: none), and if it is of pairs."""
    for keys in _PAIRS:
        if set(keys) - set(base.columns) or base.duplicated(keys).any() or here.duplicated(keys).any():
            continue
        pairs = base[[*keys, "rate"]].merge(here[[*keys, "rate"]], on=keys)
        if len(pairs) > 1 and 2 * len(pairs) >= max(len(base), len(here)):
            differences = np.log(pairs["rate_y"].to_numpy(dtype=float)) - np.log(pairs["rate_x"].to_numpy(dtype=float))
            return float(differences.mean()), _reach(_variance(differences), len(differences) - 1, confidence), True
    logs = [np.log(one["rate"].to_numpy(dtype=float)) for one in (base, here)]
    variances = [_variance(one) for one in logs]
    variance = sum(variances)
    freedom = math.nan
    if variance > 0:  # Welch and Satterthwaite's; NaN where one of the two has one repeat
        freedom = variance**2 / sum(part**2 / (len(one) - 1) for part, one in zip(variances, logs, strict=True))
    elif variance == 0:
        freedom = min(len(one) for one in logs) - 1
    return float(logs[1].mean() - logs[0].mean()), _reach(variance, freedom, confidence), False


def _variance(values: np.ndarray) -> float:
    """Return the variance of the mean; NaN for one value."""
    return float(values.var(ddof=1)) / len(values) if len(values) > 1 else math.nan


def _reach(variance: float, freedom: float, confidence: float) -> float:
    return t_quantile((1 + confidence) / 2, freedom) * math.sqrt(variance) if freedom > 0 else math.nan


def karp_flatt(speedup: float, count: float, smallest: float = 1.0) -> float:
    """Return the serial fraction that explains a speed-up of `count` processors over the `smallest` number of them, as
    `scaling` defines it; NaN where no fraction does."""
    below = speedup * (1 - 1 / count) - (1 - 1 / smallest)
    return (1 / smallest - speedup / count) / below if below > 0 else math.nan


def _amdahl(counts: np.ndarray, rates: np.ndarray) -> tuple[float, np.ndarray]:
    """Return Amdahl's serial fraction of a curve through all counts, and its speed-ups over the smallest count."""
    times = rates[0] / rates
    serial, parallel = optimize.nnls(np.stack([1 / times, 1 / counts / times], axis=1), np.ones(len(counts)))[0]
    curve = serial + parallel / counts
    return float(serial / (serial + parallel)), curve[0] / curve
