"""docs/results.md: every column of the tables as `harness.record.schema` declares it, and the files beside them."""

from __future__ import annotations

from harness.domain.doubts import DOUBTS
from harness.record.schema import SCHEMA_VERSION, TABLES
from harness.telemetry.probe import READINGS


def document() -> str:
    """Return docs/results.md: what a run leaves behind, every column of it."""
    lines = [_INTRODUCTION]
    for table in TABLES.values():
        lines += [
            f"## {table.name}.parquet",
            "",
            table.description,
            "",
            f"Key: {', '.join(f'`{name}`' for name in table.key)}.",
            "",
            "| column | type | unit | what it is | null means | since |",
            "|---|---|---|---|---|---|",
        ]
        for column in table.columns:
            null = "never null" if column.null is None else column.null
            cells = (f"`{column.name}`", column.type, column.unit or "", column.description, null, str(column.since))
            lines.append(_line(*cells))
        lines.append("")
    lines.append(_WARNINGS)
    lines += [
        _line(f"`{doubt.name}`", doubt.meaning, f"{doubt.threshold:g} {doubt.unit}", doubt.figure, doubt.remedy)
        for doubt in DOUBTS.values()
    ]
    lines += ["", _READINGS]
    lines += [_line(f"`{metric}`", meaning) for metric, meaning in READINGS.items()]
    lines += ["", _ENERGY]
    return "\n".join(lines)


def _line(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


_INTRODUCTION = f"""\
# What a run leaves behind

<!-- Made by `python -m harness.record` from harness/record/page.py, harness/record/schema.py, harness/domain/doubts.py
     and harness/telemetry/probe.py; a test holds them together. -->

`results/<suite>/<run>/` holds, once the run has ended:

| file | what it holds |
|---|---|
| `trials.parquet` | one row a trial |
| `epochs.parquet` | one row an epoch |
| `telemetry.parquet` | one row a reading of the hardware |
| `nodes.parquet` | one row a node |
| `run.json` | what was asked for, how the run ended, and its counts by status |
| `shards/` | of a run in shards: the records of each, a folder like this one, by number |
| `slurm/` | of a run that was submitted: the job's script, what was submitted and when, what the job said |
| `artifacts/` | what was to be kept of each trial: its model, events for TensorBoard |
| `states/` | while there are any: what trials that were cut off go on from, see docs/method.md |
| `log/` | the log: one checksummed line a finished trial, one file each time the run was started or resumed |

Any Parquet reader opens the tables: `pd.read_parquet("results/<suite>/<run>/epochs.parquet")`.
`harness.load(path)` reads a run, all runs of a suite, or a whole results folder, and also runs that are
still going on: `results = harness.load("results")` has `results.trials`, `.epochs`, `.telemetry` and `.nodes` as
pandas data frames, and `results.runs`, what each run.json holds. `trials` has one column an axis, so several suites
together need DuckDB's `union_by_name`.

Less is read, and quicker, by naming runs and columns. `runs` is an id, a suite's name, or a condition on what run.json
holds (and on `commit` and `dirty`); a run whose run.json is damaged has the state `unreadable`:

```python
results = harness.load(
    "results",
    runs="suite == 'batch_size' and state == 'completed' and started_at >= '2026-11'",
    columns={{"epochs": ["run_id", "trial_id", "arm", "epoch", "elapsed_train_s", "val_accuracy"]}},
)
```

The frames are Arrow-backed (`pd.ArrowDtype`): whole numbers stay whole beside nulls, a null is `pd.NA`, NaN is NaN, and
cells of lists are lists. The identities in `epochs` and `telemetry` (`run_id`, `trial_id`, `setting_id`, `arm`, `node`,
`device`, `metric`) are categories, so group them with `observed=True`. For plain numbers, where null and NaN are one:
`epochs["loss"].to_numpy(dtype=float, na_value=np.nan)`. `results.arrow("epochs")` is the same as an Arrow table.

The schema's version is {SCHEMA_VERSION}. It stands in each file's metadata (`harness_schema_version`), and so do the
columns' units and descriptions (in the fields' metadata). Times are in seconds, instants are UTC with microseconds.
What was not measured is null, never 0; a loss that is not a number is NaN, which is not null.

## While the run goes on, and after it was killed

- The log is the truth: a trial counts as finished once its line is synced to disk, at most 50 ms after it arrived.
  Each line is a CRC-32, a head (`kind`, key, status, axes) and a body as JSON; a line that was cut off or damaged
  loses only itself. The log stays when the run has ended, since resuming and rebuilding the tables
  (`harness.record.compact.rebuild`) need it; whoever wants neither may delete it.
- `parts/trials/`, `parts/epochs/` and `parts/telemetry/` are folders of Parquet files that any other program can
  read meanwhile; they become the tables above at the end. A trial that was retried has a row in them for
  each attempt, and what is made of the readings (loads, integrated power, validities, warnings) is null in them:
  `harness.load` makes it of the log and the readings so far, as the end of the run does, and rebuilding.
  Readings of the last seconds before a kill are lost, finished trials are not.
- `owner.json` names the one process that may write. A second one is refused; `harness run --resume` takes over
  from a process that is gone.
- `run.json` says `"state": "running"` until the end, then `completed`, `failed`, `interrupted` or `preempted`. Of a
  run whose driver was killed, `harness.load(…).runs` and the commands say `dead`. `lost_nodes` and `set_aside` in it
  name the nodes that were, why and when. A run that was submitted is `submitted`, and has no `started_at`, until a
  driver begins it; `submitted_at` says when that was, `again` which command goes on with it, and `wrong` why it could
  not begin.
- A run in shards, `shards` in its run.json says how many, has a run folder in `shards/` for each, `0000` being the
  first, and one driver a shard. Until all have ended with nothing left, its tables are not there, and `harness.load`
  and the commands take those of the shards together; the shard that ends last writes them: `trials`, `epochs` and
  `telemetry` shard by shard, `nodes` with one row a node. `position` counts the trials of a shard, each from 0. In
  run.json each of the `attempts` has its `shard` then.
- `live.json` says what the run does at this moment: each node and its workers, the trials that run, how long the rest
  may take, and of a trial that may hang since when it is silent. It is replaced at most once a second, and gone at the
  end. `harness status RUN` shows it.
- `stop.json` is a request to end, written by `harness stop`, which the driver looks for once a second and removes.
"""

_WARNINGS = """\
## Warnings

Doubts travel with the number: `warnings` of a trial or an epoch names each of these whose figure exceeds its
threshold. Nothing is dropped because of them. An epoch is judged by what was read within its timed span, a trial by
what was read from its beginning to its end, compiling and evaluating included; `recompiled` is a trial's where it
is an epoch's. `few_cores`, `clock_drift` and `noisy` are of trials alone. `unjudged` of a trial names those for
which a reading is missing, such as `contended` with telemetry off; what cannot be, such as `throttled` without a
GPU, is not named.

```python
trials = harness.load("results/<suite>/<run>").trials
trials[["contended" in names for names in trials["warnings"]]]
```

`trials.explode("warnings")["warnings"].value_counts()` counts them. Both lines work on `pd.read_parquet(...)`
alike, where a list is a NumPy array; columns of lists from `harness.load` are Arrow's, whose cells are Python's
lists.

| warning | what it means | threshold | figure that is compared | what to do |
|---|---|---|---|---|"""

_READINGS = """\
## Readings

One row of `telemetry` is one of these. A counter counts from a beginning of its own, so that only differences mean
something. What a node does not have is not there, and run.json says why, under `sampling`, together with the gaps
in which nothing was read.

A share or a load stands for the time since the reading before it, and so do what a counter has grown by and a mask.
Means over a span weigh each reading by how much of its time lies within; where less than half of the span was read,
the mean is null. Spans of less than 1 s have the loads of the second around their middle, since kernels count CPU
time in ticks of some milliseconds. `foreign_percent` is the load of the worker's cores less the CPU time of the
worker, of what it started, of other workers that take turns on those cores, and of the harness itself; as what
these did on other cores is taken off too, it is a lower bound.

| metric | device: what it is |
|---|---|"""

_ENERGY = """\
## Energy

Up to two figures of the same GPUs stand side by side, and they are known to differ:

- `gpu_counter_j` is what the GPUs' own energy counters rose by between two reads, by the worker itself, at both
  ends of the span. The counters are renewed every 20 to 100 ms, as a rule, so that short spans are off by as much.
- `gpu_power_j` is the integral of `gpu_power_w` over the span, by the trapezoidal rule. On many GPUs that power is
  itself a mean over up to a second, so that it lags: a span begins with the power of what ran before it.

`cpu_counter_j` is of whole CPU packages (RAPL): idle cores, and whatever else ran on the package, are within it.
There is no way to tell the share of one worker. Main memory is not in it where it is a zone of its own.

The coverages say what share of the devices (counters) or of the devices' time (power) a figure adds up. A gap of
more than 2.5 times the usual spacing of readings, and of more than 0.25 s, is not covered, nor is one that the
sampler recorded; energy is over the covered part alone, and not scaled up. The validities are `valid` or the
reasons for doubt, joined by commas:

| reason | what it means |
|---|---|
| `short` | the span is below 1 s, and counters and power readings are renewed too rarely for that |
| `shared` | neighbours ran on the same device meanwhile: a GPU that several workers share, or any CPU package |
| `gaps` | the coverage is below 0.95 |

No figure is scaled, and idle power is not taken off. What no counter or reading told is null, never 0.
"""
