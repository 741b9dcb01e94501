"""What every metric and tag of a run means; tests hold it to runs.

Times are in seconds unless the name says otherwise, losses in nats, scores between 0 and 1 (the
correlation between -1 and 1).
"""

EPOCH_METRICS = {
    "train_loss": "mean cross-entropy over the epoch's batches, while weights change",
    "train_accuracy": "share of right answers over the epoch's batches, while weights change",
    "val_loss": "mean cross-entropy on validation sequences after the epoch",
    "val_accuracy": "share of right answers on validation sequences after the epoch",
    "epoch_seconds": "time of the epoch's training, without validation",
}
"""Logged after each epoch, its number from 1 as the step."""

FINAL_METRICS = {
    "test_loss": "mean cross-entropy on test sequences, weights of the last epoch",
    "test_accuracy": "share of right answers on test sequences, weights of the last epoch",
    "test_precision_micro": "equals the accuracy: each sequence has one label",
    "test_recall_micro": "equals the accuracy",
    "test_f1_micro": "equals the accuracy",
    "test_precision_macro": "mean over classes of the precision; 0 for a class never predicted",
    "test_recall_macro": "mean over classes of the recall",
    "test_f1_macro": "mean over classes of F1",
    "test_mcc": "Matthews' correlation coefficient for several classes",
    "test_accuracy_best": "accuracy with the weights of the epoch of least validation loss",
    "test_loss_best": "loss with the weights of the epoch of least validation loss",
    "best_epoch": "the epoch of least validation loss",
    "epochs_run": "epochs trained: fewer than `epochs` where training stopped early",
    "fit_seconds": "time in training and validation, over all attempts",
    "epoch_seconds_median": "median of `epoch_seconds`, without an epoch that compiled",
    "test_seconds": "time to predict the test set in batches of the training's size",
    "latency_ms_batch1": "median milliseconds to predict one sequence alone",
    "parameters": "numbers that the model has learned, batch normalisation's averages included",
    "peak_memory_mb": "most memory that the trial held, in MiB",
}
"""Logged once, when the trial is complete."""

DERIVED_METRICS = {
    "test_seconds_batch1": "`latency_ms_batch1` times the test sequences, in seconds",
    "test_sequences_per_second": "test sequences divided by `test_seconds`",
}
"""In reports alone."""

TAGS = {
    "role": "`study` (the parent run, which stores the plan) or `attempt`",
    "study": "experiment and Optuna study: `<study>@<scale>`",
    "scale": "`demo` or `paper`",
    "plan": "parent run: which of its artifacts is the plan in force; an attempt that was drawn: "
    "the plan that it was drawn under",
    "document": "an attempt that was drawn by a sampler: its point",
    "cell": "the cell's id, 12 hex digits over all that decides what is computed",
    "seed": "its seed",
    "attempt": "which attempt at the cell, from 1",
    "dataset": "fingerprint of the dataset",
    "concurrency": "most trials that may have shared machine or GPU; times count only where 1",
    "version": "of ecsweep",
    "failure": "why there is no result: `error`, `timeout`, `oom`, `diverged` or `lost`",
    "message": "the failure in words",
    "pruned": "the epoch after which a pruner ended it",
    "keep": "a saved model: `best` or `all`",
    "val_accuracy": "a saved model: what it was chosen by",
}
"""Each begins with ``ecsweep.``."""

ENVIRONMENT = {
    "python": "version",
    "keras": "version",
    "numpy": "version",
    "scikit-learn": "version",
    "mlflow": "version",
    "optuna": "version",
    "tensorflow": "version, where it is the backend",
    "jax": "version, where it is the backend",
    "backend": "`tensorflow` or `jax`",
    "device": "GPU's name, or `CPU`",
    "machine": "processor, cores, system",
    "xla": "whether XLA compiled the network",
    "tf32": "whether TensorFloat-32 was used",
    "onednn": "oneDNN's kernels: 1 on",
    "threads": "that an operation may use",
    "latency_calls": "how many calls `latency_ms_batch1` is the median of",
    "worker_threads": "cores that the worker was given",
    "trials_at_once": "most trials side by side",
    "gpu": "which cards",
    "gpu_share": "most workers on the card",
    "gpu_memory": "the part of the card's memory that it might take",
    "cuda_mps": "whether CUDA MPS ran",
    "node": "of a cluster",
    "resumed": "from where an attempt went on, or why it could not",
    "checkpoint_error": "why a checkpoint did not reach `--artifacts`",
}
"""Each begins with ``ecsweep.environment.``: where and how it ran, which is no part of a cell."""
