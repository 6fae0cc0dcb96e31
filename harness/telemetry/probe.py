"""What every source of hardware readings looks like to the sampler."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple, Protocol

# Every metric that a probe may give, with the devices it is given of. Counters grow from an origin of their own (boot,
# a process's birth, the start of the sampling process), so that only their differences mean something.
READINGS: Final[dict[str, str]] = {
    "cpu_percent": "host, cpuN: share of the time since the reading before that was spent neither idle, nor waiting for"
    " I/O, nor stolen, in percent; of all hardware threads together (host) or of one (cpuN)",
    "steal_percent": "host, cpuN: share of the time since the reading before in which the hypervisor ran something"
    " else, in percent",
    "cpu_frequency_hz": "cpuN: clock frequency as the kernel reports it, in hertz",
    "load1": "host: tasks that run or wait to, mean over a minute weighted towards now",
    "memory_used_bytes": "host: memory less what could be had without swapping, in bytes",
    "swap_used_bytes": "host: swap space in use, in bytes",
    "swap_in_bytes": "host: read back from swap space, counter in bytes",
    "swap_out_bytes": "host: written to swap space, counter in bytes",
    "page_faults": "host: page faults of all processes, counter",
    "major_page_faults": "host: page faults that had to read from a disk, counter",
    "context_switches": "host: changes of the task that a hardware thread runs, counter",
    "disk_read_bytes": "host: read from all disks (not from partitions, loops and other devices that rest on them),"
    " counter in bytes",
    "disk_write_bytes": "host: written to all disks, counter in bytes",
    "network_received_bytes": "host: received by the network interfaces of the sampling process's network namespace,"
    " counter in bytes; of hardware interfaces where there are any, else of all but the loopback",
    "network_sent_bytes": "host: sent by the same network interfaces, counter in bytes",
    "cgroup_throttled_s": "host: time in which the control groups of the harness had used up their CPU quota and were"
    " held back, counter in seconds, summed over groups (and over hardware threads, as the kernel does)",
    "cpu_pressure_s": 'host: time in which at least one task waited for a CPU (the kernel\'s PSI, "some"), counter in'
    " seconds",
    "memory_pressure_s": 'host: time in which at least one task waited for memory (PSI, "some"), counter in seconds',
    "io_pressure_s": 'host: time in which at least one task waited for I/O (PSI, "some"), counter in seconds',
    "temperature_c": "sensor:<chip>/<label>: temperature in degrees Celsius",
    "user_cpu_s": "worker:<name>, harness: CPU time in user mode, counter in seconds; a worker's with all that it has"
    " started, the harness's of all its processes that are no workers",
    "system_cpu_s": "worker:<name>, harness: CPU time in the kernel, counter in seconds, of the same processes",
    "rss_bytes": "worker:<name>, harness: resident memory of the same processes in bytes; what they share counts once"
    " for each",
    "threads": "worker:<name>: threads of the worker and of all that it has started",
    "gpu_utilisation_percent": "gpu:<UUID>: share of NVML's own sampling period in which a kernel ran, in percent",
    "gpu_memory_used_bytes": "gpu:<UUID>: device memory in use, in bytes",
    "gpu_power_w": "gpu:<UUID>: power drawn, in watts, as NVML averages it",
    "gpu_energy_j": "gpu:<UUID>: energy drawn since the driver was loaded, counter in joules",
    "gpu_temperature_c": "gpu:<UUID>: temperature of the die in degrees Celsius",
    "gpu_sm_clock_hz": "gpu:<UUID>: clock of the streaming multiprocessors, in hertz",
    "gpu_memory_clock_hz": "gpu:<UUID>: clock of the device memory, in hertz",
    "gpu_throttle_mask": "gpu:<UUID>: NVML's bit mask of the reasons for which clocks are held back, as a number",
    "gpu_pcie_received_bytes_per_s": "gpu:<UUID>: traffic to the GPU over PCIe, in bytes a second",
    "gpu_pcie_sent_bytes_per_s": "gpu:<UUID>: traffic from the GPU over PCIe, in bytes a second",
    "gpu_ecc_corrected": "gpu:<UUID>: memory errors corrected since the driver was loaded, counter",
    "gpu_ecc_uncorrected": "gpu:<UUID>: memory errors that could not be corrected since the driver was loaded, counter",
    "energy_j": "package:N, package:N/<zone>: energy drawn by a processor package or a zone of it (RAPL), counter in"
    " joules without wrap-around",
}


def process_name(worker: str) -> str:
    """Return the name under which a worker's process is read: workers that are one process differ after an "@"."""
    return worker.partition("@")[0]


class Reading(NamedTuple):
    """One value of one metric on one device; the metric's name carries its unit.

    Devices are "host", "cpu0" (a hardware thread, by the kernel's number), "sensor:<chip>/<label>", "gpu:<UUID>",
    "package:0" and "package:0/dram" (energy zones), "worker:<name>" and "harness", which is all of the harness's own
    processes that are no workers. `READINGS` has the metrics.
    """

    device: str
    metric: str
    value: float


class Probe(Protocol):
    """A source of readings. It gives what it can read, never a 0 for what it cannot, and keeps the reason for that.

    `absent` says why something cannot be read. Its keys are a metric ("gpu_power_w"), a device ("gpu:<UUID>") or,
    where only one device lacks the metric, both ("gpu:<UUID>/gpu_power_w"). A reason is recorded once, when it is
    met first, and goes away only if the thing can be read again.
    """

    name: str
    absent: dict[str, str]

    def read(self, now: float) -> Iterable[Reading]:
        """Return the readings of this moment; `now`, in seconds of a steady clock, paces what is costly or coarse."""
        ...

    def close(self) -> None:
        """Let go of what the probe holds; it is not read again."""
        ...
