"""The peer "joblib": the same trials over two processes that live as long as the script (loky).

joblib is part of the extra `harness[peers]`. It hands the images to its processes as memory-mapped files.
"""

from __future__ import annotations

from joblib import Parallel, delayed  # type: ignore[import-untyped]
from mnist_mlp import load, request, train, write


def main() -> None:
    asked = request(__doc__)
    data = load()
    results = Parallel(n_jobs=2)(
        delayed(train)(data, batch, seed, asked.epochs) for batch in asked.batch_sizes for seed in asked.seeds
    )
    write(results, asked.out)


if __name__ == "__main__":
    main()
