"""10,000 trials, to be planned and not run."""

from harness import Setting, Suite, mlp, product, sgd

suite = Suite(
    name="ten_thousand",
    base=Setting(dataset="mnist5k", model=mlp(128), optimizer=sgd(0.1)),
    grid=product(
        {
            "batch_size": [2**exponent for exponent in range(1, 11)],
            "optimizer.learning_rate": [step / 1000 for step in range(1, 11)],
            "model.hidden": [16 * width for width in range(1, 11)],
        }
    ),
    repeats=10,
)
