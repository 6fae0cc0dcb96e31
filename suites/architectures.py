"""Which of five networks is best on MNIST, and does dropout close the gap between training and test? (B1 to B5)"""

from _experiments import PART_B, SMALL

from harness import Setting, Suite, adam, cases, direction, layer, learning_rate, mlp, reference, sequential, sgd

MOMENTUM = sgd(
    learning_rate("InverseTimeDecay", initial_learning_rate=0.001, decay_steps=1, decay_rate=1e-6), momentum=0.9
)


def dense(units, activation="relu"):
    return layer("Dense", units=units, activation=activation)


def dropout(rate):
    return [layer("Dropout", rate=rate)] if rate else []


def funnel(first, second, last):
    """A wide layer, then narrower ones, with a dropout of `first`, `second` and `last` between."""
    return sequential(
        layer("Flatten"),
        *dropout(first),
        dense(1000),
        *dropout(second),
        *[dense(200)] * 3,
        *dropout(last),
        *[dense(100)] * 3,
        *dropout(last),
        dense(50, "sigmoid"),
        dense(10, "softmax"),
    )


FIVE_BY_200 = sequential(layer("Flatten"), *dropout(0.2), *[dense(200)] * 5, *dropout(0.2), dense(10, "softmax"))


def _published(name, **figures):
    """Figures by metric: (value, tolerance)."""
    where = f"label == '{name}'"
    return [
        reference(name, where=where, metric=metric, epoch="last", value=value, tolerance=tolerance, source=PART_B)
        for metric, (value, tolerance) in figures.items()
    ]


suite = Suite(
    name="architectures",
    base=Setting(dataset="mnist", model=mlp(100), optimizer=adam(0.001), batch_size=100, epochs=10),
    grid=cases(
        {"label": "B1", "model": mlp(100, activation="tanh"), "optimizer": MOMENTUM},
        {"label": "B2", "model": FIVE_BY_200},
        {"label": "B3", "model": mlp([500, 500, 500], activation="tanh")},
        {"label": "B4", "model": funnel(0.2, 0.2, 0.1)},
        {"label": "B5", "model": funnel(0, 0, 0)},
    ),
    repeats=3,
    small=SMALL,
    references=[
        *_published("B1", val_accuracy=(0.9214, 0.01)),
        *_published("B2", val_accuracy=(0.9813, 0.01)),
        *_published("B3", val_accuracy=(0.9771, 0.01), accuracy=(0.9935, None)),
        *_published("B4", val_accuracy=(0.9828, 0.01), accuracy=(0.9823, None)),
        *_published("B5", val_accuracy=(0.9792, 0.01), accuracy=(0.992, None)),
        reference("B1", where="label == 'B1'", metric="parameters", value=79_510, tolerance=0, source=PART_B),
        reference("B3", where="label == 'B3'", metric="parameters", value=898_510, tolerance=0, source=PART_B),
        direction(
            "B5",
            metric="accuracy - val_accuracy",
            epoch="last",
            higher="label == 'B5'",
            lower="label == 'B4'",
            source=PART_B,
            note="the gap is larger without dropout",
        ),
    ],
)
