"""UniProt's flat files (.dat): an entry from its ID line to its end, ``//``."""

import re
from collections import Counter
from pathlib import Path

from ec_sweep.errors import EcsweepError, quoted
from ec_sweep.fields import Fields
from ec_sweep.opening import Block

END = b"\n//\n"
_END = re.compile(rb"\n//[ \t]*(?=\n|\Z)")  # begins with a literal, which is found fast
_START = b"\nID   "
_ACCESSION = re.compile(rb"AC   [ \t]*([^;\n]*)")
_DESCRIPTION = re.compile(rb"(?:DE   .*(?:\n|\Z))+")
# "EC=1.1.1.1 {ECO:...};" of today, "(EC 1.1.1.1)" of releases before 2008.
_EC_NUMBER = re.compile(rb"(?<!\S)(?:EC=|\(EC )([^\s;{)]*)")
_SEQUENCE = re.compile(rb"SQ   SEQUENCE\s+(\d+) AA;.*\n")


def parse(block: Block, path: Path) -> Fields:
    """Parse the entries of a block.

    An entry has the first of its accessions, and all EC numbers of its
    description (DE): those of what it contains and includes, too.

    Raises:
        EcsweepError: the file does not begin with an entry, or ends in the middle of one.
    """
    import pyarrow as pa

    rows: list[tuple[bytes, bytes, bytes, bytes]] = []
    dropped: Counter[str] = Counter()
    _reject_other_start(block, path)
    *texts, rest = _END.split(b"\n" + block.data)
    if rest.strip():
        line = block.line + block.data.count(b"\n", 0, -len(rest.lstrip()))
        raise EcsweepError(
            f"{path}: line {line}: the file ends in the middle of the entry that begins here "
            "(no '//'). Get it again."
        )
    for text in texts:
        before, *cut = text.split(_START)
        dropped["not_an_entry"] += bool(before.strip())
        if cut:
            rows.append(_entry(cut.pop()))
        dropped["entry_without_end"] += len(cut)
    accession, numbers, sequence, length = (
        pa.array([row[column] for row in rows], pa.binary()) for column in range(4)
    )
    return Fields(accession, numbers, sequence, length, dropped=+dropped)


def _reject_other_start(block: Block, path: Path) -> None:
    text = block.data.lstrip(b"\n\t ")
    if block.line == 1 and text and not text.startswith(_START[1:]):
        line = 1 + block.data.count(b"\n", 0, -len(text))
        shown = quoted(text.partition(b"\n")[0][:60].decode(errors="replace"))
        raise EcsweepError(
            f"{path}: line {line}: a flat file begins with an ID line. Received: {shown}. "
            "Is the start of the file missing?"
        )


def _entry(text: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Return accession, EC numbers, sequence and length of an entry; what is not there is empty."""
    accession = _ACCESSION.match(text, text.find(b"\nAC   ") + 1)
    description = _DESCRIPTION.match(text, text.find(b"\nDE   ") + 1)
    numbers = _EC_NUMBER.findall(description[0]) if description else []
    sequence = _SEQUENCE.match(text, text.rfind(b"\nSQ   ") + 1)
    return (
        accession[1] if accession else b"",
        b";".join(numbers),
        text[sequence.end() :].translate(None, b" \t\n") if sequence else b"",
        sequence[1] if sequence else b"",
    )
