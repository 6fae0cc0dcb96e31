"""A real `Body` for worker processes that follows the script in a trial's label instead of training."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from harness.domain.outcome import EpochRecord, Facts, Outcome, Stopwatches
from harness.domain.setting import Setting
from harness.domain.sources import Source
from harness.domain.trial import Trial


def trial(
    script: str = "ok", *, seed: int = 0, repeat: int = 0, timeout_s: float | None = None, **fields: object
) -> Trial:
    """A trial that does what `script` says: ok, sleep S, until FILE, hang, die, die once FILE, fail, refuse, grow
    BYTES."""
    setting = Setting.model_validate({"label": script, **fields})
    return Trial(setting=setting, seed=seed, repeat=repeat, timeout_s=timeout_s)


def epoch(number: int) -> EpochRecord:
    return EpochRecord(
        epoch=number, train_s=0.01, eval_s=0.001, elapsed_train_s=0.01 * number, samples=10, steps=1, chunks=1,
        loss=1.0, accuracy=0.5, val_loss=1.0, val_accuracy=0.5,
        user_cpu_s=0.0, system_cpu_s=0.0, started_at=0.0, ended_at=0.0,
    )  # fmt: skip


class IdleBody:
    """What a body that neither builds nor measures anything does beside running its trials: nothing."""

    def prepare(self, backend: str) -> None: ...

    def preload(self, backend: str) -> None: ...

    def sources(self, sources: Mapping[str, Source]) -> None: ...

    def check(self, trial: Trial) -> str | None: ...

    def calibrate(self) -> dict[str, object]:
        return {}

    def clock(self, anchor_s: float) -> None: ...

    def prime(self, trial: Trial) -> None: ...


class ScriptedBody:
    def __init__(self) -> None:
        self._before = 0
        self._primed: str | None = None
        self._sources: dict[str, Source] = {}

    def prepare(self, backend: str) -> None: ...

    def preload(self, backend: str) -> None:
        if os.environ.get("SCRIPTED_DIES_AT_START"):
            raise RuntimeError("this back end cannot be imported")

    def sources(self, sources: Mapping[str, Source]) -> None:
        self._sources = dict(sources)

    def check(self, trial: Trial) -> str | None:
        return "what was declared cannot be built" if trial.setting.label == "refuse" else None

    def calibrate(self) -> dict[str, object]:
        return {"dispatch_s": 1e-6}

    def clock(self, anchor_s: float) -> None: ...

    def prime(self, trial: Trial) -> None:
        self._primed = trial.trial_id

    def run(
        self,
        trial: Trial,
        on_epoch: Callable[[EpochRecord], None],
        on_progress: Callable[[], None],
        *,
        state: bytes | None = None,
        on_state: Callable[[bytes], None] | None = None,
    ) -> Outcome:
        began = time.time()
        what, _, argument = trial.setting.label.partition(" ")
        on_epoch(epoch(1))
        rss_bytes = 1000
        if what == "sleep":
            time.sleep(float(argument))
        elif what == "until":
            while not Path(argument).exists():
                time.sleep(0.01)
        elif what == "hang":
            time.sleep(3600)
        elif what == "die" and not argument:
            print("about to die", flush=True)
            os.kill(os.getpid(), 9)
        elif what == "die":
            flag = Path(argument.partition(" ")[2])
            if not flag.exists():
                flag.touch()
                os._exit(3)
        elif what == "grow":
            rss_bytes = int(argument) * (self._before > 0) + 1000
        facts = Facts(
            compile_ahead_s=1.0 if self._primed == trial.trial_id else None,
            pid=os.getpid(), worker_trials_before=self._before, rss_bytes=rss_bytes,
            cores=tuple(sorted(os.sched_getaffinity(0))), threads=int(os.environ.get("OMP_NUM_THREADS", "0")),
        )  # fmt: skip
        self._before += 1
        on_epoch(epoch(2))
        status, error = ("failed", "it was told to") if what == "fail" else ("completed", None)
        return Outcome(
            status=status, error=error, epochs=(epoch(1), epoch(2)), facts=facts,  # type: ignore[arg-type]
            watches=Stopwatches(wall_s=time.time() - began), started_at=began, ended_at=time.time(),
        )  # fmt: skip


class PatientBody(ScriptedBody):
    """Follows the script; what its cores can do is measured for as long as that takes on a machine that others use."""

    def prepare(self, backend: str) -> None:
        from harness.telemetry import calibrate

        calibrate.LIMIT_S = 50.0  # type: ignore[misc]
