"""The contract that all probes keep, and what those of the host and of the workers read."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from harness import processes
from harness.telemetry import host, workers
from harness.telemetry.cores import allowed_cpus
from harness.telemetry.host import HostProbe
from harness.telemetry.nvidia import NvidiaProbe
from harness.telemetry.probe import READINGS, Probe
from harness.telemetry.workers import ProcessProbe

LATER_S = 1e6  # when all is due again, whatever the first reading has taken
DEVICE = re.compile(r"host|cpu\d+|sensor:.+/.+|gpu:\S+|worker:.+|harness")
METRIC = re.compile("|".join(READINGS))
PROBES: dict[str, Callable[[], Probe]] = {
    "host": HostProbe,
    "host without /proc and /sys": lambda: HostProbe(root=Path("/nowhere")),
    "workers": lambda: ProcessProbe({"0": os.getpid(), "gone": 2**22 + 1}, roots=[os.getppid()]),
    "nvidia": NvidiaProbe,
    "nvidia, a GPU that is not there": lambda: NvidiaProbe(["GPU-none"]),
}


@pytest.fixture
def napping() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have readings of the host take no time: what they take here would set when the next is due."""
    monkeypatch.setattr(host, "time", SimpleNamespace(thread_time=lambda: 0.0, monotonic=lambda: 0.0))


@pytest.mark.parametrize("make", PROBES.values(), ids=PROBES.keys())
def test_a_probe_gives_finite_values_with_units_and_reasons_for_the_rest(make: Callable[[], Probe]) -> None:
    probe = make()
    for now in (0.0, 1.0, 2.0):
        for device, metric, value in probe.read(now):
            assert DEVICE.fullmatch(device)
            assert METRIC.fullmatch(metric)
            assert math.isfinite(value)
            assert {device, metric, f"{device}/{metric}"}.isdisjoint(probe.absent)
    for place, reason in probe.absent.items():
        assert DEVICE.match(place) or METRIC.fullmatch(place)
        assert reason
    probe.close()


def test_the_host_and_each_core_are_read_or_have_a_reason() -> None:
    probe = HostProbe()
    read = {(device, metric): value for device, metric, value in probe.read(0.0)}
    time.sleep(0.2)
    read |= {(device, metric): value for device, metric, value in probe.read(LATER_S)}
    for cpu in allowed_cpus():
        assert 0.0 <= read[f"cpu{cpu}", "cpu_percent"] <= 100.0
    assert 0.0 <= read["host", "cpu_percent"] <= 100.0
    assert 0.0 < read["host", "memory_used_bytes"] < psutil.virtual_memory().total
    assert read["host", "load1"] >= 0.0
    given = {metric for _, metric in read} | {place.rpartition("/")[2] for place in probe.absent}
    assert given == {metric for metric, meaning in READINGS.items() if re.match("host|cpuN|sensor", meaning)}
    probe.close()


STAT = """cpu  {user} 10 20 {idle} 40 5 5 {steal} 7 0
cpu0 {user} 10 20 {idle} 40 5 5 {steal} 7 0
cpu3 100 0 0 900 0 0 0 0 0 0
intr 1 0 0
ctxt 4711
btime 1
"""
FILES = {
    "proc/stat": STAT.format(user=100, idle=1000, steal=0),
    "proc/vmstat": "nr_free_pages 9\npgpgin 8\npswpin 3\npswpout 4\npgfault 50\npgmajfault 6\n",
    "proc/meminfo": "MemTotal: 1000 kB\nMemFree: 10 kB\nMemAvailable: 600 kB\nSwapTotal: 500 kB\nSwapFree: 200 kB\n",
    "proc/loadavg": "1.25 1.00 0.50 2/300 12345\n",
    "proc/pressure/cpu": "some avg10=0.00 avg60=0.21 avg300=0.30 total=1500000\nfull avg10=0.00 total=7\n",
    "proc/pressure/memory": "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
    "proc/pressure/io": "some avg10=0.00 avg60=0.00 avg300=0.00 total=250000\n",
    "proc/diskstats": "8 0 sda 1 0 10 0 1 0 20 0 0 0 0\n8 1 sda1 1 0 10 0 1 0 20 0 0 0 0\n"
    "253 0 dm-0 1 0 9 0 1 0 9 0 0 0 0\n",
    "proc/net/dev": "Inter-| Receive\n face |bytes\n"
    "    lo: 999 1 0 0 0 0 0 0 999 1 0 0 0 0 0 0\n"
    "  eth0:7000 1 0 0 0 0 0 0 300 1 0 0 0 0 0 0\n"
    " bond0: 7000 1 0 0 0 0 0 0 300 1 0 0 0 0 0 0\n",
    "proc/self/cgroup": "0::/job/step\n",
    "sys/fs/cgroup/job/step/cpu.stat": "usage_usec 5\nthrottled_usec 2000000\n",
    "sys/fs/cgroup/job/cpu.stat": "usage_usec 5\nthrottled_usec 500000\n",
    "sys/fs/cgroup/cpu.stat": "usage_usec 5\n",
    "sys/devices/system/cpu/online": "0,3\n",
    "sys/block/sda/device/model": "a disk\n",
    "sys/block/dm-0/size": "9\n",
    "sys/class/net/eth0/device/vendor": "one\n",
}


def machine(root: Path, **changed: str | None) -> Path:
    """Write the kernel's files of a machine below `root`; `changed` by the end of a name, None for one it lacks."""
    for name, text in FILES.items():
        text = changed.get(name.rpartition("/")[2], text)
        if text is not None:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
    return root


@pytest.mark.usefixtures("quick")
def test_every_counter_of_the_kernel_is_read_in_its_unit(tmp_path: Path) -> None:
    probe = HostProbe(cpus=[0], root=machine(tmp_path))
    page = os.sysconf("SC_PAGE_SIZE")
    first = {(device, metric): value for device, metric, value in probe.read(0.0) if not device.startswith("sensor")}
    assert first == {
        ("host", "memory_used_bytes"): 400 * 1024,
        ("host", "swap_used_bytes"): 300 * 1024,
        ("host", "swap_in_bytes"): 3 * page,
        ("host", "swap_out_bytes"): 4 * page,
        ("host", "page_faults"): 50,
        ("host", "major_page_faults"): 6,
        ("host", "context_switches"): 4711,
        ("host", "cpu_pressure_s"): 1.5,
        ("host", "memory_pressure_s"): 0.0,
        ("host", "io_pressure_s"): 0.25,
        ("host", "cgroup_throttled_s"): 2.5,
        ("host", "load1"): 1.25,
        ("host", "disk_read_bytes"): 5120,
        ("host", "disk_write_bytes"): 10240,
        ("host", "network_received_bytes"): 7000,
        ("host", "network_sent_bytes"): 300,
    }
    (tmp_path / "proc/stat").write_text(STAT.format(user=130, idle=1050, steal=20))  # 30 busy, 20 stolen of 100
    then = {(device, metric): value for device, metric, value in probe.read(0.1)}
    assert {device for device, _ in then} == {"host", "cpu0"}  # not cpu3, which this process may not use
    assert then["host", "cpu_percent"] == then["cpu0", "cpu_percent"] == 30.0
    assert then["host", "steal_percent"] == then["cpu0", "steal_percent"] == 20.0
    probe.close()


def test_version_1_of_control_groups_counts_nanoseconds(tmp_path: Path) -> None:
    root = machine(tmp_path, cgroup="4:cpu,cpuacct:/job\n0::/\n")
    stat = root / "sys/fs/cgroup/cpu,cpuacct/job/cpu.stat"
    stat.parent.mkdir(parents=True)
    stat.write_text("nr_periods 3\nnr_throttled 1\nthrottled_time 1250000000\n")
    assert ("host", "cgroup_throttled_s", 1.25) in list(HostProbe(cpus=[0], root=root).read(0.0))


def test_what_a_kernel_lacks_is_absent_with_its_reason_and_never_0(tmp_path: Path) -> None:
    missing = {"cpu": None, "memory": None, "io": "?", "cgroup": "0::/\n"}
    few = {"vmstat": "pgfault 50\n", "meminfo": "MemTotal: 9 kB\nSwapTotal: 0 kB\n", "dev": "Inter\n face\n"}
    probe = HostProbe(cpus=[0], root=machine(tmp_path, **missing, **few, **{"model": None, "cpu.stat": None}))
    given = {metric for _, metric, _ in probe.read(0.0)}
    assert given - {"temperature_c"} == {"page_faults", "context_switches", "load1"}
    assert probe.absent | {"temperature_c": ""} == {
        "temperature_c": "",
        "cpu_frequency_hz": "the kernel reports no current frequency here, as in most virtual machines",
        "memory_used_bytes": "the kernel does not count MemAvailable",
        "swap_used_bytes": "no swap space is configured on this machine",
        "swap_in_bytes": "the kernel does not count pswpin",
        "swap_out_bytes": "the kernel does not count pswpout",
        "major_page_faults": "the kernel does not count pgmajfault",
        "cpu_pressure_s": "the kernel keeps no account of pressure (PSI): No such file or directory",
        "memory_pressure_s": "the kernel keeps no account of pressure (PSI): No such file or directory",
        "io_pressure_s": "/proc/pressure/io is not understood: b'?'",
        "cgroup_throttled_s": "no control group of this process keeps account of CPU quotas",
        "disk_read_bytes": "no disk is seen in /sys/block",
        "disk_write_bytes": "no disk is seen in /sys/block",
        "network_received_bytes": "this network namespace has no interface but the loopback",
        "network_sent_bytes": "this network namespace has no interface but the loopback",
    }


def test_without_sys_all_that_proc_shows_is_read(tmp_path: Path) -> None:
    (tmp_path / "proc").symlink_to("/proc")
    probe = HostProbe(root=tmp_path)
    list(probe.read(0.0))
    time.sleep(0.1)
    cores = {device for device, metric, _ in probe.read(LATER_S) if metric == "cpu_percent"}
    assert cores == {"host", *(f"cpu{cpu}" for cpu in allowed_cpus())}
    assert {"cpu_frequency_hz", "disk_read_bytes", "cgroup_throttled_s"} <= probe.absent.keys()


def test_temperatures_are_told_apart_by_chip_and_label(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [("Core 0", 40.0), ("Core 0", 50.0), ("", 30.0)]
    sensors = {"coretemp": [SimpleNamespace(label=label, current=current) for label, current in names]}
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: sensors)
    read = {device: value for device, metric, value in HostProbe().read(0.0) if metric == "temperature_c"}
    assert read == {
        "sensor:coretemp/Core 0": 40.0,
        "sensor:coretemp/Core 0 2": 50.0,
        "sensor:coretemp/temperature": 30.0,
    }
    monkeypatch.setattr(psutil, "sensors_temperatures", dict)
    probe = HostProbe()
    list(probe.read(0.0))
    assert "no temperature sensors" in probe.absent["temperature_c"]


@pytest.mark.usefixtures("quick")
def test_what_changes_slowly_or_costs_much_is_read_once_a_second(tmp_path: Path) -> None:
    probe = HostProbe(cpus=[0], root=machine(tmp_path))
    read = [{metric for _, metric, _ in probe.read(now)} for now in (0.0, 0.2, 0.4, 1.0)]
    slow = {"load1", "disk_read_bytes", "network_sent_bytes"}
    assert [slow & metrics for metrics in read] == [slow, set(), set(), slow]


def test_a_reading_that_takes_long_is_taken_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = count()
    slow = SimpleNamespace(thread_time=lambda: 0.01 * next(ticks), monotonic=lambda: 0.0)
    monkeypatch.setattr(host, "time", slow)  # as on a machine of a thousand cores
    probe = HostProbe(cpus=[0], root=machine(tmp_path))
    read = [{metric for _, metric, _ in probe.read(now)} for now in (0.0, 0.2, 0.4, 0.6)]
    assert ["memory_used_bytes" in metrics for metrics in read] == [True, False, False, True]


def test_devices_that_are_slow_to_answer_are_asked_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = count()
    slow = SimpleNamespace(thread_time=lambda: 0.0, monotonic=lambda: 0.15 * next(waits))
    monkeypatch.setattr(host, "time", slow)
    probe = HostProbe(cpus=[0], root=machine(tmp_path))
    read = [{metric for _, metric, _ in probe.read(now)} for now in (0.0, 1.0, 2.0)]
    assert ["disk_read_bytes" in metrics for metrics in read] == [True, False, True]
    assert all("memory_used_bytes" in metrics for metrics in read)


def test_a_busy_core_is_seen_as_busy() -> None:
    probe = HostProbe()
    began_s = time.perf_counter()
    list(probe.read(0.0))
    used_s = time.process_time()
    end = time.perf_counter() + 0.3
    while time.perf_counter() < end:
        pass
    used_s = time.process_time() - used_s  # less than 0.3 s where others are busy too
    read = list(probe.read(LATER_S))
    (busy,) = (value for device, metric, value in read if (device, metric) == ("host", "cpu_percent"))
    assert busy >= 50.0 * used_s / (time.perf_counter() - began_s) / (os.cpu_count() or 1)


@pytest.mark.usefixtures("quick")
def test_cpu_shares_wait_until_enough_ticks_have_passed() -> None:
    probe = HostProbe()
    seen = []
    for now in (0.0, 0.02, 0.08, 0.12, 0.14, 0.18):
        seen.append(any(metric == "cpu_percent" for _, metric, _ in probe.read(now)))
        time.sleep(0.03)  # for the kernel's own ticks
    assert seen == [False, False, False, True, False, False]


@pytest.mark.usefixtures("quick")
def test_frequencies_are_read_once_a_second_in_hertz(tmp_path: Path) -> None:
    file = tmp_path / "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"
    file.parent.mkdir(parents=True)
    file.write_text("2400000\n")
    probe = HostProbe(cpus=[0], root=tmp_path)
    read = [
        [value for device, metric, value in probe.read(now) if (device, metric) == ("cpu0", "cpu_frequency_hz")]
        for now in (0.0, 0.2, 0.4, 1.0)
    ]
    assert read == [[2.4e9], [], [], [2.4e9]]
    file.write_text("?\n")
    assert [metric for _, metric, _ in probe.read(2.0)].count("cpu_frequency_hz") == 0
    assert "?" in probe.absent["cpu_frequency_hz"]


def test_a_container_that_hides_cores_leaves_the_machines_total(tmp_path: Path) -> None:
    probe = HostProbe(cpus=[0, 9], root=machine(tmp_path, online="0-1023\n"))
    list(probe.read(0.0))
    (tmp_path / "proc/stat").write_text(STAT.format(user=130, idle=1050, steal=20))
    assert {device for device, metric, _ in probe.read(LATER_S) if metric == "cpu_percent"} == {"host"}
    reason = "the machine has the cores 0-1023 but times are shown of 2: a container hides some"
    places = [f"cpu{cpu}/{kind}_percent" for cpu in (0, 9) for kind in ("cpu", "steal")]
    assert {place: probe.absent.get(place) for place in places} == dict.fromkeys(places, reason)


def test_a_core_that_the_kernel_does_not_show_has_a_reason(tmp_path: Path) -> None:
    probe = HostProbe(cpus=[0, 9], root=machine(tmp_path))
    list(probe.read(0.0))
    assert probe.absent["cpu9/cpu_percent"] == "the kernel shows no times of this core"
    assert "cpu0/cpu_percent" not in probe.absent


def test_a_worker_is_read_by_its_name_until_it_ends(napping: subprocess.Popen[bytes]) -> None:
    probe = ProcessProbe({"a": napping.pid})
    read = {metric: value for device, metric, value in probe.read(0.0) if device == "worker:a"}
    assert read.keys() == {"user_cpu_s", "system_cpu_s", "rss_bytes", "threads"}
    assert read["rss_bytes"] > 0
    assert read["threads"] == 1
    napping.kill()  # and not waited for: a zombie has no memory, which is not a memory of 0
    while psutil.Process(napping.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.001)
    assert list(probe.read(1.0)) == []
    assert probe.absent == {"worker:a": f"process {napping.pid} has ended"}


def test_a_worker_is_read_with_all_that_it_has_started() -> None:
    script = "sh -c 'sleep 60 & wait' & wait"
    with subprocess.Popen(["sh", "-c", script], start_new_session=True) as worker:
        try:
            while len(processes.below(worker.pid)) < 2:
                time.sleep(0.005)
            read = {metric: value for _, metric, value in ProcessProbe({"a": worker.pid}).read(0.0)}
        finally:
            processes.end(worker.pid)
    assert read["threads"] == 3


def test_what_a_worker_starts_is_read_with_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_LOOK_SHARE", 0)  # however long it takes here
    with subprocess.Popen(["sh", "-c", "read line; sleep 60 & wait"], stdin=subprocess.PIPE) as worker:
        try:
            probe = ProcessProbe({"a": worker.pid}, roots=[os.getpid()])
            threads = [value for _, metric, value in probe.read(0.0) if metric == "threads"]
            assert worker.stdin is not None
            worker.stdin.write(b"go on\n")
            worker.stdin.flush()
            while not processes.below(worker.pid):
                time.sleep(0.005)
            read = list(probe.read(0.1))
            threads += [value for _, metric, value in read if metric == "threads"]
        finally:
            processes.end(worker.pid)
    assert threads == [1, 2]
    assert not any(device == "harness" for device, _, _ in read)  # which can wait


def test_the_workers_that_are_read_can_change(napping: subprocess.Popen[bytes]) -> None:
    probe = ProcessProbe({"a": 2**22 + 1})
    assert probe.absent == {"worker:a": f"process {2**22 + 1} has ended"}
    probe.watch({"a": napping.pid, "b": os.getpid()})
    assert {device for device, _, _ in probe.read(0.0)} == {"worker:a", "worker:b"}
    assert probe.absent == {}
    probe.watch({"b": os.getpid()})
    assert {device for device, _, _ in probe.read(1.0)} == {"worker:b"}


BURN = """
import sys, time
for line in sys.stdin:
    end_s = time.process_time() + float(line)
    while time.process_time() < end_s:
        pass
    print(flush=True)
"""


class Burner:
    """A process that uses CPU time when told to."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-c", BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.pid = self._process.pid
        self.burn(0.0)

    def burn(self, seconds: float) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"%f\n" % seconds)
        self._process.stdin.flush()
        self._process.stdout.readline()

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def burners() -> Iterator[tuple[Burner, Burner]]:
    pair = Burner(), Burner()
    yield pair
    for one in pair:
        one.end()


def harness_cpu_s(probe: Probe, now: float) -> float:
    """Return the CPU time of the harness less this process's own, which is part of it."""
    read = {metric: value for device, metric, value in probe.read(now) if device == "harness"}
    own = psutil.Process().cpu_times()
    return read["user_cpu_s"] + read["system_cpu_s"] - own.user - own.system


def test_the_harness_is_all_below_its_root_but_no_worker(burners: tuple[Burner, Burner]) -> None:
    helper, worker = burners
    probe = ProcessProbe({"0": worker.pid}, roots=[os.getpid()])
    before_s = harness_cpu_s(probe, 0.0)
    worker.burn(0.4)
    assert harness_cpu_s(probe, LATER_S) - before_s < 0.2
    helper.burn(0.4)
    assert harness_cpu_s(probe, 2 * LATER_S) - before_s > 0.3
    assert not any(device == "harness" for device, _, _ in probe.read(2 * LATER_S + 0.5))  # once a second at most


def test_the_harness_keeps_what_its_processes_had_used(burners: tuple[Burner, Burner]) -> None:
    helper, worker = burners
    probe = ProcessProbe(roots=[os.getpid()])
    helper.burn(0.3)
    worker.burn(0.3)
    before_s = harness_cpu_s(probe, 0.0)
    helper.end()
    probe.watch({"0": worker.pid})  # a worker from now on
    after_s = harness_cpu_s(probe, LATER_S)
    assert before_s - 0.1 < after_s < before_s + 0.2
    worker.burn(0.4)
    probe.watch({"0": os.getppid()})  # another in its place; what the first did was never the harness's own
    assert after_s - 0.1 < harness_cpu_s(probe, 2 * LATER_S) < after_s + 0.2


def test_where_the_driver_trains_itself_the_harness_is_the_sampling_process_alone() -> None:
    probe = ProcessProbe({"inline": os.getppid()}, roots=[os.getppid()])
    assert abs(harness_cpu_s(probe, 0.0)) < 0.2
    assert probe.absent == {}


def test_a_root_that_cannot_be_seen_leaves_the_harness_absent(napping: subprocess.Popen[bytes]) -> None:
    probe = ProcessProbe({"0": napping.pid}, roots=[os.getpid(), 2**22 + 1])
    assert {device for device, _, _ in probe.read(0.0)} == {"worker:0"}
    assert probe.absent == {
        "harness": f"process {2**22 + 1} and what is below it cannot be seen from here, or has ended"
    }


def test_a_worker_does_not_step_back_when_what_it_started_ends() -> None:
    script = f"{sys.executable} -c 'for i in range(3 * 10**6): pass' & exec sleep 60"  # which waits for no child
    with subprocess.Popen(["sh", "-c", script], start_new_session=True) as worker:
        try:
            probe = ProcessProbe({"a": worker.pid})
            read: list[float] = []
            while not read or processes.below(worker.pid) or psutil.Process(worker.pid).name() != "sleep":
                read.extend(value for _, metric, value in probe.read(len(read)) if metric == "user_cpu_s")
            read.extend(value for _, metric, value in probe.read(len(read)) if metric == "user_cpu_s")
        finally:
            processes.end(worker.pid)
    assert read == sorted(read)
