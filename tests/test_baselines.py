"""Features of the baselines against counting by hand."""

import numpy as np
import pytest

from ec_sweep import baselines, encoding
from ec_sweep.hyperparameters import Hyperparameters
from ec_sweep.models import MODELS

SEQUENCES = ["ACACA", "AAB", "WYWYWYWYWY"]


def tokens(length: int = 8) -> encoding.Tokens:
    found = np.empty((len(SEQUENCES), length), np.uint8)
    encoding.encode(SEQUENCES, found)
    return found


def test_composition_counts_letters_and_length() -> None:
    """Shares of the 21 letters, then the residues read; padding counts for nothing."""
    found = baselines.letter_shares(tokens())
    assert found.shape == (3, 22)
    a, c, x = 0, 1, 20
    assert found[0, [a, c, 21]].tolist() == [3 / 5, 2 / 5, 5]
    assert np.allclose(found[1, [a, x, 21]], [2 / 3, 1 / 3, 3])
    assert found[2, 21] == 8  # cut at the length that networks see
    assert np.allclose(found[:, :21].sum(axis=1), 1)


def test_kmer_profiles_count_words() -> None:
    """Every word of k letters once for each place; none reaches into the padding."""
    found = baselines.kmer_counts(tokens(), 2).toarray()
    assert found.shape == (3, 21**2)
    aa, ac, ca, ax = 0, 1, 21, 20
    assert found[0, [ac, ca]].tolist() == [2, 2]
    assert found[1, [aa, ax]].tolist() == [1, 1]
    assert found.sum(axis=1).tolist() == [4, 2, 7]
    assert baselines.kmer_counts(tokens(2), 3).nnz == 0  # shorter than a word


def test_the_nearest_neighbour_has_the_most_words_in_common() -> None:
    """Cosine of counts: a sequence finds its own family, not the one of its length."""
    estimator = MODELS["kmer-nn"].build(Hyperparameters(kmer=2), 2)
    estimator.fit(tokens(), [0, 1, 1])
    query = np.empty((2, 8), np.uint8)
    encoding.encode(["CACAC", "YWYW"], query)
    assert estimator.predict(query).tolist() == [0, 1]


def test_more_neighbours_than_training_sequences_are_refused() -> None:
    """An impossible vote shows when the sweep is read."""
    check = MODELS["kmer-nn"].check
    assert "larger than train_size 3" in str(check(Hyperparameters(train_size=3, neighbors=4)))
    assert check(Hyperparameters(train_size=4, neighbors=4)) is None
    assert "larger than length 2" in str(check(Hyperparameters(length=2)))


def test_large_sets_are_counted_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same profiles, without all words in memory at once."""
    whole = baselines.kmer_counts(tokens(), 2).toarray()
    monkeypatch.setattr(baselines, "_ROWS_AT_ONCE", 2)
    assert (baselines.kmer_counts(tokens(), 2).toarray() == whole).all()
