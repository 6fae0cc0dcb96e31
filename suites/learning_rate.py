"""Which learning rate, and which way for it to fall: constant with momentum, exponential, cosine, with restarts? (E5)

A function of the step, counted from 0, is a learning rate of one's own; each of its arguments is an axis.
"""

import bisect
import itertools
import math
import random
from functools import cache

from harness import Setting, Suite, function, initializer, learning_rate, mlp, product, sgd


def exponential(step, start=0.1, k=0.0005):
    """start · exp(-k · step)"""
    return start * math.exp(-k * step)


def restarting(step, start=0.1, k=0.002, mean_steps=1000, seed=0):
    """The same, begun anew again and again, on average every `mean_steps`."""
    begins = _restarts(mean_steps, seed)
    return exponential(step - begins[bisect.bisect_right(begins, step) - 1], start, k)


@cache
def _restarts(mean_steps, seed, most=10_000):
    draw = random.Random(seed)
    lengths = (1 + int(draw.expovariate(1 / mean_steps)) for _ in range(most))
    return list(itertools.accumulate(lengths, initial=0))


suite = Suite(
    name="learning_rate",
    base=Setting(
        dataset="mnist",
        model=mlp([64, 64], kernel_initializer=initializer("random_uniform", minval=-0.05, maxval=0.05)),
        batch_size=128,
        epochs=10,
    ),
    grid=product(optimizer=["sgd"])
    * product({"optimizer.learning_rate": [0.01, 0.1], "optimizer.momentum": [0.1, 0.3, 0.5, 0.7, 0.9]}, epochs=[5, 10])
    + product(
        optimizer=[
            sgd(function(exponential, start=0.1, k=0.0005), momentum=0.9),
            sgd(function(restarting, start=0.1, k=0.002, mean_steps=1000, seed=0), momentum=0.9),
            sgd(
                learning_rate("ExponentialDecay", initial_learning_rate=0.1, decay_steps=469, decay_rate=0.8),
                momentum=0.9,
            ),
            sgd(learning_rate("CosineDecay", initial_learning_rate=0.1, decay_steps=4690), momentum=0.9),
            sgd(learning_rate("CosineDecayRestarts", initial_learning_rate=0.1, first_decay_steps=670), momentum=0.9),
        ]
    ),
    repeats=3,
    target=0.97,
    small={"dataset.name": "mnist5k", "epochs": 3, "repeats": 1, "target": 0.6},
)
