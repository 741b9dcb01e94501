"""The places that accessions decide."""

import hashlib
from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import default_rng

from ec_sweep import splits
from ec_sweep.errors import EcsweepError

Row = tuple[str, int, int]
rows = st.integers(5, 400).flatmap(
    lambda n: st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, n - 1)), min_size=n, max_size=n
    ).map(lambda pairs: [(f"P{i:05}", *pair) for i, pair in enumerate(pairs)])
)


def accessions(n: int) -> splits.Strings:
    return np.array([f"P{i:05}" for i in range(n)], dtype=object)


def digests(sequences: list[str]) -> pa.Array:
    values = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in sequences]
    return pa.array(values, pa.binary(16))


def assigned(members: list[Row], method: str, stratify: bool = True) -> dict[str, int] | None:
    """Return the part of each accession, ``None`` where a part would stay empty."""
    names, labels, groups = zip(*members, strict=True)
    try:
        parts = splits.assign(
            method,
            pa.array(names),
            np.array(labels, np.int32),
            seed=0,
            groups=np.array(groups, np.int64),
            stratify=stratify,
        )
    except EcsweepError as error:
        assert "leaves nothing for" in str(error)
        return None
    return dict(zip(names, parts.tolist(), strict=True))


def test_split_is_6_2_2_and_covers_everything_once() -> None:
    """Every protein stands in exactly one part; the sizes are 60, 20 and 20 percent."""
    parts = splits.assign("random", pa.array(accessions(1003)), np.zeros(1003, np.int32), seed=0)
    assert np.bincount(parts).tolist() == [602, 201, 200]
    assert len(parts) == 1003


def test_places_do_not_depend_on_the_order_of_rows() -> None:
    """Shuffled rows fall into the same parts, draws and orders."""
    names = accessions(500)
    mixed = default_rng(1).permutation(names)
    labels = np.zeros(500, np.int32)
    one, other = (
        dict(zip(column, splits.assign("random", pa.array(column), labels, seed=0), strict=True))
        for column in (names, mixed)
    )
    assert one == other
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
    names = accessions(6)
    for column in (names, pa.array(names), pa.array(names).cast(pa.large_binary())):
        assert splits.hashed_order(column, 0, "split").tolist() == [0, 2, 1, 5, 3, 4]
    chunked = pa.chunked_array([names[:1], names[1:5], names[5:]])
    assert splits.hashed_order(chunked, 0, "split").tolist() == [0, 2, 1, 5, 3, 4]
    assert splits.hashes(pa.array(["P00000"]), 0, "split").tolist() == [1567046885640389519]


def test_many_batches_hash_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a batch ends changes no hash."""
    names = pa.array(accessions(100))
    whole = splits.hashes(names, 0, "split")
    monkeypatch.setattr(splits, "_AT_ONCE", 7)
    assert (splits.hashes(names, 0, "split") == whole).all()


def test_equal_hashes_are_ordered_by_accession(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proteins whose hashes are the same keep their places when rows are shuffled."""
    monkeypatch.setattr(
        splits, "hashes", lambda names, *_: np.array([9 ** len(str(n)) for n in names], np.uint64)
    )
    names = np.array([*"dbcae", "xx", *"fghij"], dtype=object)
    mixed = default_rng(0).permutation(names)
    shuffled = [column[splits.hashed_order(column, 0, "any")].tolist() for column in (names, mixed)]
    assert shuffled[0] == shuffled[1] == [*"abcdefghij", "xx"]
    labels = np.zeros(len(names), np.int32)
    one, other = (
        dict(zip(column, splits.assign("random", pa.array(column), labels, seed=0), strict=True))
        for column in (names, mixed)
    )
    assert one == other


def in_order(names: splits.Strings) -> list[splits.Indices]:
    """Return the rows of each part: cut off the shuffled order one after another."""
    ends = np.cumsum([round(0.6 * len(names)), round(0.2 * len(names))])
    return np.split(splits.hashed_order(names, 0, "split"), ends)


def test_random_splits_each_class_alone() -> None:
    """Each class of a random split falls where it falls without the others; unstratified not."""
    names = accessions(1000)
    labels = (default_rng(0).random(1000) < 0.05).astype(np.int32)
    parts = splits.assign("random", pa.array(names), labels, seed=0)
    for label in (0, 1):
        own = np.flatnonzero(labels == label)
        for place, rows in enumerate(in_order(names[own])):
            assert set(own[rows]) == set(np.flatnonzero((labels == label) & (parts == place)))
    together = splits.assign("random", pa.array(names), labels, seed=0, stratify=False)
    for place, rows in enumerate(in_order(names)):
        assert set(rows) == set(np.flatnonzero(together == place))


@settings(max_examples=60, deadline=None)
@given(rows, st.booleans(), st.randoms(use_true_random=False))
def test_groups_stay_whole_whatever_the_order(members: list[Row], stratify: bool, random) -> None:  # type: ignore[no-untyped-def]
    """Every protein gets a part, no group straddles, and neither rows nor numbers matter."""
    parts = assigned(members, "cluster", stratify)
    shuffled = random.sample(members, len(members))
    renumbered = random.sample(range(2 * len(members)), len(members))
    shuffled = [(name, label, renumbered[group]) for name, label, group in shuffled]
    assert assigned(shuffled, "cluster", stratify) == parts
    if parts is None:
        return
    sides = defaultdict(set)
    for name, _, group in members:
        sides[group].add(parts[name])
    assert all(len(side) == 1 for side in sides.values())
    assert set(parts.values()) == {0, 1, 2}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 10), min_size=100, max_size=900), st.integers(0, 3))
def test_small_groups_come_near_to_6_2_2(sizes: list[int], seed: int) -> None:
    """Where groups are small, each part misses its share by less than two of them."""
    groups = np.repeat(np.arange(len(sizes)), sizes)
    labels = np.zeros(len(groups), np.int32)
    names = pa.array(accessions(len(groups)))
    parts = splits.assign("cluster", names, labels, seed=seed, groups=groups)
    targets = np.array([0.6, 0.2, 0.2]) * len(groups)
    assert (abs(np.bincount(parts) - targets) < 2 * max(sizes)).all()


def test_groups_are_split_by_the_class_of_most_members() -> None:
    """Each class comes near to 6:2:2 although some groups hold proteins of two."""
    mixed, classes = np.array([0, 0, 0, 1, 1, 2, 2, 2]), np.array([1, 1, 0, 0, 1, 0, 0, 1])
    assert splits._majorities(mixed, classes, 3).tolist() == [1, 0, 0]
    rng = default_rng(0)
    groups = rng.integers(0, 1500, 5000)
    labels = ((groups % 5 == 0) ^ (rng.random(5000) < 0.02)).astype(np.int32)
    names = pa.array(accessions(5000))
    parts = splits.assign("cluster", names, labels, seed=0, groups=groups)
    for label in (0, 1):
        shares = np.bincount(parts[labels == label]) / (labels == label).sum()
        assert shares == pytest.approx([0.6, 0.2, 0.2], abs=0.02)


def test_large_and_small_groups_have_the_same_chances() -> None:
    """Groups of four are no rarer in test than groups of one."""
    sizes = np.tile([1, 4], 2000)
    groups = np.repeat(np.arange(4000), sizes)
    names = pa.array(accessions(len(groups)))
    parts = splits.assign("identical", names, np.zeros(len(groups)), seed=0, groups=groups)
    in_test = parts[np.cumsum(sizes) - 1] == 2
    assert in_test[::2].mean() == pytest.approx(0.2, abs=0.03)
    assert in_test[1::2].mean() == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize("giant", [180, 300, 700, 9000])
def test_a_giant_family_stands_in_train(giant: int) -> None:
    """A family larger than half of a small part goes to train, and the rest fills the others."""
    groups = np.r_[np.zeros(giant, np.int64), np.arange(1, 1001)]
    names = pa.array(accessions(len(groups)))
    for seed in range(5):
        parts = splits.assign("cluster", names, np.zeros(len(groups)), seed=seed, groups=groups)
        train, valid, test = np.bincount(parts)
        assert (parts[:giant] == 0).all()
        assert abs(valid - test) <= 1
        assert test == round(min(0.2 * len(groups), 500))
        assert train + valid + test == len(groups)


def test_three_families_reach_three_parts() -> None:
    """No part of a class stays empty while there are groups for it."""
    names = pa.array(accessions(20))
    for seed in range(20):
        for sizes in ([12, 7, 1], [18, 1, 1]):
            groups = np.repeat(np.arange(3), sizes)
            parts = splits.assign("cluster", names, np.zeros(20), seed=seed, groups=groups)
            assert set(parts) == {0, 1, 2}


def test_a_part_that_stays_empty_is_an_error() -> None:
    """Two families cannot fill three parts."""
    names, labels = pa.array(accessions(20)), np.zeros(20, np.int32)
    with pytest.raises(EcsweepError, match=r"split cluster of 20 .* nothing for .*--identity"):
        splits.assign("cluster", names, labels, seed=0, groups=np.arange(20) % 2)
    with pytest.raises(EcsweepError, match=r"leaves nothing for valid and test.* at least one"):
        splits.assign("given", names, labels, seed=0, given=np.zeros(20, np.int8))


@given(st.lists(st.text("AC", max_size=3), max_size=60), st.integers(0, 3))
def test_identical_groups_are_equal_sequences(sequences: list[str], skipped: int) -> None:
    """Rows share a number just where their digests are equal, numbered in their order."""
    column = digests(sequences)
    values = column.to_pylist()[skipped:]
    expected = [sorted(set(values)).index(value) for value in values]
    assert splits.identical_groups(column[skipped:]).tolist() == expected
    half = len(column) // 2
    chunks = pa.chunked_array([column[:half], column[half:]], column.type)
    assert splits.identical_groups(chunks[skipped:]).tolist() == expected


def test_digests_that_differ_late_are_different() -> None:
    """All 16 bytes count."""
    values = [bytes(15) + b"b", bytes(16), bytes(15) + b"b", bytes(8) + b"a" + bytes(7)]
    assert splits.identical_groups(pa.array(values, pa.binary(16))).tolist() == [1, 0, 1, 2]


def test_given_parts_know_the_usual_names() -> None:
    """The names that files use for parts are understood in any case."""
    names = ["train", "Valid", "validation", "VAL", "dev", " test ", "training", "testing"]
    expected = [0, 1, 1, 1, 1, 2, 0, 2]
    for column in (pa.array(names), pa.array(names).cast(pa.binary()), pa.chunked_array([names])):
        assert splits.given_parts(column, "x").tolist() == expected
    assert splits.given_parts(pa.array(names).dictionary_encode(), "x").tolist() == expected


@pytest.mark.parametrize("last", ["holdout", "", None, b"\xff\n"])
def test_unknown_given_parts_are_named(last: str | bytes | None) -> None:
    """A part that is none is an error of one line that lists what the column holds."""
    column = pa.array(["train"] * 1200 + [last], pa.binary())
    with pytest.raises(EcsweepError, match=r"^a.tsv: column fold must name a part") as error:
        splits.given_parts(column, "a.tsv: column fold")
    assert "Found: 'train' (1,200), '" in str(error.value)
    assert "' (1)" in str(error.value)
    assert "\n" not in str(error.value)


def test_no_sequence_of_the_sample_stands_on_two_sides(proteins: list[list[str]]) -> None:
    """Brute force on real proteins: what train holds, valid and test do not; random does leak."""
    names = pa.array([row[0] for row in proteins])
    labels = np.array([bool(row[2]) for row in proteins], np.int32)
    sequences = [row[4] for row in proteins]
    groups = splits.identical_groups(digests(sequences))
    for method, leaks in (("random", True), ("identical", False)):
        parts = splits.assign(method, names, labels, seed=0, groups=groups)
        train, valid, test = (
            [text for text, part in zip(sequences, parts, strict=True) if part == place]
            for place in range(3)
        )
        seen = set(train)
        found = sum(text in seen for text in test)
        assert splits.shared(groups, parts) == found
        assert bool(found) == leaks
        assert bool(set(train) & set(valid) | set(valid) & set(test)) == leaks
        shares = np.array([len(train), len(valid), len(test)]) / len(proteins)
        assert shares == pytest.approx([0.6, 0.2, 0.2], abs=0.001)


def test_no_family_of_the_sample_stands_on_two_sides(family_column: list[str]) -> None:
    """Brute force on real proteins: each family of the embedded sample stays on one side."""
    groups = np.unique(family_column, return_inverse=True)[1].astype(np.int64)
    names = pa.array(accessions(len(family_column)))
    labels = np.zeros(len(family_column), np.int32)
    parts = splits.assign("cluster", names, labels, seed=0, groups=groups)
    sides = defaultdict(set)
    for family, part in zip(family_column, parts, strict=True):
        sides[family].add(part)
    assert Counter(map(len, sides.values())) == {1: len(sides)}
    assert splits.shared(groups, parts) == 0
    assert np.bincount(parts) / len(parts) == pytest.approx([0.6, 0.2, 0.2], abs=0.001)


def test_shared_counts_nothing_that_was_not_drawn() -> None:
    """Rows of no part neither leak nor are leaked to."""
    groups = np.array([0, 0, 1, 1, 2, 2, 3])
    assert splits.shared(groups, np.array([0, 2, -1, 2, 0, -1, 2], np.int8)) == 1
