"""Do the initial weights matter? Eight ways to draw them, each by three-fold cross-validation. (E4)

24 trainings on 40,000 images each, with one seed; `--set repeats=3` gives each three.
"""

from _experiments import PART_E, SMALL

from harness import Setting, Suite, dataset, fold, mlp, product, reference, rmsprop

# accuracy on the third held out, the mean of three; "random_normal" is Keras's of deviation 0.05, "random_uniform" its
# of -0.05 to 0.05
PUBLISHED = {
    "random_uniform": 0.9461,
    "lecun_uniform": 0.9484,
    "random_normal": 0.9481,
    "glorot_normal": 0.9484,
    "glorot_uniform": 0.9490,
    "he_normal": 0.9474,
    "he_uniform": 0.9470,
}
ZEROS = "model.kernel_initializer == 'zeros'"
ONES = [2281, 2282, 2179]  # of class 1, the largest, in each third of 20,000 images

suite = Suite(
    name="initializers",
    base=Setting(
        dataset=dataset("mnist", held_out=fold(0, of=3)),
        model=mlp([64, 64], dropout=0.5),
        optimizer=rmsprop(0.001),
        batch_size=128,
        epochs=10,
    ),
    grid=product({"model.kernel_initializer": [*PUBLISHED, "zeros"], "dataset.held_out.k": [0, 1, 2]}),
    small={
        **SMALL,
        "grid": product({"model.kernel_initializer": ["glorot_uniform", "zeros"], "dataset.held_out.k": [0, 1, 2]}),
    },
    references=[
        *(
            reference(
                "E4",
                where=f"model.kernel_initializer == {name!r}",
                metric="val_accuracy",
                epoch="last",
                value=value,
                tolerance=0.01,
                over=("dataset.held_out.k",),
                source=PART_E,
            )
            for name, value in PUBLISHED.items()
        ),
        reference(
            "E4", where=ZEROS, metric="val_accuracy", epoch="last", value=sum(ONES) / 60_000, tolerance=1e-6,
            over=("dataset.held_out.k",), source=PART_E, note="published as 0.1124: the share of class 1",
        ),
        *(
            reference(
                "E4", where=f"{ZEROS} and dataset.held_out.k == {k}", metric="val_accuracy", epoch="last",
                value=ones / 20_000, tolerance=1e-6, source=PART_E, note="the share of class 1 in this third",
            )
            for k, ones in enumerate(ONES)
        ),
    ],
)  # fmt: skip
