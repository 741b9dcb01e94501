"""Sequences as tokens: one byte a residue, one-hot only on the device."""

from collections.abc import Sequence
from typing import Any

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
    cut = [sequence[: out.shape[1]] for sequence in sequences]
    letters = np.frombuffer("".join(cut).encode("ascii"), np.uint8)
    encode_letters(letters, np.fromiter(map(len, cut), np.int64, len(cut)), out)


def encode_letters(letters: Tokens, lengths: npt.NDArray[Any], out: Tokens) -> None:
    """Fill ``out`` like `encode`, from the letters of all sequences behind each other.

    None may be longer than a row of ``out``.
    """
    out[:] = PADDING
    out[np.arange(out.shape[1]) < lengths[:, None]] = _TABLE[letters]
