"""How well does logistic regression tell the first class of products from the rest after ten steps? (D1)

Weights from N(0, 1), the gradient of all rows at once, and a penalty of 0.01 on the squares of the weights.
"""

from harness import Setting, Suite, dataset, initializer, layer, product, regularizer, sequential, sgd, tail


def first_class(name="products_like", rows=61_878):
    """The products of a dataset, labelled 1 where they are of the first class and 0 elsewhere."""
    from harness import dataset, tail
    from harness.datasets import load

    arrays = load(dataset(name, take=rows, scale="none", held_out=tail(0.15)), {})
    import numpy

    x = numpy.concatenate([arrays.x_train, arrays.x_val])
    y = numpy.concatenate([arrays.y_train, arrays.y_val])
    return x, (y == 0).astype("int32")


suite = Suite(
    name="logistic",
    base=Setting(
        dataset=dataset(first_class, rows=61_878, scale="columns", held_out=tail(0.15)),
        model=sequential(
            layer(
                "Dense",
                units=1,
                activation="sigmoid",
                kernel_initializer=initializer("random_normal", stddev=1.0),
                kernel_regularizer=regularizer("l2", l2=0.01),
            )
        ),
        loss="binary_crossentropy",
        optimizer=sgd(0.1),
        epochs=10,
    ),
    grid=product({"optimizer.learning_rate": [0.1]}).compute(batch_size="dataset.rows * 85 // 100"),
    repeats=3,
    small={"dataset.rows": 2000, "repeats": 1},
)
