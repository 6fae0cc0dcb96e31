"""Which learning rate suits scikit-learn's perceptron? An example of a training of one's own, as a function."""

from harness import Setting, Suite, early_stopping, function, product


def train(trial, recorder, hidden, rate):
    """Train an MLPClassifier epoch by epoch on the setting's dataset."""
    try:
        from sklearn.metrics import f1_score, log_loss
        from sklearn.neural_network import MLPClassifier
    except ImportError as error:
        raise ImportError(f"this suite needs scikit-learn: pip install scikit-learn ({error})") from error

    arrays = trial.data()
    x_train, x_val = (x.reshape(len(x), -1) for x in (arrays.x_train, arrays.x_val))
    model = MLPClassifier(
        hidden_layer_sizes=(hidden,),
        solver="sgd",
        learning_rate_init=rate,
        batch_size=trial.setting.batch_size,
        shuffle=trial.setting.shuffle,
        random_state=trial.seed,
    )
    for epoch in recorder.epochs():
        with epoch.training():
            model.partial_fit(x_train, arrays.y_train, classes=range(arrays.classes))
        with epoch.evaluating():
            likely = model.predict_proba(x_val)
            chosen = likely.argmax(axis=1)
            epoch.report(
                samples=len(x_train),
                loss=model.loss_,
                val_loss=log_loss(arrays.y_val, likely, labels=range(arrays.classes)),
                val_accuracy=(chosen == arrays.y_val).mean(),
                val_f1=f1_score(arrays.y_val, chosen, average="macro"),
            )


suite = Suite(
    name="scikit_learn",
    base=Setting(
        dataset="mnist5k",
        workload=function(train, hidden=128, rate=0.01),
        epochs=20,
        early_stopping=early_stopping("val_f1", patience=3),
    ),
    grid=product({"workload.rate": [0.01, 0.03, 0.1]}),
    repeats=3,
    target=0.90,
    small={"dataset.take": 1000, "epochs": 3, "repeats": 1, "workload.hidden": 32, "target": 0.80},
)
