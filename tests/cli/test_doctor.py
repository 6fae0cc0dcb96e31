"""`harness doctor`: what it says of this machine, of scripted GPUs, and of machines that hide things."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.doctor.examine import can_pin, examine, run_of
from harness.doctor.findings import findings
from harness.doctor.memory import size
from harness.doctor.seen import Busy, ByteCode, Clocks, Finding, Seen

Say = Callable[..., Any]

CPU = "sys/devices/system/cpu"


def seen(root: Path, **more: Any) -> Seen:
    """A machine of 4 hardware threads that is quiet, and of whose files there are those that a test writes."""
    readings = {(f"cpu{cpu}", kind): 1.0 for cpu in range(4) for kind in ("cpu_percent", "steal_percent")}
    readings |= {("host", "memory_used_bytes"): 2e9, ("host", "swap_used_bytes"): 0.0}
    machine: dict[str, Any] = {
        "root": root,
        "node": {"memory_bytes": 16 * 10**9},
        "cpus": (0, 1, 2, 3),
        "pinning": None,
        "span_s": 1.0,
        "before": {},
        "after": readings,
        "absent": {},
        "clocks": Clocks(steady_s=1.0, raw_s=1.0, wall_s=1.0, synchronised=True),
    }
    machine["after"] = readings | more.pop("after", {})
    return Seen(**machine | more)


def write(root: Path, **files: str) -> None:
    """Write files of the kernel's; `__` stands for a slash."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def found(machine: Seen, name: str) -> Finding:
    (finding,) = [one for one in findings(machine) if one.name == name]
    return finding


def test_a_frequency_governor_that_follows_the_load_is_a_doubt_with_the_command_to_change_it(tmp_path: Path) -> None:
    write(tmp_path, **{f"{CPU}/cpufreq/policy{cpu}/scaling_governor": "schedutil" for cpu in range(4)})
    finding = found(seen(tmp_path), "governor")
    assert (finding.state, finding.seen) == ("doubt", "schedutil")
    assert finding.mend == "sudo cpupower frequency-set -g performance"
    write(tmp_path, **{f"{CPU}/cpufreq/policy{cpu}/scaling_governor": "performance" for cpu in range(4)})
    assert found(seen(tmp_path), "governor").state == "ok"


@pytest.mark.parametrize(
    ("file", "value", "state"),
    [
        ("intel_pstate/no_turbo", "0", "doubt"),
        ("intel_pstate/no_turbo", "1", "ok"),
        ("cpufreq/boost", "1", "doubt"),
        ("cpufreq/boost", "0", "ok"),
    ],
)
def test_turbo_is_read_from_whichever_driver_has_it(tmp_path: Path, file: str, value: str, state: str) -> None:
    write(tmp_path, **{f"{CPU}/{file}": value})
    finding = found(seen(tmp_path), "turbo")
    assert finding.state == state
    assert (f"/{CPU}/{file}" in (finding.mend or "")) == (state == "doubt")


def test_smt_is_a_doubt_where_it_is_on_and_cannot_be_told_from_within_a_virtual_machine(tmp_path: Path) -> None:
    write(tmp_path, **{f"{CPU}/smt/active": "1"})
    assert found(seen(tmp_path), "smt").state == "doubt"
    write(tmp_path, **{f"{CPU}/smt/active": "0"})
    assert found(seen(tmp_path), "smt").state == "ok"
    assert found(seen(tmp_path, node={"virtualisation": "KVM"}), "smt").state == "unknown"


def test_a_cpu_quota_below_the_cores_is_a_doubt_and_says_for_how_long_it_held_the_harness_back(tmp_path: Path) -> None:
    write(tmp_path, proc__self__cgroup="0::/", sys__fs__cgroup__cgroup="x")
    assert found(seen(tmp_path), "cpu_quota").state == "ok"
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("150000 100000\n")
    throttled = ("host", "cgroup_throttled_s")
    finding = found(seen(tmp_path, before={throttled: 3.0}, after={throttled: 3.25}), "cpu_quota")
    assert finding.state == "doubt"
    assert "1.5 CPUs' worth of time on 4 cores" in finding.seen
    assert "throttled for 0.25 s of the last 1.0 s, 3.2 s so far in all" in finding.seen


def test_cores_out_of_reach_are_a_doubt_with_the_command_that_brings_them_back(tmp_path: Path) -> None:
    write(tmp_path, **{f"{CPU}/online": "0-3,8"})
    finding = found(seen(tmp_path), "affinity")
    assert (finding.state, finding.seen) == ("doubt", "4 of 5 hardware threads may be used")
    assert "taskset -cp 0-3,8 $$" in str(finding.mend)


def test_a_foreign_load_is_named_with_its_core_and_its_process(tmp_path: Path) -> None:
    machine = seen(tmp_path, after={("cpu2", "cpu_percent"): 97.0}, busy=(Busy(pid=77, name="make", percent=96.0),))
    finding = found(machine, "foreign_load")
    assert finding.state == "doubt"
    assert finding.seen == "97 % on cpu2 within 1.0 s, by `make` (process 77, 96 %)"
    assert str(finding.mend).startswith("kill 77")
    assert "cannot be seen from here" in found(replace(machine, busy=()), "foreign_load").seen


def test_a_process_with_a_minor_share_is_not_to_be_ended_and_what_is_hidden_is_told(tmp_path: Path) -> None:
    busy = (Busy(pid=77, name="python train.py", percent=15.0),)
    machine = seen(tmp_path, after={("cpu2", "cpu_percent"): 98.0}, busy=busy, others_percent=16.0)
    finding = found(machine, "foreign_load")
    assert "`python train.py` (process 77, 15 %)" in finding.seen
    assert "processes that have ended or cannot be seen from here (85 %)" in finding.seen
    assert "kill" not in str(finding.mend)
    assert "no single process explains it" in str(finding.mend)


def test_a_run_of_the_harness_is_to_be_waited_for_and_not_to_be_ended(tmp_path: Path) -> None:
    busy = (Busy(pid=77, name="python", percent=60.0, run=70), Busy(pid=78, name="python", percent=35.0, run=70))
    machine = seen(tmp_path, after={("cpu2", "cpu_percent"): 97.0}, busy=busy, others_percent=96.0)
    finding = found(machine, "foreign_load")
    assert finding.seen == "97 % on cpu2 within 1.0 s; a harness run is going on here (process 70, 95 %)"
    assert finding.mend == "wait for the harness run to end (process 70); trials beside it carry `contended`"


def test_processes_of_a_run_are_told_by_their_command_lines() -> None:
    lines = {
        10: ("/usr/bin/python", "-m", "harness", "run", "suite.py"),
        11: ("/usr/bin/python", "-P", "-c", "import runpy", "/opt", "harness.schedule.child", "--address", "x"),
        12: ("ray::NodeActor",),
        13: ("bash", "-c", "python -m harness run suite.py; make"),
        14: ("/opt/bin/harness", "doctor"),
    }
    far = {4_000_000 + pid: line for pid, line in lines.items()}  # numbers beyond what the kernel gives by default
    assert {pid - 4_000_000: run_of(pid, far) for pid in far} == {
        10: 4_000_010, 11: 4_000_010, 12: 4_000_010, 13: None, 14: None,
    }  # fmt: skip
    assert run_of(4_000_012, {4_000_012: ("ray::Trainable",)}) is None


def test_stolen_time_a_clock_that_drifts_and_a_clock_that_was_set_are_doubts(tmp_path: Path) -> None:
    assert found(seen(tmp_path, after={("cpu1", "steal_percent"): 6.0}), "steal").state == "doubt"
    drifting = Clocks(steady_s=1.002, raw_s=1.0, wall_s=1.002, synchronised=True)
    assert found(seen(tmp_path, clocks=drifting), "clock_rate").seen.startswith("+0.2000 %")
    stepped = Clocks(steady_s=1.0, raw_s=1.0, wall_s=4.0, synchronised=False)
    assert "set by +3.000 s" in found(seen(tmp_path, clocks=stepped), "clock_rate").seen
    assert found(seen(tmp_path, clocks=stepped), "clock_rate").state == "doubt"
    assert found(seen(tmp_path, clocks=stepped), "clock_synchronised").state == "doubt"
    write(tmp_path, sys__devices__system__clocksource__clocksource0__current_clocksource="hpet")
    assert found(seen(tmp_path), "clock_source").state == "doubt"


def test_little_memory_and_swap_in_use_are_doubts(tmp_path: Path) -> None:
    machine = seen(tmp_path, after={("host", "memory_used_bytes"): 15.5e9, ("host", "swap_used_bytes"): 1e9})
    assert found(machine, "memory").state == "doubt"
    assert found(machine, "swap").state == "doubt"
    moved = {("host", "swap_in_bytes"): 5e6}
    assert found(seen(tmp_path, before={next(iter(moved)): 0.0}, after=moved), "swap").state == "doubt"
    none = seen(tmp_path, absent={"swap_used_bytes": "no swap space is configured on this machine"})
    without = {key: value for key, value in none.after.items() if key[1] != "swap_used_bytes"}
    assert found(replace(none, after=without), "swap").state == "ok"


def test_a_containers_memory_counts_where_it_is_less(tmp_path: Path) -> None:
    limited = seen(tmp_path, node={"memory_bytes": 16 * 10**9, "memory_limit_bytes": 2**30})
    assert found(limited, "memory").state == "unknown"
    write(tmp_path, proc__self__cgroup="0::/")
    for name, text in (("max", 2**30), ("current", 2**30 - 2**26), ("stat", "anon 5\ninactive_file 1048576")):
        write(tmp_path, **{f"sys/fs/cgroup/memory.{name}": str(text)})
    finding = found(limited, "memory")
    assert finding.state == "doubt"
    assert "control groups allow 1 GiB, of which 65 MiB are left" in finding.seen


def test_missing_byte_code_is_a_doubt_with_the_command_that_compiles_it(tmp_path: Path) -> None:
    code = ByteCode(package="tensorflow", folder=Path("/opt/tensorflow"), compiled=False, writable=False)
    finding = found(seen(tmp_path, byte_code=(code,)), "byte_code")
    assert finding.state == "doubt"
    assert "nor can an import keep it" in finding.seen
    assert finding.mend == "python -m compileall -q /opt/tensorflow"
    assert found(seen(tmp_path, byte_code=(replace(code, compiled=True),)), "byte_code").state == "ok"


def test_a_gpu_that_others_use_or_that_is_throttled_is_a_doubt(tmp_path: Path) -> None:
    idle = {("gpu:A", "gpu_utilisation_percent"): 0.0, ("gpu:A", "gpu_throttle_mask"): 1.0}
    machine = seen(tmp_path, after=idle, gpu_memory_bytes={"A": 100})
    assert [found(machine, name).state for name in ("gpu_load", "gpu_throttling")] == ["ok", "ok"]
    held = {("gpu:A", "gpu_memory_used_bytes"): 50.0, ("gpu:A", "gpu_throttle_mask"): 64.0}
    machine = seen(tmp_path, after=idle | held, gpu_memory_bytes={"A": 100})
    assert found(machine, "gpu_load").seen == "gpu:A: busy 0 % of the time, 50 % of its memory in use"
    assert found(machine, "gpu_throttling").seen == "gpu:A: hw_thermal_slowdown"
    assert "gpu_load" not in {one.name for one in findings(seen(tmp_path))}


def test_the_newest_noise_floor_of_this_node_is_told_if_one_was_measured(tmp_path: Path, say: Say) -> None:
    node = examine(watched_s=0.15).node["node"]
    for number, (whose, ratio) in enumerate([(node, 1.5), (node, 1.04), ("another", 1.9)]):
        floor = {"node": whose, "ratio": ratio, "figure": "train_s", "repeats": 10, "date": f"2026-01-0{number + 1}"}
        folder = tmp_path / "suite" / f"run{number}"
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps({"schema_version": 3, "noise_floor": {whose: floor}}))
    document = json.loads(say("doctor", "--json", "--results", tmp_path).out)
    assert document["noise_floor"]["ratio"] == 1.04
    (finding,) = [one for one in document["findings"] if one["name"] == "noise_floor"]
    assert finding["seen"].startswith(
        "equal settings differ by 4.0 % or more in 2 of 100 comparisons of train_s with 10"
    )
    (tmp_path / "nothing").mkdir()
    nothing = json.loads(say("doctor", "--json", "--results", tmp_path / "nothing").out)
    assert nothing["noise_floor"] is None
    assert [one["state"] for one in nothing["findings"] if one["name"] == "noise_floor"] == ["unknown"]


def test_a_noise_floor_of_an_equal_machine_is_told_with_the_name_of_that(tmp_path: Path) -> None:
    floor = {"node": "before", "ratio": 1.04, "figure": "train_s", "repeats": 10, "date": "2026-01-01"}
    told = found(seen(tmp_path, noise_floor=floor), "noise_floor").seen
    assert "measured 2026-01-01 on before, which has the same CPU model and as many hardware threads" in told


@pytest.mark.parametrize(("ratio", "state"), [(1.05, "ok"), (1.11, "doubt"), (11.378, "doubt")])
def test_a_noise_floor_that_hides_a_tenth_is_a_doubt(tmp_path: Path, ratio: float, state: str) -> None:
    floor = {"node": "n", "ratio": ratio, "figure": "train_s", "repeats": 10, "date": "2026-01-01T00:00:00+00:00"}
    finding = found(seen(tmp_path, node={"node": "n"}, noise_floor=floor), "noise_floor")
    assert finding.state == state
    assert ("`harness aa` again" in str(finding.mend)) == (state == "doubt")


def test_a_folder_of_results_that_is_not_there_is_refused_as_status_does(tmp_path: Path, say: Say) -> None:
    (tmp_path / "a.py").touch()
    for path in (tmp_path / "none", tmp_path / "a.py"):
        said = say("doctor", "--results", path)
        assert said.code == 2
        assert "there is no such folder" in said.err


def test_control_groups_of_which_nothing_can_be_seen_are_unknown(tmp_path: Path) -> None:
    write(tmp_path, proc__self__cgroup="0::/")
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    assert found(seen(tmp_path), "cpu_quota").state == "unknown"


def test_memory_that_the_kernel_hides_is_unknown_with_the_reason(monkeypatch: pytest.MonkeyPatch, say: Say) -> None:
    def hidden() -> None:
        raise KeyError(b"MemTotal:")

    monkeypatch.setattr("psutil.virtual_memory", hidden)
    said = say("doctor", "--json")
    assert said.code == 0
    document = json.loads(said.out)
    assert document["node"]["memory_bytes"] is None
    assert {one["name"]: one["state"] for one in document["findings"]}["memory"] == "unknown"


def test_sizes_are_told_in_units_that_people_read() -> None:
    assert [size(count) for count in (512, 1536, 2**20, 23.5 * 2**30, 2**41)] == [
        "512 B", "1.5 KiB", "1 MiB", "23.5 GiB", "2 TiB",
    ]  # fmt: skip


def test_what_was_not_seen_is_unknown_with_its_reason_and_never_in_order(tmp_path: Path) -> None:
    blind = seen(tmp_path, absent={"cpu_percent": "a container hides it"})
    clocks = Clocks(steady_s=1.0, raw_s=None, wall_s=1.0, synchronised=None)
    states = {one.name: one for one in findings(replace(blind, after={}, clocks=clocks))}
    known = {name for name, one in states.items() if one.state != "unknown"}
    assert known == {"pinning"}  # which was tried
    assert states["foreign_load"].seen == "a container hides it"
    assert all(one.seen and one.why for one in states.values())


def test_each_doubt_says_how_to_mend_it_and_nothing_else_does(tmp_path: Path) -> None:
    write(tmp_path, **{f"{CPU}/smt/active": "1", f"{CPU}/online": "0-7", f"{CPU}/cpufreq/boost": "1"})
    for one in findings(seen(tmp_path, pinning="no", after={("cpu0", "cpu_percent"): 50.0})):
        assert (one.mend is not None) == (one.state == "doubt"), one


def test_a_machine_without_proc_and_sys_is_examined_all_the_same(tmp_path: Path) -> None:
    document = examine(root=tmp_path, watched_s=0.15).document()
    json.dumps(document)
    states = {one["name"]: one["state"] for one in document["findings"]}
    assert states["governor"] == states["turbo"] == states["cpu_quota"] == states["clock_source"] == "unknown"


def test_the_affinity_is_as_it_was() -> None:
    before = os.sched_getaffinity(0)
    examine(watched_s=0.15)
    assert os.sched_getaffinity(0) == before


def test_a_sandbox_that_forbids_pinning_is_a_doubt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def forbidden(pid: int, cpus: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setaffinity", forbidden)
    finding = found(seen(tmp_path, pinning=can_pin((0, 1))), "pinning")
    assert finding.state == "doubt"
    assert "Operation not permitted" in finding.seen


def test_json_has_all_of_it(say: Say) -> None:
    said = say("doctor", "--json")
    assert said.code == 0
    document = json.loads(said.out)
    assert {"node", "gpus", "workers", "backends", "counters", "absent", "findings"} <= document.keys()
    counters = {(one["device"], one["metric"]): one["value"] for one in document["counters"]}
    assert counters["host", "memory_used_bytes"] > 0
    assert ("worker:doctor", "user_cpu_s") in counters
    assert all(math.isfinite(value) for value in counters.values())
    assert all(one["reason"] and one["what"] for one in document["absent"])
    assert document["workers"]["cores"]
    assert document["backends"]["tensorflow"]


def test_a_person_reads_the_machine_its_counters_and_the_findings(say: Say) -> None:
    said = say("doctor")
    assert said.code == 0
    for start in ("CPU:", "Memory:", "GPU:", "Workers:", "can be read", "what would make numbers noisy"):
        assert any(line.startswith(start) for line in said.out.splitlines()), start
    assert not said.err


def test_it_imports_no_back_end_no_ray_and_no_tables() -> None:
    code = (
        "import sys; sys.argv = ['harness', 'doctor']\n"
        "from harness import cli\n"
        "try:\n    cli.main()\nexcept SystemExit:\n    pass\n"
        "print('IMPORTED', *[name for name in ('tensorflow', 'keras', 'ray', 'pandas', 'jax') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout.splitlines()[-1] == "IMPORTED"


def doctor(library: Path, **script: object) -> dict[str, Any]:
    """Return what the command says where NVML is this scripted library."""
    variables = {f"FAKE_NVML_{name}": str(value) for name, value in script.items()}
    said = subprocess.run(
        [sys.executable, "-m", "harness", "doctor", "--json"],
        env={**os.environ, "LD_LIBRARY_PATH": str(library), **variables},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return dict(json.loads(said.stdout))


def test_scripted_gpus_are_seen_with_all_their_counters(scripted_nvml: Path) -> None:
    document = doctor(scripted_nvml, GPUS=2, START=time.monotonic())
    assert [gpu["uuid"] for gpu in document["gpus"]] == ["GPU-0", "GPU-1"]
    metrics = {one["metric"] for one in document["counters"] if one["device"] == "gpu:GPU-1"}
    assert {"gpu_power_w", "gpu_energy_j", "gpu_pcie_sent_bytes_per_s", "gpu_throttle_mask"} <= metrics
    assert set(document["energy_counters"]) >= {"gpu:GPU-0", "gpu:GPU-1"}
    states = {one["name"]: one["state"] for one in document["findings"]}
    assert states["gpu_load"] == "doubt"  # the script has them at work
    assert states["gpu_throttling"] == "ok"


def test_nvml_without_a_device_or_a_permission_says_so(scripted_nvml: Path) -> None:
    document = doctor(scripted_nvml, GPUS=0)
    assert document["gpus"] == []
    (why,) = [one["reason"] for one in document["absent"] if "gpu_power_w" in one["what"]]
    assert "shows no GPU" in why
    forbidden = doctor(scripted_nvml, FAIL="power:4")
    (why,) = [one["reason"] for one in forbidden["absent"] if "gpu:GPU-1/gpu_power_w" in one["what"]]
    assert why
    assert any((one["device"], one["metric"]) == ("gpu:GPU-0", "gpu_power_w") for one in forbidden["counters"])
