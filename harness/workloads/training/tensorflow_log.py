"""How often TensorFlow has traced and XLA has compiled in this process.

TensorFlow counts both, but lets Python read neither. Tracing is Python's, and is counted as it happens. What XLA
compiles, also within a call of a function that was traced long before, TensorFlow can only be asked to log: a line for
each, on standard error, which in a worker is a file of its own. A look at the file's size tells whether there is any.
`harness.schedule.launch` sets the variables that make it log them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

_STANDARD_ERROR: Final = 2
_WHERE: Final = b"device_compilation_profiler.cc:"
_WHAT: Final = b"] Compiled "


class Compilations:
    """Counts tracings and compilations from its making on."""

    def __init__(self) -> None:
        self._traced = 0
        self._heard = 0
        self._deaf = not self._hook_into_tracing()
        self._file: tuple[int, int] | None = None  # device and inode of the log that was read
        self._read_bytes = 0

    def count(self) -> int | None:
        """Return how many there were. None where this TensorFlow traces otherwise than is known here, and once XLA has
        compiled without a word: the log then goes elsewhere."""
        self._listen()
        return None if self._deaf else self._traced + self._heard

    @contextmanager
    def expected(self) -> Iterator[None]:
        """Within, XLA compiles something: if nothing is heard of it, nothing ever will be."""
        self._listen()
        heard = self._heard
        yield
        self._listen()
        self._deaf = self._deaf or self._heard == heard

    def _hook_into_tracing(self) -> bool:
        """Count tracings from now on; False where TensorFlow's own functions, none of them public, are not there."""
        try:
            from tensorflow.python.eager.polymorphic_function import tracing_compilation
            from tensorflow.python.framework import ops

            traced, inside = tracing_compilation._create_concrete_function, ops.inside_function
        except (ImportError, AttributeError):
            return False

        def counting(*arguments: Any, **named: Any) -> Any:
            try:
                name = str(arguments[2].name)  # the graph's
                # Those within another are part of it; those of tf.data, which Keras makes anew every time, no programs.
                self._traced += not (inside() or name.startswith("Dataset_"))
            except (LookupError, AttributeError):
                self._deaf = True
            return traced(*arguments, **named)

        tracing_compilation._create_concrete_function = counting
        return True

    def _listen(self) -> None:
        with suppress(OSError):
            log = os.fstat(_STANDARD_ERROR)
            if not stat.S_ISREG(log.st_mode):
                return
            if self._file != (log.st_dev, log.st_ino):
                self._file, self._read_bytes = (log.st_dev, log.st_ino), 0
            if log.st_size > self._read_bytes:
                with open(f"/proc/self/fd/{_STANDARD_ERROR}", "rb") as file:
                    file.seek(self._read_bytes)
                    said = file.read()
                self._read_bytes += len(said)
                self._heard += sum(_WHERE in line and _WHAT in line for line in said.splitlines())
