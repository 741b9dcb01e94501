"""Which part a protein falls into: keyed hashes of accessions, never their order.

A protein's place depends on its accession, its group and the seed alone, so the
order of rows and the number of threads cannot matter.
"""

import hashlib

import numpy as np
import numpy.typing as npt

PARTS = ("train", "valid", "test")
SHARES = (0.6, 0.2)  # train, valid; test is the rest (paper 3.1: 6:2:2)

Strings = npt.NDArray[np.object_]
Indices = npt.NDArray[np.intp]


def hashed_order(accessions: Strings, seed: int, purpose: str) -> Indices:
    """Return the indices that put the accessions into a fixed shuffled order.

    Different purposes give independent orders.
    """
    import pandas as pd

    key = hashlib.sha256(f"{purpose}:{seed}".encode()).hexdigest()[:16]
    hashes = pd.util.hash_array(accessions, hash_key=key, categorize=False)
    order = np.argsort(hashes, kind="stable")
    if (np.diff(hashes[order]) == 0).any():  # equal hashes: by accession, so that rows' order
        return np.lexsort((accessions.astype(str), hashes))  # cannot matter; rare, and slow
    return order


def split(accessions: Strings, seed: int) -> dict[str, Indices]:
    """Split one group 6:2:2; returns the indices of each part."""
    order = hashed_order(accessions, seed, "split")
    train = round(SHARES[0] * len(order))
    valid = train + round(SHARES[1] * len(order))
    return dict(zip(PARTS, np.split(order, [train, valid]), strict=True))


def draw(accessions: Strings, size: int, seed: int, sample: int = 1) -> Indices:
    """Draw ``size`` of the accessions at random; all of them when there are no more.

    Samples of different numbers are independent of each other.
    """
    purpose = "draw" if sample == 1 else f"draw-{sample}"
    return hashed_order(accessions, seed, purpose)[:size]
