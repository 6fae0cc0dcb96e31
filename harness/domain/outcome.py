"""What a trial left behind: its epochs and how it ended. Everything here is observed; nothing is derived."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from harness.domain.metrics import METRICS
from harness.domain.trial import Trial

Status = Literal["completed", "failed", "timeout", "lost"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """One evaluation: means over the samples; None where the quantity does not exist for the task."""

    loss: float | None = None
    accuracy: float | None = None
    extra: Mapping[str, float] = field(default_factory=dict)  # further metrics by name


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """What energy counters rose by over a span, in joules; None where no device of the kind has a counter.

    `gpu_coverage` and `cpu_coverage`: the share of the worker's GPUs, and of the CPU packages that its cores are on,
    that the figure adds up; what others ran on them meanwhile is within it.
    """

    gpu_j: float | None = None
    gpu_coverage: float | None = None
    cpu_j: float | None = None
    cpu_coverage: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """One epoch of one trial. Times in seconds; what was not measured is None, never 0."""

    epoch: int  # from 1
    train_s: float  # the timed span: training alone, device drained at both ends
    eval_s: float | None  # evaluation on the held-out part, off the training clock
    elapsed_train_s: float  # the training clock at the epoch's end
    samples: int | None  # training samples consumed
    steps: int | None  # optimizer steps taken
    chunks: int  # compiled calls the epoch was cut into
    loss: float | None
    accuracy: float | None
    val_loss: float | None
    val_accuracy: float | None
    user_cpu_s: float  # of the worker process, within the timed span
    system_cpu_s: float
    started_at: float  # seconds since the Unix epoch, to join telemetry
    ended_at: float
    warmup: bool = False  # flagged, never dropped: an epoch still paying for something that later ones do not
    compilations: int | None = None  # programs compiled within the timed span; None where the workload cannot tell
    energy: Energy | None = None  # by counters, over the timed span; None where there is no counter
    extra: Mapping[str, float] = field(default_factory=dict)  # further metrics by their recorded name, "val_r2_score"

    def value(self, metric: str) -> float | None:
        """Return a metric of this epoch by its recorded name, None where it was not measured."""
        value = self.extra.get(metric) if metric not in METRICS else getattr(self, metric)
        return value if value is None else float(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopwatches:
    """Where a trial's wall time went, in seconds. They do not overlap; the rest is `unattributed_s`."""

    build_s: float = 0.0  # model construction and initial weights
    compile_s: float = 0.0  # tracing and compiling; 0.0 when a warm program was reused
    data_s: float = 0.0  # loading, preparing and moving the data to the device
    train_s: float = 0.0
    eval_s: float = 0.0
    record_s: float = 0.0  # handing epochs to the recorder
    wall_s: float = 0.0

    @property
    def unattributed_s(self) -> float:
        """Wall time less the sum of all other stopwatches."""
        return self.wall_s - (self.build_s + self.compile_s + self.data_s + self.train_s + self.eval_s + self.record_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the worker knows about how a trial was run; None where it does not apply or was not reached."""

    engine: str | None = None  # what really ran: "xla", "graph", "eager", "fit" or "scipy"
    engine_reason: str | None = None  # why this engine, when it is not the one first chosen
    program_reused: bool | None = None  # True: no compiling was needed
    compile_ahead_s: float | None = None  # what its program had cost, if compiled for it while the run was starting
    parameters: int | None = None  # trainable parameters of the model
    train_samples: int | None = None
    val_samples: int | None = None
    classes: int | None = None  # None: the targets are numbers
    train_class_counts: tuple[int, ...] | None = None  # samples of each class
    val_class_counts: tuple[int, ...] | None = None
    best_epoch: int | None = None  # the best by early stopping's metric
    stopped_early: bool | None = None  # by early stopping; None where that was not asked for
    initial_val_loss: float | None = None  # of the untrained model, off the clock
    initial_val_accuracy: float | None = None
    threads: int | None = None  # size of the compute thread pool in effect
    cores: tuple[int, ...] | None = None  # the cores the process is pinned to
    gpus: tuple[str, ...] | None = None  # UUIDs
    pid: int | None = None
    worker_trials_before: int | None = None  # trials this process had run before this one
    peak_rss_bytes: int | None = None
    rss_bytes: int | None = None  # after the trial
    user_cpu_s: float | None = None
    system_cpu_s: float | None = None
    step_flops: float | None = None  # floating-point operations of one training step on a full batch
    flops_source: str | None = None  # who counted them
    clock_step_s: float | None = None  # by which the wall clock was set during the trial, against the steady one
    clock_drift: float | None = None  # rate of the steady clock, as adjusted by NTP, against the raw one, less 1
    major_faults: int | None = None  # pages that had to be read from disk
    involuntary_switches: int | None = None  # how often its threads were taken off a CPU they wanted to stay on
    energy: Energy | None = None  # by counters, over the whole trial
    resumptions: int | None = None  # how often it went on from a saved state; 0: it ran through
    resumed_after_epoch: int | None = None  # the last epoch that had been measured when it last did
    versions: str | None = None  # e.g. "tensorflow 2.21.0, keras 3.15.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one attempt at a trial ended, with every epoch that was measured before it ended."""

    status: Status
    epochs: tuple[EpochRecord, ...] = ()
    error: str | None = None  # one line; None when completed
    error_detail: str | None = None  # the traceback or the last lines the worker printed
    step: str | None = None  # where it failed: "data", "build", "compile", "train", "eval", ...
    watches: Stopwatches = field(default_factory=Stopwatches)
    facts: Facts = field(default_factory=Facts)
    started_at: float = 0.0  # seconds since the Unix epoch
    ended_at: float = 0.0
    files: Mapping[str, bytes] = field(default_factory=dict)  # to keep with the run: by path below the trial's folder
    remark: str | None = None  # to tell whoever watches the run; no part of the records


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where and when the scheduler ran a trial: added to an Outcome on the driver."""

    worker: str  # e.g. "0": the share of the node; unique in the run
    node: str  # host name
    position: int  # the how-manieth trial to be started in this run, from 0
    block: int  # the shuffled block (one repeat of each setting), from 0
    attempt: int  # from 1
    neighbours: int  # most other trials that ran on the node at any one time meanwhile
    others: tuple[str, ...] = ()  # the further nodes that it spanned
    warmth: str = ""  # "" | "cold" | "warm": did the scheduler expect the program to be warm here


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A trial that is done for this run: what the recorder writes."""

    trial: Trial
    outcome: Outcome
    placement: Placement
