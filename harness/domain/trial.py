"""One fully resolved setting with one seed: a worker needs nothing else and looks nothing up."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harness.domain.setting import Setting


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A setting, a seed, and the place in the grid it came from. Its key in the records is (`trial_id`, `arm`)."""

    setting: Setting
    seed: int
    repeat: int  # which repeat of its setting, from 0: the block it is run in
    axes: tuple[tuple[str, Any], ...] = ()  # the grid's values for this trial, by dotted path
    timeout_s: float | None = None
    checkpoint_s: float | None = None  # how often to save the state of a long one; None: never

    @cached_property
    def setting_id(self) -> str:
        return self.setting.setting_id

    @cached_property
    def trial_id(self) -> str:
        return hashlib.sha256(f"{self.setting_id}:{self.seed}".encode()).hexdigest()[:12]

    @cached_property
    def arm(self) -> str:
        return self.setting.arm

    @property
    def key(self) -> tuple[str, str]:
        """What is recorded once, whatever happens."""
        return (self.trial_id, self.arm)

    @cached_property
    def program_key(self) -> str:
        """Which trials probably share a compiled program; see `Setting.program_key`."""
        return self.setting.program_key
