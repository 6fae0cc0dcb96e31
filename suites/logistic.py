"""How well does logistic regression tell the first class of products from the rest after ten steps? (D1)

Weights from N(0, 1), the gradient of all rows at once, and a penalty of 0.01 on the squares of the weights. By default
on the synthetic stand-in; `--set dataset.of=products` takes the competition's own data.
"""

from harness import Setting, Suite, dataset, fold, initializer, layer, product, regularizer, sequential, sgd, tail


def first_class(of="products_like", rows=61_878):
    """The products of a dataset, labelled 1 where they are of the first class and 0 elsewhere."""
    import numpy

    from harness import datasets

    parts = datasets.load(dataset(of, take=rows, scale="none", held_out=tail(0.5)), {})
    x, y = numpy.concatenate([parts.x_train, parts.x_val]), numpy.concatenate([parts.y_train, parts.y_val])
    return x, (y == 0).astype("int32")


suite = Suite(
    name="logistic",
    base=Setting(
        dataset=dataset(
            first_class, of="products_like", rows=61_878, scale="columns", held_out=fold(0, of=7, how="stratified")
        ),
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
    grid=product({"optimizer.learning_rate": [0.1]}).compute(batch_size="dataset.rows - (dataset.rows + 6) // 7"),
    repeats=3,
    small={"dataset.rows": 2000, "repeats": 1},
)
