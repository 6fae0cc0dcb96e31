"""The four tables of a run, each column declared once: its type, unit, meaning, and what a null says.

The Arrow schemas (`harness.record.tables`) and docs/results.md are made from these declarations. Types are
Arrow's names, so that this module needs no PyArrow. Units: base units, which also stand in the names.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.domain.doubts import CALIBRATION_FOREIGN_PERCENT

SCHEMA_VERSION = 4

_HEX = "twelve hexadecimal digits"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column; `null` says what a null means (None: there is never one), `since` the first version that has it."""

    name: str
    type: str
    description: str
    unit: str | None = None
    null: str | None = None
    since: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One Parquet file of a run. `key` names the columns that no two rows share."""

    name: str
    description: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]

    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)


def _text(name: str, description: str, null: str | None = None) -> Column:
    return Column(name=name, type="string", description=description, null=null)


def _count(name: str, description: str, null: str | None = None, unit: str | None = None, since: int = 1) -> Column:
    return Column(name=name, type="int64", description=description, null=null, unit=unit, since=since)


def _new(name: str, kind: str, description: str, null: str, unit: str | None = None) -> Column:
    """Return a column that came with version 3."""
    return Column(name=name, type=kind, description=description, null=null, unit=unit, since=3)


def _since_4(name: str, kind: str, description: str, null: str) -> Column:
    """Return a column that came with version 4."""
    return Column(name=name, type=kind, description=description, null=null, since=4)


def _bytes(name: str, description: str, null: str | None = None) -> Column:
    return Column(name=name, type="int64", description=description, null=null, unit="B")


def _seconds(name: str, description: str, null: str | None = None) -> Column:
    return Column(name=name, type="float64", description=description, null=null, unit="s")


def _real(name: str, description: str, null: str | None = None, unit: str | None = "1") -> Column:
    return Column(name=name, type="float64", description=description, null=null, unit=unit)


def _flag(name: str, description: str, null: str | None = None) -> Column:
    return Column(name=name, type="bool", description=description, null=null)


def _instant(name: str, description: str, null: str | None = None) -> Column:
    return Column(name=name, type="timestamp[us, tz=UTC]", description=description, null=null)


_UNREACHED = "the trial ended before this was known, or it does not apply to the workload"
_UNTIMED = "the worker was lost, or the trial ended, before it could report its stopwatches"
_UNKNOWN_FLOPS = "the workload or its engine cannot tell"
_NO_QUANTITY = "the task has no such quantity; a value that is not a number is NaN, not null"

_IDS = (
    _text("run_id", "the run that the row belongs to: UTC time of its start and four random hexadecimal digits"),
    _text("trial_id", f"identity of setting and seed, the same on any machine: {_HEX}"),
    _text("setting_id", f"identity of all that changes the mathematics, without the seed: {_HEX}"),
    _text("arm", 'how the trial was executed, as "cpus=2,dispatch=step"; "default" when nothing was asked for'),
)

# Columns that a worker's own reading of the energy counters fills, by the field of `Energy`.
ENERGY_COLUMNS = {
    "gpu_counter_j": "gpu_j",
    "gpu_counter_coverage": "gpu_coverage",
    "cpu_counter_j": "cpu_j",
    "cpu_counter_coverage": "cpu_coverage",
}

_UNCOUNTED = (
    "no device of the kind has an energy counter that can be read; or an epoch whose edges are told and not met: a "
    "program's, or that of a function which marks none"
)
_UNSAMPLED = (
    "no such reading was had meanwhile; run.json says why, under `sampling`; or it began before the trial went on from "
    "a saved state (`resumptions`)"
)
_UNJOINED = "not judged: an older harness recorded it, or it is a part of a run that goes on"

# What the hardware did meanwhile: columns of `trials` (over the whole trial) and of `epochs` (over the timed span).
_HARDWARE = (
    _new(
        "gpu_counter_j", "float64", "energy by the GPUs' own counters, read at both ends of the span", _UNCOUNTED, "J"
    ),
    _new("gpu_counter_coverage", "float64", "share of the worker's GPUs that gpu_counter_j adds up", _UNCOUNTED, "1"),
    _new("gpu_counter_validity", "string", "valid, or why gpu_counter_j is to be doubted", _UNCOUNTED),
    _new(
        "gpu_power_j", "float64", "energy as the integral of the power readings of the worker's GPUs", _UNSAMPLED, "J"
    ),
    _new("gpu_power_coverage", "float64", "share of the GPUs' time within the span that has readings", _UNSAMPLED, "1"),
    _new("gpu_power_validity", "string", "valid, or why gpu_power_j is to be doubted", _UNSAMPLED),
    _new(
        "cpu_counter_j", "float64", "energy of the CPU packages that the worker's cores are on (RAPL)", _UNCOUNTED, "J"
    ),
    _new("cpu_counter_coverage", "float64", "share of those packages that cpu_counter_j adds up", _UNCOUNTED, "1"),
    _new("cpu_counter_validity", "string", "valid, or why cpu_counter_j is to be doubted", _UNCOUNTED),
    _new("cpu_percent", "float64", "mean load of the worker's cores, by whomever", _UNSAMPLED, "%"),
    _new(
        "foreign_percent",
        "float64",
        "mean load of the worker's cores by what is neither the worker nor part of the harness; a lower bound, as what "
        "those two did on other cores is taken off all the same",
        _UNSAMPLED,
        "%",
    ),
    _new("steal_percent", "float64", "share of the cores' time that the hypervisor gave to others", _UNSAMPLED, "%"),
    _new("gpu_utilisation_percent", "float64", "mean utilisation of the worker's GPUs", _UNSAMPLED, "%"),
    _new(
        "throttled_percent",
        "float64",
        "share of the time in which a GPU was throttled; of several GPUs, of the worst",
        _UNSAMPLED,
        "%",
    ),
    _new(
        "throttle_reasons",
        "list<string>",
        "why GPUs were throttled meanwhile, in NVML's words; empty: they were not",
        _UNSAMPLED,
    ),
    _new("swapped_bytes", "float64", "bytes that the node swapped in and out meanwhile", _UNSAMPLED, "B"),
    _new(
        "warnings", "list<string>", "doubts about the figures of this row, see Warnings below; empty: none", _UNJOINED
    ),
)

_OLDER = "recorded by an older version"

# Where and how a trial was to run, and did.
_PLACED = (
    _since_4("devices", "int64", "devices of each node that each batch was split over", _OLDER),
    _since_4("nodes", "int64", "nodes that each batch was split over", _OLDER),
    _since_4("accelerator", "string", "the kind of GPU asked for", "any would do"),
    _since_4("node_labels", "string", "JSON object: the labels that the node had to have", "any node would do"),
    _since_4("node_asked", "string", "the node asked for by its name", "any would do"),
    _since_4("packed", "bool", "whether its core or its GPU was shared with other workers of the run", _OLDER),
    _since_4("other_nodes", "list<string>", "the further nodes that it ran on", "it ran on one"),
    _since_4("resumptions", "int64", "how often it went on from a saved state instead of running through", _OLDER),
    _since_4("resumed_after_epoch", "int64", "the last epoch that was measured before it went on the last time; 0: "
             "none was over", "it ran through"),
)  # fmt: skip

TRIALS = Table(
    name="trials",
    description=(
        "One row a trial, the last attempt of it. Beside the columns below, each axis of the grid has a column "
        "named by its dotted path (such as `optimizer.learning_rate`) unless a column below already holds that "
        "value: integers, numbers, booleans and text keep their type, mixed kinds, lists and mappings are JSON text, "
        "and null means that this trial's part of the grid does not have the axis, or that its value is None. "
        "An axis `engine` is the column `engine_asked`."
    ),
    key=("run_id", "trial_id", "arm"),
    columns=(
        *_IDS,
        _count("seed", "seed of the initial weights and of the shuffles"),
        _count("repeat", "which repeat of its setting, from 0"),
        _text("status", "how it ended: completed, failed, timeout or lost"),
        _text("error", "why it did not complete, in one line", null="it completed"),
        _text("error_detail", "the traceback, or the last lines that the worker printed", null="there was nothing"),
        _text("step", "where it ended: data, build, compile, train, eval, ...", null="it completed, or not known"),
        _text("setting", "canonical JSON of the setting, fields at their default left out; its hash is setting_id"),
        _count("batch_size", "samples a step, as asked"),
        _count("epochs", "epochs asked for"),
        _count("epochs_recorded", "epochs measured: rows of this trial in `epochs`"),
        _flag("shuffle", "whether each epoch draws a new order of the samples"),
        _text("backend", "tensorflow, jax or torch", null="the workload uses none of them"),
        _text("precision", "of the computation, such as float32"),
        _text("engine_asked", "the engine that the suite asked for; auto leaves it to the fixed rule"),
        _text("engine", "the engine that ran: xla, graph, eager or fit", null=_UNREACHED),
        _text("engine_reason", "why this engine", null="it was the one first chosen"),
        _text("dispatch", "epoch: a whole epoch is one program; step: one call a step"),
        _real("cpus", "physical cores asked for, of each node; a fraction of one: shared, and not pinned", unit=None),
        _real("gpus", "GPUs asked for, of each node; a fraction of one: shared", unit=None),
        _flag("exclusive", "whether the trial was to have the node for itself"),
        _text("label", "the arm's own name; empty when none was given"),
        Column(name="timeout_s", type="float64", unit="s", description="time allowed", null="no limit"),
        *_PLACED,
        _text("node", "name of the node, as in `nodes`; of several the one that led"),
        _text("worker", "share of the node that ran it, unique in the run"),
        _count("position", "the how-manieth trial to be started in the run, from 0"),
        _count("block", "shuffled block (one repeat of each setting) it belonged to, from 0"),
        _count("attempt", "the how-manieth attempt at this trial, from 1"),
        _count("neighbours", "most other trials that ran on the node at any one time meanwhile"),
        _text("warmth", "cold or warm: whether a warm program was expected on the worker; empty: no expectation"),
        _flag("program_reused", "whether a program that was already compiled ran it", null=_UNREACHED),
        _count("parameters", "trainable parameters of the model", null=_UNREACHED),
        _count("train_samples", "samples trained on each epoch", null=_UNREACHED),
        _count("val_samples", "samples held out", null=_UNREACHED),
        _count("classes", "classes of the dataset", null="its targets are numbers, or not known", since=2),
        Column(
            name="train_class_counts",
            type="list<int64>",
            description="samples of each class that are trained on",
            null="the dataset has no classes, or not known",
            since=2,
        ),
        Column(
            name="val_class_counts",
            type="list<int64>",
            description="samples of each class that are held out",
            null="the dataset has no classes, or not known",
            since=2,
        ),
        Column(
            name="stopped_early",
            type="bool",
            description="whether early stopping ended the training before its last epoch",
            null="it was not asked for",
            since=2,
        ),
        _count(
            "best_epoch",
            "the epoch with the best value of early stopping's metric",
            null="it was not asked for",
            since=2,
        ),
        _real("initial_val_loss", "val_loss of the untrained model, evaluated off the clock", null=_UNREACHED),
        _real("initial_val_accuracy", "val_accuracy of the untrained model, off the clock", null=_UNREACHED),
        _count("threads", "size of the compute thread pool in effect", null=_UNREACHED),
        Column(
            name="cores",
            type="list<int32>",
            description="CPU numbers that the worker was pinned to; of a packed one, all that it may run on",
            null=_UNREACHED,
        ),
        Column(name="gpu_uuids", type="list<string>", description="GPUs that the worker saw", null=_UNREACHED),
        _count("pid", "process id of the worker", null=_UNREACHED),
        _count("worker_trials_before", "trials that the worker's process had run before this one", null=_UNREACHED),
        _bytes("peak_rss_bytes", "largest resident memory of the worker's process so far", null=_UNREACHED),
        _bytes("rss_bytes", "resident memory of the worker's process after the trial", null=_UNREACHED),
        _seconds("user_cpu_s", "user CPU time of the worker's process during the trial", null=_UNREACHED),
        _seconds("system_cpu_s", "system CPU time of the worker's process during the trial", null=_UNREACHED),
        _text("versions", "versions of what computed it", null=_UNREACHED),
        _seconds("build_s", "building the model and its initial weights", null=_UNTIMED),
        _seconds(
            "compile_s",
            "tracing and compiling; about 0 when a program was reused, less when another worker had compiled it",
            null=_UNTIMED,
        ),
        _seconds(
            "compile_ahead_s",
            "tracing and compiling that the worker did for this trial while the run was starting; not in wall_s",
            null="nothing was compiled ahead for it",
        ),
        _seconds("data_s", "loading, preparing and moving the data to the device", null=_UNTIMED),
        _seconds("train_s", "training alone: the sum of the epochs' timed spans", null=_UNTIMED),
        _seconds("eval_s", "all evaluations", null=_UNTIMED),
        _seconds("record_s", "handing epochs to the recorder", null=_UNTIMED),
        _seconds("wall_s", "the whole trial", null=_UNTIMED),
        _seconds("unattributed_s", "wall_s less the six stopwatches before it", null=_UNTIMED),
        _instant("started_at", "start of the trial, by the node's clock", null=_UNTIMED),
        _instant("ended_at", "end of the trial, by the node's clock", null=_UNTIMED),
        Column(
            name="artifacts",
            type="list<string>",
            description="files kept of the trial, such as its model, by their paths below the run's folder",
            null="nothing was to be kept",
            since=2,
        ),
        _new("step_flops", "float64", "floating-point operations of one training step on a full batch", _UNKNOWN_FLOPS),
        _new("flops_source", "string", "who counted them: tensorflow, xla or torch", _UNKNOWN_FLOPS),
        _new(
            "flops_per_s", "float64", "those of all steps over train_s, warm-up epochs left out", _UNKNOWN_FLOPS, "1/s"
        ),
        _new(
            "peak_percent",
            "float64",
            "flops_per_s against the matrix products that the worker's share, or its GPUs, can do (see `nodes`)",
            "flops_per_s is not known, or the share was not calibrated, "
            f"or beside a foreign load over {CALIBRATION_FOREIGN_PERCENT:g} %",
            "%",
        ),
        _new("clock_step_s", "float64", "by how much the wall clock was set meanwhile", _UNREACHED, "s"),
        _new(
            "clock_drift",
            "float64",
            "rate of the clock that times were taken by, as NTP adjusts it, against the raw one, less 1",
            _UNREACHED,
            "1",
        ),
        _new("major_faults", "int64", "pages that the worker had to wait for from disk; null of a program", _UNREACHED),
        _new(
            "involuntary_switches",
            "int64",
            "how often a CPU was taken from the worker's threads; null of a program",
            _UNREACHED,
        ),
        *_HARDWARE,
        _new(
            "unjudged",
            "list<string>",
            "warnings that apply to this trial but could not be judged, for want of readings; empty: none",
            _UNJOINED,
        ),
    ),
)

EPOCHS = Table(
    name="epochs",
    description="One row an epoch of a trial's last attempt, also of trials that failed later.",
    key=("run_id", "trial_id", "arm", "epoch"),
    columns=(
        *_IDS,
        _count("epoch", "from 1"),
        _seconds("train_s", "the timed span: training alone, the device drained at both ends"),
        _seconds("eval_s", "evaluation on the held-out part, off the training clock", null="not evaluated"),
        _seconds("elapsed_train_s", "the training clock at the epoch's end: the sum of train_s so far"),
        _count("samples", "training samples consumed"),
        _real("samples_per_s", "samples over train_s", null="train_s is 0", unit="1/s"),
        _count("steps", "optimizer steps taken", null="the workload has none"),
        _count("chunks", "compiled calls that the epoch was cut into"),
        _real("loss", "mean over the epoch's samples, as they were trained on", null=_NO_QUANTITY),
        _real("accuracy", "share of the epoch's samples classified right as they were trained on", null=_NO_QUANTITY),
        _real("val_loss", "mean over the whole held-out part after the epoch", null=_NO_QUANTITY),
        _real("val_accuracy", "share of the whole held-out part classified right after the epoch", null=_NO_QUANTITY),
        _seconds("user_cpu_s", "user CPU time of the worker's process within the timed span"),
        _seconds("system_cpu_s", "system CPU time of the worker's process within the timed span"),
        _flag("warmup", "whether the epoch still paid for something that later ones do not; flagged, never dropped"),
        _instant("started_at", "start of the epoch, by the node's clock", null="not known"),
        _instant("ended_at", "end of the epoch, by the node's clock", null="not known"),
        Column(
            name="extra",
            type="map<string, float64>",
            description=(
                "further metrics by name, such as val_r2_score; `harness.load` makes each a column of its own"
            ),
            null="there are none",
            since=2,
        ),
        _new(
            "compilations",
            "int64",
            "programs that were compiled within the timed span; it should be 0",
            "the workload or its engine cannot tell",
        ),
        *_HARDWARE,
    ),
)

TELEMETRY = Table(
    name="telemetry",
    description=(
        "One row a reading of the hardware, in long form; Readings below names all metrics. What they say of trials"
        " and epochs stands in those tables; to put others beside them, compare `time` with `started_at` and "
        "`ended_at` on the same node. A trial's readings are those of the devices `worker:<worker>`, `cpu<N>` for its "
        "`cores` and `gpu:<UUID>` for its `gpu_uuids`; of a worker's name what stands before an `@`, if there is one."
    ),
    key=("run_id", "node", "time", "device", "metric"),
    columns=(
        _text("run_id", "the run that the row belongs to"),
        _text("node", "name of the node, as in `nodes`"),
        _instant("time", "when it was read, by the node's clock"),
        _text("device", 'what it was read from: "host", "cpu0", "gpu:<uuid>", "worker:<share>", ...'),
        _text("metric", "what was read; its unit is the end of the name (_bytes, _w, _percent, ...)"),
        _real("value", "the reading, in the unit that ends the metric's name", null="it could not be read", unit=None),
    ),
)

NODES = Table(
    name="nodes",
    description="One row a node that took part in the run.",
    key=("run_id", "node"),
    columns=(
        _text("run_id", "the run that the row belongs to"),
        _text("node", "name of the node in this run"),
        _text("hostname", "host name", null="not known"),
        _text("os", "operating system and its version", null="not known"),
        _text("kernel", "kernel release", null="not known"),
        _text("architecture", "machine type, such as x86_64", null="not known"),
        _text("python", "version of Python", null="not known"),
        _text("cpu_model", "model name of the CPU", null="not known"),
        _count("cpu_count_logical", "logical CPUs of the machine", null="not known"),
        _count("cpu_count_physical", "physical cores of the machine", null="not known"),
        _real("cpu_limit", "CPUs that the run may use, in all", null="no limit, or not known", unit=None),
        _bytes("memory_bytes", "memory of the machine", null="not known"),
        _bytes("memory_limit_bytes", "memory that the run may use (control group)", null="no limit, or not known"),
        Column(name="gpu_names", type="list<string>", description="GPUs by model name", null="could not be looked up"),
        Column(name="gpu_uuids", type="list<string>", description="in the same order", null="could not be looked up"),
        Column(
            name="gpu_memory_bytes",
            type="list<int64>",
            description="memory of each GPU, in the same order",
            unit="B",
            null="could not be looked up",
        ),
        _text("gpu_driver", "version of the GPUs' driver", null="no GPU, or could not be looked up"),
        _text("container", "kind of container that the harness ran in", null="no sign of one"),
        _text("virtualisation", "hypervisor under the machine", null="no sign of one"),
        _text("slurm_job_id", "Slurm job that the node belonged to", null="not within Slurm"),
        _text("versions", "JSON object: versions of the packages that took part", null="not known"),
        _text("environment", "JSON object: environment variables that change speed or results", null="not known"),
        _new("sockets", "int64", "CPU packages", "not known"),
        _new("threads_per_core", "int64", "hardware threads of a physical core; 2 with SMT on", "not known"),
        _new("numa_nodes", "int64", "NUMA nodes", "not known"),
        _new("caches", "string", "JSON object: bytes of each kind of cache (L1d, L2, L3) of one core", "not known"),
        _new("cpu_max_hz", "float64", "highest frequency of a core", "not known", "Hz"),
        _new("governor", "string", "frequency governor; several are joined by commas", "not known"),
        _new("turbo", "bool", "whether the cores may exceed their nominal frequency", "not known"),
        _new("gpu_cuda", "string", "newest version of CUDA that the GPUs' driver serves", "no GPU, or not known"),
        _new("core_flops_per_s", "float64", "float32 matrix products of one core, alone", "not calibrated", "1/s"),
        _new("share_flops_per_s", "float64", "the same of all cores of a worker's share", "not calibrated", "1/s"),
        _new(
            "gpu_flops_per_s",
            "float64",
            "the same of a worker's GPU, by its back end",
            "no GPU, or not calibrated",
            "1/s",
        ),
        _new("core_bandwidth_bytes_per_s", "float64", "memory traffic of one core, alone", "not calibrated", "B/s"),
        _new("share_bandwidth_bytes_per_s", "float64", "the same of a worker's share", "not calibrated", "B/s"),
        _new(
            "dispatch_s", "float64", "time of the smallest call into the back end", "not calibrated, or none used", "s"
        ),
        _new(
            "calibration",
            "string",
            "JSON object: all that was calibrated, by the kind of share (`<backend>/cpus=<n>/gpus=<g>`)",
            "not calibrated",
        ),
    ),
)

# Columns that no worker knows: they are made of the readings, when the tables are written or read.
_MADE = tuple(column.name for column in _HARDWARE if column.name not in ENERGY_COLUMNS)
JOINED = {
    "trials": (*_MADE, "flops_per_s", "peak_percent", "unjudged"),
    "epochs": _MADE,
}

TABLES = {table.name: table for table in (TRIALS, EPOCHS, TELEMETRY, NODES)}

# An axis with one of these paths needs no column of its own: the fixed column holds the same value.
AXIS_COLUMNS = {
    **{
        name: name
        for name in (
            "seed", "batch_size", "epochs", "shuffle", "backend", "precision", "dispatch", "cpus", "gpus",
            "exclusive", "devices", "nodes", "accelerator", "label",
        )
    },
    "engine": "engine_asked",
    "node": "node_asked",
}  # fmt: skip
