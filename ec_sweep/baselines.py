"""What composition and sequence search alone achieve: scikit-learn classifiers over tokens.

Not in the paper. They see what the networks see, the first ``length`` residues
as ``uint8[n, length]`` tokens, and are trained on the same proteins.
"""

from typing import Any

import numpy as np

from ec_sweep.encoding import LETTERS, PADDING, Tokens
from ec_sweep.hyperparameters import Hyperparameters

_ROWS_AT_ONCE = 10_000
"""Proteins whose words are held in memory at a time."""


def composition(hp: Hyperparameters, classes: int) -> Any:  # noqa: ARG001 - learned from the labels
    """Build a logistic regression on the shares of the 21 letters and the length."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    return make_pipeline(
        FunctionTransformer(letter_shares),
        StandardScaler(),
        LogisticRegression(C=hp.inverse_regularization, max_iter=1000),
    )


def kmer_nn(hp: Hyperparameters, classes: int) -> Any:  # noqa: ARG001 - learned from the labels
    """Build a nearest-neighbour classifier by the cosine of k-mer counts."""
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    return make_pipeline(
        FunctionTransformer(kmer_counts, kw_args={"k": hp.kmer}),
        KNeighborsClassifier(hp.neighbors, metric="cosine", algorithm="brute"),
    )


def probabilities(estimator: Any, tokens: Tokens, classes: int) -> Any:
    """Return ``float32[n, classes]``; a class that no training sequence has is 0."""
    found = np.zeros((len(tokens), classes), np.float32)
    found[:, estimator.classes_] = estimator.predict_proba(np.asarray(tokens))
    return found


_LEARNED = (
    ("standardscaler", ("mean_", "scale_", "var_", "n_features_in_", "n_samples_seen_")),
    ("logisticregression", ("classes_", "coef_", "intercept_", "n_features_in_")),
)
"""What the composition's steps have learned."""


def learned(model: str, estimator: Any, tokens: Tokens, labels: Any) -> list[Any]:
    """Return the arrays that make an estimator again: nearest neighbours keep all they saw."""
    if model == "kmer-nn":
        return [np.asarray(tokens), np.asarray(labels)]
    steps = estimator.named_steps
    return [np.asarray(getattr(steps[step], name)) for step, names in _LEARNED for name in names]


def restore(model: str, estimator: Any, arrays: list[Any]) -> None:
    """Make a new estimator what `learned` has kept; wrong arrays are a ``ValueError``."""
    if model == "kmer-nn":
        tokens, labels = arrays
        estimator.fit(tokens, labels)
        return
    wanted = [(step, name) for step, names in _LEARNED for name in names]
    for (step, name), array in zip(wanted, arrays, strict=True):
        setattr(estimator.named_steps[step], name, array if array.ndim else array.item())


def check_kmer_nn(hp: Hyperparameters) -> str | None:
    """Return why such words or neighbours cannot be, ``None`` when they can."""
    if hp.kmer > hp.length:
        return f"kmer {hp.kmer} is larger than length {hp.length}"
    if hp.train_size is not None and hp.neighbors > hp.train_size:
        return f"neighbors {hp.neighbors} is larger than train_size {hp.train_size}"
    return None


def letter_shares(tokens: Tokens) -> Any:
    """Return ``float64[n, 22]``: the share of each letter, and the residues counted."""
    counts = np.stack([(tokens == letter).sum(axis=1) for letter in range(LETTERS)], axis=1)
    lengths = counts.sum(axis=1, keepdims=True)
    return np.hstack([counts / lengths, lengths])


def kmer_counts(tokens: Tokens, k: int) -> Any:
    """Return how often each word of ``k`` letters occurs, as a sparse matrix [n, 21 ** k]."""
    from scipy.sparse import csr_matrix, vstack

    some = [tokens[row : row + _ROWS_AT_ONCE] for row in range(0, len(tokens), _ROWS_AT_ONCE)]
    if len(some) > 1:
        return vstack([kmer_counts(rows, k) for rows in some], "csr")
    words = np.zeros((len(tokens), max(0, tokens.shape[1] - k + 1)), np.int32)
    for place in range(k):
        words = words * LETTERS + tokens[:, place : place + words.shape[1]]
    # Padding stands at the end alone, so a word is whole when its last letter is one.
    proteins, places = np.nonzero(tokens[:, k - 1 :] != PADDING)
    found = (np.ones(len(proteins)), (proteins, words[proteins, places]))
    return csr_matrix(found, shape=(len(tokens), LETTERS**k))
