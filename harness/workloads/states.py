"""The arrays of a trial's state as bytes: NumPy's npz, without pickle."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def to_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return arrays as npz, nothing at all for none."""
    if not arrays:
        return b""
    assert not any(array.dtype.hasobject for array in arrays.values()), "it would be pickled"
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # its own parameters have no such names
    return buffer.getvalue()


def from_bytes(data: memoryview) -> dict[str, NDArray[Any]]:
    """Return the arrays of an npz; of types that NumPy has no name for, such as bfloat16, the bytes ("V2")."""
    if not len(data):
        return {}
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def cast(value: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Return an array as `from_bytes` gives it, as one of a type that NumPy may have no name for."""
    return value.view(np.dtype(dtype)) if value.dtype.kind == "V" else value
