"""The sampling process: its rate and clock, and that it neither stops a run nor outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.domain.errors import SetupError
from harness.telemetry import sampler as sampler_module
from harness.telemetry import sampling
from harness.telemetry.cores import allowed_cpus
from harness.telemetry.sampler import Sampler

Rows = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take it for no gap if a busy machine holds the sampling process up."""
    monkeypatch.setattr(sampler_module, "_SILENCE_S", 120.0)


@pytest.fixture
def to_the_last_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `stop` wait for the last sample however long it takes here."""
    monkeypatch.setattr(sampler_module, "STOP_S", 120.0)


@pytest.fixture
def started() -> Iterator[Callable[..., Sampler]]:
    """Return a function that makes and starts a sampler, which the test's end stops."""
    made: list[Sampler] = []

    def start(rate_hz: float, **options: Any) -> Sampler:
        made.append(Sampler(rate_hz, **{"gpus": [], **options}))
        made[-1].start()
        return made[-1]

    yield start
    for sampler in made:
        sampler.stop()


def wait_until(happened: Callable[[], Any]) -> Any:
    """Return what `happened` gives as soon as it gives something."""
    end_s = time.monotonic() + 120.0
    while not (result := happened()):
        assert time.monotonic() < end_s, "it did not happen"
        time.sleep(0.005)
    return result


def wait_for_rows(sampler: Sampler, wanted: Callable[[dict[str, Any]], bool] = lambda row: True) -> Rows:
    """Drain until a row is as wanted; return all of them."""
    rows: Rows = []

    def drained() -> bool:
        rows.extend(sampler.drain())
        return any(map(wanted, rows))

    wait_until(drained)
    return rows


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def times(rows: Rows) -> list[float]:
    return sorted({row["time"] for row in rows})


def test_starting_does_not_wait_for_the_process(
    started: Callable[..., Sampler], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slow = tmp_path / "python"
    slow.write_text("#!/bin/sh\nexec sleep 600\n")
    slow.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(slow))
    sampler = started(20.0)  # and its end, that of the test, does not either
    assert sampler.drain() == []


def test_rows_follow_the_start(started: Callable[..., Sampler]) -> None:
    before_s = time.time()
    sampler = started(20.0)
    row = wait_for_rows(sampler)[0]
    assert row.keys() == {"time", "device", "metric", "value"}
    assert before_s - 1.0 < row["time"] < time.time() + 1.0
    assert sampler.gaps == ()


class Script:
    """A clock, and an inbox in which nothing comes until its end; each sample takes as long as the script says."""

    def __init__(self, *sample_s: float) -> None:
        self.now_s = 100.0
        self.taken: list[float] = []
        self._sample_s = list(sample_s)

    def wait(self, seconds: float | None) -> str | None:
        if not self._sample_s:
            return None
        assert seconds is not None
        self.now_s += seconds
        return ""

    def take(self, *arguments: Any, ahead_s: float = 0.0) -> dict[str, str]:
        self.taken.append(self.now_s)
        self.now_s += self._sample_s.pop(0) if self._sample_s else 0.0
        return {}


def test_samples_keep_to_the_beats_of_their_rate_and_leave_out_those_that_passed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = Script(0.01, 0.19, 0.01, 0.5, 0.01)
    monkeypatch.setattr(sampling.time, "perf_counter", lambda: script.now_s)
    monkeypatch.setattr(sampling, "_take", script.take)
    request = sampling.Request(rate_hz=5.0, anchor_s=0.0, parent=os.getppid(), gpus=())
    sampling._sample(request, script, allowed_cpus())  # type: ignore[arg-type]
    assert script.taken[:-1] == pytest.approx([100.0, 100.2, 100.4, 100.6, 101.2])  # the last is taken at the end


@pytest.mark.parametrize(
    ("module", "name", "still"),
    [("host", "host", "worker:0"), ("workers", "processes", "host"), ("rapl", "packages", "host")],
)
def test_a_probe_that_cannot_be_made_costs_its_own_readings_alone(
    started: Callable[..., Sampler], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: str, name: str, still: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"import sys; sys.modules['harness.telemetry.{module}'] = None")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    sampler = started(20.0)
    sampler.watch("0", os.getpid())
    wait_for_rows(sampler, lambda row: row["device"] == still)
    wait_until(lambda: sampler.absent().get(name, "").startswith("cannot be read: ModuleNotFoundError"))
    assert sampler.gaps == ()


def test_a_rate_of_zero_starts_nothing_and_says_so(started: Callable[..., Sampler]) -> None:
    sampler = started(0.0)
    sampler.watch("0", os.getpid())
    assert sampler.pid is None
    assert sampler.absent() == {"sampler": "switched off (0 Hz)"}
    assert sampler.stop() == []


@pytest.mark.parametrize("rate_hz", [-1.0, 50.1, float("nan"), float("inf")])
def test_a_rate_out_of_range_is_refused(rate_hz: float) -> None:
    with pytest.raises(SetupError, match=r"from 0 \(off\) to 50 Hz, got"):
        Sampler(rate_hz)


def test_workers_are_watched_from_when_they_are_named_until_they_are_not(started: Callable[..., Sampler]) -> None:
    sampler = started(20.0)
    sampler.watch("early", os.getpid())  # before the process can have come up
    wait_for_rows(sampler, lambda row: row["device"] == "worker:early" and row["metric"] == "rss_bytes")
    sampler.watch("late", os.getppid())
    wait_for_rows(sampler, lambda row: row["device"] == "worker:late")
    sampler.unwatch("early")

    def late_alone() -> bool:
        devices = {row["device"] for row in sampler.drain()}
        return "worker:late" in devices and "worker:early" not in devices

    wait_until(late_alone)
    rows = wait_for_rows(sampler, lambda row: row["device"] == "worker:late")
    assert "worker:early" not in {row["device"] for row in rows}


def test_a_worker_that_ends_is_absent_with_its_reason(started: Callable[..., Sampler]) -> None:
    worker = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    sampler = started(20.0)
    sampler.watch("0", worker.pid)
    wait_for_rows(sampler, lambda row: row["device"] == "worker:0")
    worker.communicate(b"\n")
    wait_until(lambda: sampler.absent().get("worker:0") == f"process {worker.pid} has ended")


def test_a_killed_sampler_is_started_again_and_the_gap_is_recorded(
    started: Callable[..., Sampler], monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = started(20.0)
    sampler.watch("0", os.getpid())
    rows = wait_for_rows(sampler, lambda row: row["device"] == "worker:0")
    set_clock = time.time() + 3600.0
    monkeypatch.setattr(time, "time", lambda: set_clock)  # as NTP might; the series must not follow
    first = sampler.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: sampler.pid not in (None, first))
    rows += wait_for_rows(sampler, lambda row: row["device"] == "worker:0" and row["time"] > times(rows)[-1])
    rows += wait_for_rows(sampler, lambda row: bool(sampler.gaps and sampler.gaps[-1].ended_at))
    (gap,) = sampler.gaps
    assert gap.reason == "the sampling process ended with status -9"
    assert gap.ended_at is not None
    assert 0.0 < gap.ended_at - gap.started_at < 300.0
    assert not any(gap.started_at < at < gap.ended_at for at in times(rows))
    assert times(rows)[-1] - times(rows)[0] < 600.0


def test_times_follow_the_steady_clock_from_the_anchor_given(started: Callable[..., Sampler]) -> None:
    before_s = time.perf_counter()
    sampler = started(50.0, anchor_s=1e9)  # a wall clock far from this machine's: what it says later does not matter
    rows = wait_for_rows(sampler, lambda row: row["metric"] == "load1") + sampler.stop()
    assert all(before_s < at - 1e9 < time.perf_counter() for at in times(rows))


def test_the_harness_is_read_beside_the_workers(started: Callable[..., Sampler]) -> None:
    sampler = started(20.0)
    rows = wait_for_rows(sampler, lambda row: row["device"] == "harness")
    assert {row["metric"] for row in rows if row["device"] == "harness"} == {"user_cpu_s", "system_cpu_s", "rss_bytes"}
    sampler = started(20.0, roots=[2**22 + 1])
    wait_until(lambda: "cannot be seen from here" in sampler.absent().get("harness", ""))


def test_a_sampler_that_cannot_run_is_given_up_with_its_last_words(
    started: Callable[..., Sampler], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sampler_module, "RESTART_S", 0.001)
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no such luck\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    sampler = started(5.0)
    reason = "given up after 6 attempts: the sampling process ended with status 3: no such luck"
    wait_until(lambda: sampler.absent() == {"sampler": reason})
    assert sampler.stop() == []


def test_a_system_that_can_start_no_process_costs_only_the_telemetry(
    started: Callable[..., Sampler], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampler_module, "RESTART_S", 0.001)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    sampler = started(5.0)
    wait_until(lambda: "cannot be started" in sampler.absent().get("sampler", ""))


@pytest.mark.usefixtures("to_the_last_sample")
def test_stopping_brings_the_last_sample_and_leaves_no_process(started: Callable[..., Sampler]) -> None:
    sampler = started(0.001)  # whose next sample would come in a quarter of an hour
    sampler.watch("0", os.getpid())
    wait_for_rows(sampler)
    pid = sampler.pid
    assert pid is not None
    last = sampler.stop()
    assert len(times(last)) == 1
    assert is_gone(pid)
    assert sampler.pid is None
    assert sampler.stop() == []


def test_a_sampler_that_hangs_is_stopped_all_the_same(started: Callable[..., Sampler]) -> None:
    sampler = started(20.0)
    wait_for_rows(sampler)
    pid = sampler.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    sampler.stop()  # which would not return if it waited for the process
    assert is_gone(pid)


def test_stopping_right_after_starting_leaves_no_process(started: Callable[..., Sampler]) -> None:
    sampler = started(5.0)
    pid = wait_until(lambda: sampler.pid)
    sampler.stop()
    assert is_gone(pid)


def test_interrupting_the_whole_group_leaves_the_end_to_the_parent(started: Callable[..., Sampler]) -> None:
    sampler = started(20.0)
    wait_for_rows(sampler)
    pid = sampler.pid
    assert pid is not None
    os.kill(pid, signal.SIGINT)
    os.kill(pid, signal.SIGTERM)
    time.sleep(0.1)
    sampler.drain()
    wait_for_rows(sampler)
    assert sampler.pid == pid


PARENT = """
import os, sys, time
from harness.telemetry.sampler import Sampler
sampler = Sampler(20.0, gpus=[])
sampler.start()
while not sampler.drain():
    time.sleep(0.01)
heir = 0
if sys.argv[1] == "with an heir":  # a forked process that keeps the sampler's input open
    heir = os.fork()
    if heir == 0:
        time.sleep(600)
        os._exit(0)
print(sampler.pid, heir, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("case", ["alone", "with an heir"])
def test_the_sampler_dies_with_a_parent_that_is_killed(case: str) -> None:
    if case == "with an heir" and not sys.platform.startswith("linux"):
        pytest.skip("only Linux ends a process with its parent while its input stays open")
    with subprocess.Popen([sys.executable, "-c", PARENT, case], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid, heir = map(int, parent.stdout.readline().split())
        try:
            assert not is_gone(pid)
            parent.kill()
            wait_until(lambda: is_gone(pid))
        finally:
            if heir:
                os.kill(heir, signal.SIGKILL)


def test_the_sampler_keeps_off_the_workers_cores_if_there_are_others(started: Callable[..., Sampler]) -> None:
    first, *others = allowed_cpus()
    sampler = started(20.0, avoid_cores=[first])
    devices = {row["device"] for row in wait_for_rows(sampler, lambda row: row["device"].startswith("cpu"))}
    process = psutil.Process(sampler.pid)
    assert set(process.cpu_affinity() or ()) <= set(others or [first])
    assert process.nice() <= psutil.Process().nice()  # a training must not starve it
    assert os.getsid(process.pid) == process.pid
    assert f"cpu{first}" in devices  # which it reads nevertheless


def test_samples_that_nobody_drains_take_bounded_memory(
    started: Callable[..., Sampler], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampler_module, "HELD_BYTES", 2000)
    sampler = started(50.0)
    wait_until(lambda: sampler.gaps and sampler.gaps[-1].ended_at > sampler.gaps[-1].started_at)
    rows = sampler.stop()
    (gap,) = sampler.gaps
    assert gap.reason == "samples were not drained in time"
    assert gap.ended_at is not None
    assert times(rows)
    assert times(rows)[0] > gap.ended_at


def test_gpus_travel_from_nvml_to_rows(
    started: Callable[..., Sampler], monkeypatch: pytest.MonkeyPatch, scripted_nvml: Path
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(scripted_nvml))
    monkeypatch.setenv("FAKE_NVML_LOST", "1:5")
    sampler = started(20.0, gpus=["GPU-1"])
    rows = wait_for_rows(sampler, lambda row: "gpu:GPU-1" in sampler.absent())
    power = [row["value"] for row in rows if (row["device"], row["metric"]) == ("gpu:GPU-1", "gpu_power_w")]
    assert power == [200.0, 201.0, 202.0, 203.0, 204.0]
    assert sampler.absent()["gpu:GPU-1"] == "lost while sampling: GPU is lost"
    assert not any(row["device"] == "gpu:GPU-0" for row in rows)


def test_neither_the_handle_nor_the_process_imports_what_is_heavy() -> None:
    script = (
        "import sys; import harness.telemetry.sampler; handle = set(sys.modules);"
        "from harness.telemetry import host, nvidia, rapl, workers; process = set(sys.modules);"
        "heavy = {'tensorflow', 'keras', 'ray', 'pandas', 'pyarrow', 'pydantic', 'numpy'};"
        "print(*(heavy & process), *({'psutil', 'pynvml'} & handle))"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == ""


def test_further_gpus_are_read_once_they_are_asked_for(
    started: Callable[..., Sampler], monkeypatch: pytest.MonkeyPatch, scripted_nvml: Path
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(scripted_nvml))
    sampler = started(20.0)
    wait_for_rows(sampler)
    for further, known in ((["GPU-1"], {"gpu:GPU-1"}), (["GPU-0", "GPU-1"], {"gpu:GPU-0", "gpu:GPU-1"})):
        sampler.widen(gpus=further)
        rows = wait_for_rows(sampler, lambda row, further=further: row["device"] == f"gpu:{further[0]}")  # type: ignore[misc]
        assert {row["device"] for row in rows if row["device"].startswith("gpu:")} <= known
    first = sampler.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: sampler.pid not in (None, first))
    wait_for_rows(sampler, lambda row: row["device"] == "gpu:GPU-0")


def test_further_cores_of_workers_are_left_to_them(started: Callable[..., Sampler]) -> None:
    cpus = allowed_cpus()
    sampler = started(20.0, avoid_cores=cpus)
    wait_for_rows(sampler)
    pid = sampler.pid
    assert pid is not None
    assert sorted(os.sched_getaffinity(pid)) == cpus  # none is free, so that it may be anywhere
    if len(cpus) > 1:
        other = started(20.0, avoid_cores=cpus[:1])
        pid = wait_until(lambda: other.pid)
        wait_for_rows(other)
        assert cpus[0] not in os.sched_getaffinity(pid)
        other.widen(avoid_cores=cpus[1:])
        wait_until(lambda: sorted(os.sched_getaffinity(pid)) == cpus)


def test_whoever_tells_a_sampler_that_hangs_does_not_wait(started: Callable[..., Sampler]) -> None:
    sampler = started(20.0)
    wait_for_rows(sampler)
    pid = sampler.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)

    def tell() -> None:
        for number in range(2000):  # some hundred bytes each: a pipe holds 64 KiB
            sampler.watch(f"worker {number % 10}", os.getpid())

    telling = threading.Thread(target=tell, daemon=True)
    telling.start()
    telling.join(120.0)
    assert not telling.is_alive()


@pytest.mark.usefixtures("to_the_last_sample")
def test_a_rate_of_once_in_many_years_brings_one_sample(started: Callable[..., Sampler]) -> None:
    sampler = started(1e-12)
    wait_for_rows(sampler)
    time.sleep(0.3)
    assert sampler.gaps == ()
    assert len(times(sampler.stop())) == 1  # the last


def test_a_sampling_process_that_is_stopped_for_a_while_leaves_a_gap(
    started: Callable[..., Sampler], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampler_module, "_SILENCE_S", 1.0)
    sampler = started(50.0)
    wait_until(lambda: bool(sampler.drain()))
    pid = sampler.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    time.sleep(1.5)
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: bool(sampler.gaps))
    gap = sampler.gaps[0]  # there are more where a busy machine holds it up too
    assert "did not come to read" in gap.reason
    assert gap.ended_at is not None
    assert gap.ended_at - gap.started_at > 1.0


def test_where_no_gpu_was_given_out_the_reason_is_told(started: Callable[..., Sampler]) -> None:
    sampler = started(50.0, gpus=[])
    wait_until(lambda: "gpu" in sampler.absent())
    assert sampler.absent()["gpu"] == "no trial of this run was given a GPU"
