"""Classifying FASTA: every record has its row, handled and flagged as training would."""

import gzip
import io
import re
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ec_sweep import encoding, predicting, sequences, serving
from ec_sweep.errors import EcsweepError
from ec_sweep.hyperparameters import Hyperparameters
from ec_sweep.saving import About
from ec_sweep.sequences import Entry
from ec_sweep.serving import Classifier
from tests.conftest import Ecsweep, wait_for

LENGTH = 60
ABOUT = About(
    model="cnn",
    hyperparameters=Hyperparameters(length=LENGTH),
    classes=("non-enzyme", "enzyme", "other"),
    dataset={"name": "enzyme", "fingerprint": "f" * 64, "split": "random", "source": "test"},
    shortest=50,
    longest=100,
    study="tiny@demo",
    cell="0123456789ab",
    seed=0,
    keep="best",
    ecsweep="0",
)


def shares(tokens: encoding.Tokens) -> serving.Probabilities:
    """Stand for a model: shares of A, of C and of all else among the tokens."""
    found = np.stack([(tokens == 0).mean(axis=1), (tokens == 1).mean(axis=1)], axis=1)
    return np.concatenate([found, 1 - found.sum(axis=1, keepdims=True)], axis=1).astype("f4")


def buffered(data: bytes) -> io.BufferedReader:
    return io.BufferedReader(io.BytesIO(data))  # type: ignore[arg-type]


def read(data: bytes, most: int = LENGTH) -> list[Entry]:
    return list(sequences.read(buffered(data), "some.fasta", most))


def table(data: bytes, batch_size: int = 4, top: int | None = None) -> list[list[str]]:
    """Return the rows of the table that FASTA gives."""
    out = io.BytesIO()
    shapes = set()

    def predict(tokens: encoding.Tokens) -> serving.Probabilities:
        shapes.add(tokens.shape)
        return shares(tokens)

    classifier = Classifier(ABOUT, predict)
    entries = sequences.read(buffered(data), "some.fasta", LENGTH)
    tally = predicting.classify(entries, classifier, out, batch_size=batch_size, top=top)
    assert shapes <= {(batch_size, LENGTH)}  # a network compiles for each shape
    rows = [line.split("\t") for line in out.getvalue().decode().splitlines()]
    assert tally.sequences == len(rows) - 1
    return rows


ODD = (
    b">good first words\n" + b"AC" * 25 + b"\n"
    b">cut\n" + b"A" * 61 + b"\n"
    b">long\n" + b"A" * 50 + b"\n" + b"C" * 51 + b"\n"
    b">short lower\nacac\nACAC\n"
    b">odd\n" + b"AC" * 25 + b"U\n"
    b">beyond\n" + b"A" * 60 + b"U\n"  # what is cut off is not read
    b">stop\n" + b"A" * 50 + b"*\n"
    b">empty\n"
    b">inner*\nACAC*AC\n"
    b">after*\nACAC*\nAC\n"
    b">gap\nAC-AC\n"
    b">\nAAAA\n"
    b">tab\tand more\n" + b"C" * 50 + b"\r\n\r\n"
)


def test_odd_sequences_are_handled_as_in_training_and_flagged() -> None:
    """None is lost; what cannot be predicted has the reason instead of probabilities."""
    header, *rows = table(ODD)
    assert header == ["id", "predicted", "non-enzyme", "enzyme", "other", "flags"]
    assert [(row[0], row[-1]) for row in rows] == [
        ("good", ""),
        ("cut", "cut"),
        ("long", "cut,long"),
        ("short", "short"),
        ("odd", "nonstandard"),
        ("beyond", "cut"),
        ("stop", ""),
        ("empty", "no_sequence"),
        ("inner*", "invalid_sequence"),
        ("after*", "invalid_sequence"),
        ("gap", "invalid_sequence"),
        ("", "short"),
        ("tab", ""),
    ]
    by_id = {row[0]: row for row in rows}
    assert by_id["empty"][1:-1] == by_id["gap"][1:-1] == [""] * 4
    assert by_id["cut"][1:3] == ["non-enzyme", "1"]
    assert float(by_id["long"][3]) == pytest.approx(10 / 60)
    assert float(by_id["short"][2]) == pytest.approx(4 / 60)
    assert float(by_id["odd"][4]) == pytest.approx(10 / 60)


@pytest.mark.parametrize("batch_size", [1, 3, 5, 100])
def test_batches_change_nothing(batch_size: int) -> None:
    """Each sequence is classified by itself, in order, whatever stands beside it."""
    assert table(ODD, batch_size) == table(ODD, 4)


def test_top_gives_the_most_probable_classes_in_order() -> None:
    """Their names beside their probabilities; as many columns in every row."""
    header, first, *rows = table(ODD, top=2)
    assert header == ["id", "predicted", "probability", "class_2", "probability_2", "flags"]
    assert first == ["good", "non-enzyme", "0.41666666", "enzyme", "0.41666666", ""]
    assert {len(row) for row in rows} == {6}
    assert len(table(ODD, top=9)[0]) == 8  # there are but three


NAME = st.from_regex(r"[!-=?-~][!-~]{0,8}", fullmatch=True)
BODY = st.binary(max_size=200).map(lambda data: data.replace(b">", b"").replace(b"\x1f\x8b", b""))


@given(st.lists(st.tuples(NAME, BODY), min_size=1, max_size=8), st.integers(1, 5), st.booleans())
def test_rows_out_are_records_in(
    records: list[tuple[str, bytes]], batch_size: int, zipped: bool
) -> None:
    """Whatever bytes stand between the headers, nothing is lost and no row is broken."""
    data = b"".join(b">" + name.encode() + b"\n" + body + b"\n" for name, body in records)
    rows = table(gzip.compress(data) if zipped else data, batch_size)
    assert [row[0] for row in rows[1:]] == [name for name, _ in records]
    assert {len(row) for row in rows} == {6}
    for row, (_, body) in zip(rows[1:], records, strict=True):
        letters = b"".join(body.split()).removesuffix(b"*")
        valid = re.fullmatch(rb"[A-Za-z]+", letters) is not None
        assert bool(row[1]) == valid


@given(st.binary(max_size=400))
def test_any_bytes_give_a_table_or_one_line(data: bytes) -> None:
    """Never a traceback: rows as headers, or an error that names file and line."""
    try:
        rows = table(data)
    except EcsweepError as error:
        assert str(error).startswith("some.fasta: ")
        assert "\n" not in str(error)
    else:
        assert len(rows) >= 2


def test_memory_does_not_grow_with_lines_or_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each entry the first letters are kept, the rest is counted and looked at."""
    monkeypatch.setattr(sequences, "_PIECE", 16)
    name = b">" + b"n" * 40 + b" words > more > words\n"
    data = name + b"AC" * 50 + b"\n" + b"A" * 30 + b"\n>b\n" + b"A" * 99 + b"-\n"
    first, second = read(data, 7)
    assert (first.id, first.sequence, first.length) == ("n" * 15, "ACACACA", 130)
    assert (second.id, second.sequence, second.problem) == ("b", "AAAAAAA", "invalid_sequence")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "there is no sequence in it"),
        (b"\n\n", "there is no sequence in it"),
        (
            b"\n<html>\n",
            "line 2: FASTA begins with '>' and a name. Received: '<html>'",
        ),
        (b"<html>\n", "Received: '<html>'. It is an HTML page"),
        (b"a\tb\n", r"Received: 'a\tb'."),
        (b"\x1f\x8b\x08\x00broken", "cut off or damaged gzip file"),
        (gzip.compress(b">a\nAC\n>b\nAC\n" * 999, mtime=0)[:-9], "cut off or damaged gzip file"),
        (b">a\rACAC\r>b\rACAC\r", "line 1: lines end with CR alone"),
    ],
)
def test_what_is_no_fasta_is_said(data: bytes, said: str) -> None:
    """One line that names the file, and the line where there is one."""
    with pytest.raises(EcsweepError, match=re.escape(said)):
        read(data)


def test_names_cannot_rule_a_terminal() -> None:
    """Control characters are escaped, other letters kept."""
    assert [entry.id for entry in read(b">a\x1b[31m\nAC\n>\xc3\xa9\xff\nAC\n")] == [
        "a\\x1b[31m",
        "é\\udcff",
    ]


def fasta_of(ids: Sequence[str], proteins: list[list[str]]) -> str:
    """Return the embedded sample's sequences of these proteins, in this order."""
    by_id = {row[0]: row[4] for row in proteins}
    return "".join(f">{name} of the sample\n{by_id[name]}\n" for name in ids)


def best_predictions(home: Ecsweep) -> "tuple[str, dict[str, Any]]":
    """Return cell and predictions of the tiny study's best cell by validation accuracy."""
    ((run_id, cell),) = home.sql(
        "mlflow.db",
        "SELECT run_uuid, tags.value FROM tags JOIN latest_metrics m USING (run_uuid) "
        "WHERE tags.key = 'ecsweep.cell' AND m.key = 'val_accuracy' "
        "ORDER BY m.value DESC, m.timestamp LIMIT 1",
    )
    path = home.home / "mlruns" / "artifacts" / run_id / "artifacts" / "predictions.npz"
    with np.load(path) as found:
        return cell, dict(found)


def test_predictions_equal_those_of_the_trial(
    finished: Ecsweep, proteins: list[list[str]], tmp_path: Path
) -> None:
    """The test set's sequences, as FASTA, get the probabilities that the trial has measured."""
    _, kept = best_predictions(finished)
    fasta, out = tmp_path / "test.fasta.gz", tmp_path / "out.tsv"
    fasta.write_bytes(gzip.compress(fasta_of(kept["ids"], proteins).encode()))
    done = finished.run(
        "predict", str(fasta), "--study", "tiny", "--batch-size", "7", "--out", str(out)
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    header, *rows = [line.split("\t") for line in out.read_text().splitlines()]
    assert header == ["id", "predicted", "non-enzyme", "enzyme", "flags"]
    assert [row[0] for row in rows] == list(kept["ids"])
    found = np.array([[float(text) for text in row[2:4]] for row in rows])
    assert np.abs(found - kept["probabilities"]).max() < 1e-6
    assert [header.index(row[1]) - 2 for row in rows] == list(kept["probabilities"].argmax(axis=1))
    assert {row[4] for row in rows} <= {"cut", "cut,nonstandard"}  # 40 residues are read
    assert f"{len(rows)} sequences" in done.stderr
    assert "oneDNN" not in done.stderr  # what TensorFlow says as it starts
    assert "absl" not in done.stderr


def test_a_reader_that_has_seen_enough_ends_it_quietly(
    finished: Ecsweep, proteins: list[list[str]]
) -> None:
    """Nothing but the table is on stdout, and a closed pipe is no error."""
    cell, _ = best_predictions(finished)
    ids = [row[0] for row in proteins]
    text = fasta_of(ids * (1 + 6000 // len(ids)), proteins)  # more than a pipe holds
    command = " ".join(finished.command("predict", "-", "--study", "tiny", "--cell", cell))
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | head -3"],
        input=text, env=finished.environment(), cwd=finished.home,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("id\tpredicted\t")
    assert [line.split("\t")[0] for line in lines[1:]] == ids[:2]
    assert "Traceback" not in done.stderr
    assert "Error" not in done.stderr


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="sees imports in /proc alone")
def test_an_early_interrupt_is_not_lost(finished: Ecsweep, tmp_path: Path) -> None:
    """While TensorFlow is being imported, and where a script's "&" has Ctrl-C ignored."""
    out = tmp_path / "out.tsv"
    process = subprocess.Popen(
        finished.command("predict", "-", "--study", "tiny", "--out", str(out)),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=finished.home, env=finished.environment(),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )  # fmt: skip
    assert process.stdin
    process.stdin.write(">a\nACDE\n>b\nACDE\n")
    process.stdin.flush()
    maps = Path(f"/proc/{process.pid}/maps")
    wait_for(lambda: "tensorflow" in maps.read_text())
    process.send_signal(signal.SIGINT)
    said, noted = process.communicate(timeout=120)
    assert (process.returncode, said) == (130, "")
    assert noted == f"Interrupted. {out} is not written.\n"
    assert not out.exists()


def test_bad_requests_are_refused_in_one_line(finished: Ecsweep, tmp_path: Path) -> None:
    """Exit 2 with what to do; TensorFlow is not waited for, and no output is made."""
    fasta, out = tmp_path / "a.fasta", tmp_path / "out.tsv"
    fasta.write_text(">a\nACAC\n")
    some = ("predict", str(fasta))
    wrong = tmp_path / "wrong.fasta"
    wrong.write_text("ACAC\n")
    assert "wrong.fasta: line 1: FASTA" in finished.fails("predict", str(wrong), "--study", "tiny")
    assert "either --study STUDY or --model MODEL" in finished.fails(*some)
    assert "cannot be read" in finished.fails("predict", "none.fasta", "--study", "tiny")
    said = finished.fails(*some, "--study", "tiny", "--cell", "0" * 12, "--out", str(out))
    assert "no model of cell 000000000000 of tiny@demo is saved, but of " in said
    said = finished.fails(*some, "--study", "tiny", "--out", "/proc/table.tsv")
    assert "--out /proc/table.tsv cannot be written (" in said
    assert "it is a folder" in finished.fails(*some, "--study", "tiny", "--out", str(tmp_path))
    said = finished.fails(*some, "--study", "tiny", "--scale", "paper")
    assert said.endswith("but there are at demo scale: add --scale demo")
    assert "Did you mean 'tiny'?" in finished.fails(*some, "--study", "tinny")
    assert "no model that ecsweep saved" in finished.fails(*some, "--model", str(tmp_path))
    assert "no such model of this home" in finished.fails(*some, "--model", "models:/m-none")
    assert "--out must be a file" in finished.fails(*some, "--study", "tiny", "--out", "/dev/null")
    nowhere = tmp_path / "none" / "out.tsv"
    said = finished.fails(*some, "--study", "tiny", "--out", str(nowhere))
    assert said.endswith(f"there is no folder {nowhere.parent}. Make it first.")
    assert not nowhere.parent.exists()
    assert not out.exists()
