"""Frames → figures, as Altair charts that a notebook shows and `render` turns into files.

Each takes a frame as `harness.analyse` returns it; ``key`` and ``label``, where it has them, name its groups, which
else are called by their setting's id. A chart carries no colours of its own: ``alt.theme.enable("harness")``, or
"harness_dark", gives it those that go on white, or on near-black.
"""

from harness.report.figures.accuracy import learning_curves, time_accuracy
from harness.report.figures.basis import Figure
from harness.report.figures.causes import effects, levels, profiles
from harness.report.figures.grid import heat_map
from harness.report.figures.look import render, spec, theme
from harness.report.figures.machines import hardware, nodes, scaling
from harness.report.figures.settings import front
from harness.report.figures.telemetry import telemetry
from harness.report.figures.times import time_to_accuracy

__all__ = [
    "time_accuracy",
    "front",
    "learning_curves",
    "time_to_accuracy",
    "heat_map",
    "hardware",
    "nodes",
    "effects",
    "levels",
    "scaling",
    "profiles",
    "telemetry",
    "Figure",
    "theme",
    "spec",
    "render",
]
