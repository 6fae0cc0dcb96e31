"""Which learning rate suits a PyTorch script? An example of a training of one's own, as a program.

The script is `programs/train_pytorch.py`, beside this file; it travels to the nodes of a cluster.
"""

from harness import Setting, Suite, product, program, sgd

suite = Suite(
    name="pytorch",
    base=Setting(
        dataset="mnist5k",
        optimizer=sgd(0.1),
        workload=program(
            "{python} {suite_dir}/programs/train_pytorch.py --seed {seed} --epochs {epochs} "
            "--batch-size {batch_size} --learning-rate {optimizer.learning_rate}"
        ),
        epochs=10,
    ),
    grid=product({"optimizer.learning_rate": [0.03, 0.1, 0.3]}),
    repeats=3,
    target=0.90,
    small={"dataset.take": 1000, "epochs": 3, "repeats": 1, "target": 0.80},
)
