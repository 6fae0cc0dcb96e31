"""Any program as a workload: a command with the trial's values filled in, which prints what it measured.

In the command, ``{batch_size}``, ``{optimizer.learning_rate}`` and every other dotted path of the setting stand for the
trial's values, and so do ``{seed}``, ``{trial_id}`` and ``{python}``, the interpreter that runs the harness;
braces are written ``{{`` and ``}}``. No shell is between. The program runs in the folder in which the harness was
started, where the node has it, has nothing on its standard input, and finds the trial as JSON in the variable
HARNESS_TRIAL. ``{suite_dir}/train.py`` is a file beside the suite: where the node does not have the very same files,
those that travelled with the trial are put into a folder that lives as long as the program.

Each line of its standard output that is a JSON object with one of these keys tells of its epochs::

    {"event": "ready"}                                           building has ended; else epoch 1 begins at the start
    {"event": "evaluating"}                                      the training clock stops until the epoch ends
    {"epoch": 1, "samples": 4000, "loss": 0.3, "val_accuracy": 0.9}     an epoch has ended

All times are those at which the lines came, unless an epoch states its own ``train_s`` and ``eval_s``. All else that it
prints is its log, whose end is kept. `harness.progress` prints such lines.
"""
