"""Standard output that is for JSON alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout


@contextmanager
def only_json_on_stdout(wanted: bool) -> Iterator[None]:
    """Send what is printed meanwhile, as by the suite's file, to standard error if stdout is for JSON alone."""
    with redirect_stdout(sys.stderr) if wanted else nullcontext():
        yield
