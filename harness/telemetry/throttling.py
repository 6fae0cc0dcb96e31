"""Why a GPU runs slower than it can, by the bits of NVML's mask (`gpu_throttle_mask`); needs no NVML to be read."""

from __future__ import annotations

from typing import Final

# Bits of `nvmlClocksEventReasons`, once called throttle reasons, in nvml.h. Those left out are no throttling: 1, the
# GPU idles; 2 and 256, clocks that somebody has set.
THROTTLE_REASONS: Final[dict[int, str]] = {
    0x04: "sw_power_cap",  # at its power limit
    0x08: "hw_slowdown",  # any of the two hardware reasons below, or a fast trigger of the board
    0x10: "sync_boost",  # held to the clock of the slowest of a group of GPUs
    0x20: "sw_thermal_slowdown",  # too hot, by the driver's limit
    0x40: "hw_thermal_slowdown",  # too hot, by the hardware's
    0x80: "hw_power_brake_slowdown",  # told by the power supply
}
THROTTLED: Final = sum(THROTTLE_REASONS)


def throttle_reasons(mask: int) -> list[str]:
    """Return the names of the reasons in a mask; none of them: not throttled."""
    return [name for bit, name in THROTTLE_REASONS.items() if mask & bit]
