"""The peer "Ray Tune": the same trials as a function trainable, one CPU a trial, two at a time.

Ray Tune is part of the extra `harness[peers]` (`ray[tune]`). The images go through the object store once, and
each epoch's metrics are reported, as Tune's own examples do.
"""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
import ray
from mnist_mlp import load, request, train, write
from ray import tune


def trainable(config: dict[str, Any], data: dict[str, np.ndarray]) -> None:
    """Train the trial that `config` describes, reporting each epoch."""
    train(data, config["batch_size"], config["seed"], config["epochs"], on_epoch=tune.report)


def main() -> None:
    asked = request(__doc__)
    ray.init(address="local", num_cpus=2, include_dashboard=False)  # whatever an earlier cluster left in /tmp/ray
    with tempfile.TemporaryDirectory(prefix="tune-") as storage:
        found = tune.Tuner(
            tune.with_resources(tune.with_parameters(trainable, data=load()), {"cpu": 1}),
            param_space={
                "batch_size": tune.grid_search(asked.batch_sizes),
                "seed": tune.grid_search(asked.seeds),
                "epochs": asked.epochs,
            },
            run_config=tune.RunConfig(name="a2", storage_path=storage),
        ).fit()
        results = [
            {
                "batch_size": one.config["batch_size"],
                "seed": one.config["seed"],
                "val_accuracy": one.metrics["val_accuracy"],
                "val_loss": one.metrics["val_loss"],
                "seconds": one.metrics["time_total_s"],
            }
            for one in (found[index] for index in range(len(found)))
        ]
    write(results, asked.out)


if __name__ == "__main__":
    main()
