"""Sequences as tokens: one byte a residue, one-hot only on the device."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
"""The 20 residues in alphabetical order: tokens 0 to 19 (paper 3.2)."""
UNKNOWN = 20
"""X: stands for every other letter (paper 3.2)."""
LETTERS = UNKNOWN + 1
"""Size of the alphabet: 20 residues and X (paper 3.2)."""
PADDING = 255
"""Fills up sequences shorter than the length; all zero after one-hot."""

Tokens = npt.NDArray[np.uint8]

_TABLE = np.full(256, UNKNOWN, np.uint8)
_TABLE[np.frombuffer(RESIDUES.encode(), np.uint8)] = np.arange(len(RESIDUES))


def encode(sequences: Sequence[str], out: Tokens) -> None:
    """Fill ``out``, ``uint8[n, length]``, with the tokens of ``n`` sequences of letters A-Z.

    Longer sequences are cut at ``length``, shorter ones padded at their end.
    """
    out[:] = PADDING
    length = out.shape[1]
    for row, sequence in zip(out, sequences, strict=True):
        letters = np.frombuffer(sequence[:length].encode("ascii"), np.uint8)
        row[: len(letters)] = _TABLE[letters]
