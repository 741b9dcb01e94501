"""What `ec_sweep.Study` takes and returns: sequences, and tables as data frames of pandas."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ec_sweep.errors import EcsweepError
from ec_sweep.planning import StudyStatus

if TYPE_CHECKING:
    import pandas as pd

Sequences = str | Path | Mapping[str, str] | Sequence[str]
"""A FASTA file by its path, sequences by their names, or sequences alone."""


def of_cells(found: StudyStatus) -> "pd.DataFrame":
    """Return the cells of a study as a data frame."""
    import pandas as pd

    documents = [cell.to_json() for cell in found.cells]
    names = dict.fromkeys(name for one in documents for name in one["params"])
    columns = ["cell", *names, "seed", "state", "attempts", "failure", "run_id"]
    return pd.DataFrame([{**one["params"], **one} for one in documents], columns=columns)


def of_table(text: str, separator: str = ",", text_columns: Sequence[str] = ()) -> "pd.DataFrame":
    """Return a table in text as a data frame; only what is empty is no value.

    Of ``text_columns`` those that it has hold text alone, and what is empty is an empty one.
    """
    import pandas as pd

    names = text.partition("\n")[0].split(separator)
    text_columns = [name for name in text_columns if name in names]

    found = pd.read_csv(
        io.StringIO(text), sep=separator, keep_default_na=False, na_values=[""],
        dtype=dict.fromkeys(text_columns, str), quoting=0 if separator == "," else 3,
    )  # fmt: skip
    for name in text_columns:
        found[name] = found[name].fillna("")
    return found


def as_fasta(sequences: Sequences) -> io.BufferedReader:
    """Return sequences as a stream of FASTA.

    Raises:
        EcsweepError: the file cannot be read, or they are not text under plain names.
    """
    from ec_sweep import sequences as reading

    if isinstance(sequences, str | Path):
        return reading.open_stream(Path(sequences))
    named = sequences if isinstance(sequences, Mapping) else dict(enumerate(sequences, 1))
    for name, letters in named.items():
        if not isinstance(letters, str) or len(str(name).split()) != 1 or ">" in letters:
            raise EcsweepError(
                "sequences must be text, under names without blanks. "
                f"Received: {name!r:.40}: {letters!r:.40}."
            )
    text = "".join(f">{name}\n{letters}\n" for name, letters in named.items())
    return io.BufferedReader(io.BytesIO(text.encode()))
