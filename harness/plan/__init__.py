"""A suite and a request → the trials to run: pure, deterministic, and without TensorFlow."""

from harness.plan.overrides import Override, parse_override
from harness.plan.parts import on_nodes, shard
from harness.plan.trials import Plan, in_full, plan

__all__ = ["Override", "Plan", "in_full", "on_nodes", "parse_override", "plan", "shard"]
