"""How a program that runs as a workload tells the harness of its epochs, in two lines::

    from harness.progress import report
    report(loss=0.3, val_accuracy=0.9)      # ends an epoch

It prints one JSON object a line, as any program in any language can. Started by hand, it does the same. Importing
it costs milliseconds and brings nothing but the standard library.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any


class Report:
    """Called, it ends an epoch; see the module."""

    def __init__(self) -> None:
        self._epoch = 0

    def __call__(self, **metrics: Any) -> None:
        """End an epoch and report what it measured: `samples`, `steps`, `loss`, `val_accuracy`, and others by name.

        `train_s` and `eval_s`, in seconds, say what the program's own clock has measured, in place of the harness's.
        """
        self._epoch += 1
        _print({"epoch": self._epoch, **metrics})

    def ready(self, **metrics: Any) -> None:
        """End the building; `val_loss` and `val_accuracy` may be given of the untrained state."""
        _print({"event": "ready", **metrics})

    def evaluating(self) -> None:
        """Stop the training clock until the epoch ends."""
        _print({"event": "evaluating"})

    def trial(self) -> dict[str, Any]:
        """Return the trial: `trial_id`, `seed` and `setting`; empty where the harness did not start the program."""
        trial: dict[str, Any] = json.loads(os.environ.get("HARNESS_TRIAL", "{}"))
        return trial


def _print(values: dict[str, Any]) -> None:
    text = json.dumps(values, default=lambda number: number.item())  # NumPy's and PyTorch's numbers
    # A line of its own, also after a progress bar; print's own stream, whatever stands in its place meanwhile.
    sys.stdout.flush()
    print(f"\n{text}" if "HARNESS_TRIAL" in os.environ else text, file=sys.__stdout__, flush=True)


report = Report()
