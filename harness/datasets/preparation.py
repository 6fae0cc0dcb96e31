"""What a trained model knows of its data, so that it can be given further rows of the same kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """How rows become samples: plain values, to be kept beside a model. See `harness.datasets.rows`."""

    shape: tuple[int, ...]  # of one sample
    offset: float | list[Any]  # one number, or nested lists in the shape of a sample
    divisor: float | list[Any]  # 0: all values become 0
    classes: int | None  # None: the targets are numbers
    class_names: tuple[str, ...] | None  # by label; None: a label is its own name
    feature_names: tuple[str, ...] | None  # of a table's columns

    def plain(self) -> dict[str, Any]:
        """Return this as plain JSON."""
        return asdict(self)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Preparation:
        """Return what `plain` was made of."""
        lists = {
            name: tuple(plain[name]) for name in ("shape", "class_names", "feature_names") if plain[name] is not None
        }
        return cls(**{**plain, **lists})

    def name_of(self, label: int) -> str:
        """Return what a class is called."""
        return str(label) if self.class_names is None else self.class_names[label]
