"""The peer "one Keras script": every trial in sequence with `model.fit`, in one process with both cores."""

from __future__ import annotations

from mnist_mlp import load, request, train, write


def main() -> None:
    asked = request(__doc__)
    data = load()
    results = [train(data, batch, seed, asked.epochs) for batch in asked.batch_sizes for seed in asked.seeds]
    write(results, asked.out)


if __name__ == "__main__":
    main()
