"""How good are the probabilities RMSprop comes to on MNIST? The model is kept, and can be loaded again. (E3, E6)"""

from _experiments import PART_E, SMALL, TWO_BY_64

from harness import Setting, Suite, reference, rmsprop

suite = Suite(
    name="rmsprop",
    base=Setting(
        dataset="mnist",
        model=TWO_BY_64,
        optimizer=rmsprop(0.001, rho=0.9),
        batch_size=32,
        epochs=20,
        metrics=["r2_score"],
        save_model=True,
    ),
    repeats=3,
    small=SMALL,
    references=[
        reference("E3", metric="val_accuracy", epoch=1, value=0.9400, tolerance=0.01, source=PART_E),
        reference("E3", metric="val_accuracy", epoch="last", value=0.9759, tolerance=0.01, source=PART_E),
        reference("E3", metric="val_r2_score", epoch="last", value=0.9542, tolerance=0.01, source=PART_E),
        reference("E3", metric="wall_s", value=50.7, source=PART_E, note="on the authors' machine"),
    ],
)
