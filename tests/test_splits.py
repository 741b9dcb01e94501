"""Tokens, and the places that accessions decide."""

import numpy as np

from ec_sweep import encoding, splits


def test_tokens_are_alphabetical_residues_x_and_padding() -> None:
    """20 residues in alphabetical order, every other letter X, 255 behind the end."""
    out = np.empty((3, 22), np.uint8)
    encoding.encode(["ACDEFGHIKLMNPQRSTVWY", "BJOUZX", "A" * 30], out)
    assert out[0].tolist() == [*range(20), 255, 255]
    assert out[1].tolist() == [20] * 6 + [255] * 16
    assert out[2].tolist() == [0] * 22


def accessions(n: int) -> splits.Strings:
    return np.array([f"P{i:05}" for i in range(n)], dtype=object)


def test_split_is_6_2_2_and_covers_everything_once() -> None:
    """Every protein stands in exactly one part; the sizes are 60, 20 and 20 percent."""
    parts = splits.split(accessions(1003), seed=0)
    assert {part: len(rows) for part, rows in parts.items()} == {
        "train": 602,
        "valid": 201,
        "test": 200,
    }
    assert sorted(np.concatenate(list(parts.values()))) == list(range(1003))


def test_places_do_not_depend_on_the_order_of_rows() -> None:
    """Shuffled rows fall into the same parts, draws and orders."""
    names = accessions(500)
    mixed = np.random.default_rng(1).permutation(names)
    for part in splits.PARTS:
        assert set(names[splits.split(names, 0)[part]]) == set(mixed[splits.split(mixed, 0)[part]])
    assert (names[splits.draw(names, 50, 0)] == mixed[splits.draw(mixed, 50, 0)]).all()


def test_seed_and_purpose_give_other_places() -> None:
    """Split, draw and order are independent of each other and change with the seed."""
    names = accessions(500)
    orders = [splits.hashed_order(names, seed, purpose) for seed in (0, 1) for purpose in "ab"]
    for i, one in enumerate(orders):
        for other in orders[:i]:
            assert abs(np.corrcoef(np.argsort(one), np.argsort(other))[0, 1]) < 0.15


def test_the_order_is_frozen() -> None:
    """Golden: a change of the hash would give every dataset another fingerprint."""
    assert splits.hashed_order(accessions(6), 0, "split").tolist() == [0, 2, 1, 5, 3, 4]
