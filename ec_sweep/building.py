"""Building datasets: from files or a source to arrays, aside and renamed when complete."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ec_sweep import dividing, importing, labelling, packing, sources
from ec_sweep.datasets import (
    LONGEST,
    SAMPLE,
    SEED,
    SHORTEST,
    Dataset,
    check_name,
    content_fingerprint,
    read,
)
from ec_sweep.dividing import Division, Split
from ec_sweep.errors import EcsweepError
from ec_sweep.formats import Options
from ec_sweep.importing import Watch
from ec_sweep.labelling import Proteins
from ec_sweep.paths import Home, packed, write_atomically
from ec_sweep.recipes import RECIPES, Drawing, Recipe
from ec_sweep.records import Migrate
from ec_sweep.sources import Source
from ec_sweep.splits import PARTS

if TYPE_CHECKING:
    import pyarrow as pa

RANDOM = Split()


def build_embedded(home: Home, name: str, split: str = "random") -> Dataset:
    """Build a dataset from the sample that comes with ecsweep."""
    check_name(name)
    sample = packed("data") / SAMPLE
    return build(
        home, name, [sample],
        split=Split(split), drawing=RECIPES[name].embedded_drawing, embedded=True,
    )  # fmt: skip
