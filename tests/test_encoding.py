"""Tokens."""

import numpy as np

from ec_sweep import encoding


def test_tokens_are_alphabetical_residues_x_and_padding() -> None:
    """20 residues in alphabetical order, every other letter X, 255 behind the end."""
    out = np.empty((3, 22), np.uint8)
    encoding.encode(["ACDEFGHIKLMNPQRSTVWY", "BJOUZX", "A" * 30], out)
    assert out[0].tolist() == [*range(20), 255, 255]
    assert out[1].tolist() == [20] * 6 + [255] * 16
    assert out[2].tolist() == [0] * 22
