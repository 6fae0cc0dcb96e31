"""Do TensorFlow, JAX and PyTorch learn the same in one epoch, and which is quickest? (A2 on each)

All three start from the same weights (`initial_val_loss`) and see the batches in one order. With
`--set batch_size=16000 --set epochs=1` an epoch is the first step, and `loss` that of it.
"""

from _experiments import PART_A, RAW_PIXELS, SMALL

from harness import Setting, Suite, mlp, product, reference, sgd

suite = Suite(
    name="backends",
    base=Setting(
        dataset=RAW_PIXELS, model=mlp(128, activation="sigmoid"), optimizer=sgd(0.01), batch_size=128, epochs=10
    ),
    grid=product(backend=["tensorflow", "jax", "torch"]),
    repeats=3,
    small=SMALL,
    references=[
        reference("A2", metric="val_accuracy", epoch=1, value=0.7535, tolerance=0.01, source=PART_A),
        reference("A2", metric="val_accuracy", epoch="last", value=0.8978, tolerance=0.01, source=PART_A),
        reference("A2", metric="train_s", value=6.84, source=PART_A, note="on the authors' machine"),
    ],
)
