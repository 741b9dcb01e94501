"""The raw fields of records, as every reader gives them: columns of bytes, nothing checked yet."""

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Fields:
    """Records of one block of a file, in the order of the file.

    Every column is a binary array with one value a record, as written in the
    file: blanks around, lower case and nonsense are still there.
    """

    accession: "pa.Array"
    ec_numbers: "pa.Array"  # several joined by ";"; "" = states none; null = labelled elsewhere
    sequence: "pa.Array"  # null = a row of a label table
    length: "pa.Array | None" = None
    part: "pa.Array | None" = None  # of --split-column
    family: "pa.Array | None" = None  # of --family-column
    label: "pa.Array | None" = None  # of --class-column
    dropped: Counter[str] = field(default_factory=Counter)  # records that gave no fields, by reason

    @property
    def records(self) -> int:
        """How many records the block holds: those given and those dropped."""
        return len(self.accession) + self.dropped.total()
