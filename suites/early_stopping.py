"""How many of 50 epochs are saved by stopping once val_loss gets no better, or not by much, and what do they cost? (D4)

The published run took any improvement for one, and so came to the end of its 50 epochs; it went on from the weights of
another training.
"""

from _experiments import PART_D, PRODUCTS, SIGMOID_SOFTMAX

from harness import Setting, Suite, early_stopping, product, reference, sgd

PUBLISHED = "early_stopping.min_delta == 0"
NOTE = "of the competition's own data, from weights trained before"

suite = Suite(
    name="early_stopping",
    base=Setting(
        dataset=PRODUCTS,
        model=SIGMOID_SOFTMAX,
        optimizer=sgd(0.01),
        batch_size=128,
        epochs=50,
        early_stopping=early_stopping("val_loss", patience=2, best_weights=True),
    ),
    grid=product({"early_stopping.min_delta": [0, 0.003, 0.01]}),
    repeats=3,
    small={"dataset.take": 2000, "epochs": 4, "repeats": 1},
    references=[
        reference("D4", where=PUBLISHED, metric="val_loss", epoch=1, value=1.6513,
                  source=PART_D, note=NOTE),
        reference("D4", where=PUBLISHED, metric="val_loss", epoch="last", value=1.6134,
                  source=PART_D, note=NOTE),
    ],
)  # fmt: skip
