"""How long does a network of nine sigmoid units go on learning, if it stops once val_loss gets no better? (D4)

The published run went on from the weights of another one, and came to the end of its 50 epochs.
"""

from _experiments import PART_D, PRODUCTS, SIGMOID_SOFTMAX

from harness import Setting, Suite, early_stopping, product, reference, sgd

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
    grid=product({"optimizer.learning_rate": [0.01, 0.1, 1.0]}),
    repeats=3,
    small={"dataset.take": 2000, "epochs": 4, "repeats": 1},
    references=[
        reference("D4", where="optimizer.learning_rate == 0.01", metric="val_loss", epoch=1, value=1.6513,
                  source=PART_D, note=NOTE),
        reference("D4", where="optimizer.learning_rate == 0.01", metric="val_loss", epoch="last", value=1.6134,
                  source=PART_D, note=NOTE),
    ],
)  # fmt: skip
