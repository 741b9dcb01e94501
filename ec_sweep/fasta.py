"""FASTA files: sequences of any wrapping, and what their headers say."""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ec_sweep.errors import EcsweepError, quoted
from ec_sweep.fields import Fields
from ec_sweep.opening import Block
from ec_sweep.tabular import looks_like_ec

_COMMENTS = (b";", b"#", b"!")
_BLANKS = b" \t\n\x0b\x0c"


class Header(NamedTuple):
    """What a header says; no EC numbers (None) means that it says nothing of them."""

    accession: bytes
    ec_numbers: bytes | None = None
    length: bytes | None = None


HeaderParser = Callable[[bytes], Header | None]  # None: not such a header


def parse(block: Block, header: HeaderParser, path: Path) -> Fields:
    """Parse the entries of a block.

    Blanks and line ends within a sequence mean nothing, and a ``*`` at its
    end is the stop of a translation; all else stays as it is.
    """
    import pyarrow as pa

    text = _from_first(block, path)
    accessions, numbers, sequences, lengths = [], [], [], []
    dropped: Counter[str] = Counter()
    for entry in text[1:].split(b"\n>") if text else ():
        title, _, lines = entry.partition(b"\n")
        said = header(title)
        if said is None:
            dropped["unknown_header"] += 1
            continue
        accessions.append(said.accession)
        numbers.append(said.ec_numbers)
        lengths.append(said.length)
        sequences.append(lines.translate(None, _BLANKS).removesuffix(b"*"))
    return Fields(
        accession=pa.array(accessions, pa.binary()),
        ec_numbers=pa.array(numbers, pa.binary()),
        sequence=pa.array(sequences, pa.binary()),
        length=pa.array(lengths, pa.binary()) if any(lengths) else None,
        dropped=dropped,
    )


def _from_first(block: Block, path: Path) -> bytes:
    """Return the text from the first ``>`` on; comments may stand before it, nothing else."""
    text = block.data
    if text.startswith(b">"):
        return text
    start = text.find(b"\n>") + 1 or len(text)
    for number, line in enumerate(text[:start].split(b"\n"), start=block.line):
        if line.strip() and not line.startswith(_COMMENTS):
            shown = quoted(line[:60].decode(errors="replace"))
            raise EcsweepError(
                f"{path}: line {number}: FASTA begins with '>'. Received: {shown}. "
                "Is the start of the file missing?"
            )
    return text[start:]


def titles(head: bytes) -> list[bytes]:
    """Return the first headers of a file that begins as FASTA does, else none."""
    lines = [line for line in head.split(b"\n") if line.strip()]
    start = next((line for line in lines if not line.startswith(_COMMENTS)), b"")
    if not start.startswith(b">"):
        return []
    return [line[1:] for line in lines if line.startswith(b">")][:20]


def named(title: bytes) -> Header:
    """Read the accession alone: P12345 of ``sp|P12345|NAME …``, else the first word."""
    word = (title.split(None, 1) or [b""])[0]
    parts = word.split(b"|")
    return Header(parts[1] if is_uniprot(title) else word)


def is_uniprot(title: bytes) -> bool:
    """Say whether a header is ``sp|P12345|NAME …`` or ``tr|…``, as UniProt writes them."""
    return title.startswith((b"sp|", b"tr|")) and title.count(b"|") >= 2


def brenda(title: bytes) -> Header | None:
    """Read ``accession|name|EC|organism|source``, or the same with ``;``.

    Names may hold the separator, so that the fields are counted from the
    end. Files made of BRENDA's table have its length as a sixth field.
    """
    for separator in (b"|", b";"):
        fields = title.split(separator)
        length = fields.pop().strip() if len(fields) > 5 and fields[-1].strip().isdigit() else None
        if len(fields) < 5:
            continue
        number = fields[-3].strip()
        if not looks_like_ec(number):
            # The organism, too, may hold the separator.
            likely = [field.strip() for field in fields[1:] if looks_like_ec(field)]
            number = likely[0] if len(likely) == 1 else number
        return Header(fields[0], number, length)
    return None


def is_brenda(title: bytes) -> bool:
    """Say whether a header is one of BRENDA's."""
    said = brenda(title)
    return said is not None and looks_like_ec(said.ec_numbers or b"")


def patterned(pattern: str) -> HeaderParser:
    """Return a parser of headers by a regular expression with the groups accession and ec.

    Raises:
        EcsweepError: it is no regular expression, or lacks a group.
    """
    try:
        expression = re.compile(pattern.encode())
    except (re.error, ValueError, OverflowError, RecursionError) as error:
        raise EcsweepError(
            f"--pattern: not a regular expression: {error}. Received: {pattern!r}."
        ) from None
    missing = {"accession", "ec"} - set(expression.groupindex)
    if missing:
        raise EcsweepError(
            f"--pattern: needs the groups (?P<accession>…) and (?P<ec>…); there is no "
            f"{' and no '.join(sorted(missing))}. Received: {pattern!r}."
        )

    def parser(title: bytes) -> Header | None:
        found = expression.search(title)
        return found and Header(found["accession"] or b"", found["ec"] or b"")

    return parser
