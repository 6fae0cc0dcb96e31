"""The command line: arguments → one call into the pipeline, or for an answer → exit code.

A command imports what it needs when it is called, so that ``harness --help`` is immediate.
"""

from harness.cli.commands import app, main

__all__ = ["app", "main"]
