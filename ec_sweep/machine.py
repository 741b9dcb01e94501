"""What this machine can hold: cores, GPUs, workers."""

import importlib.util
import os
import shutil
import subprocess

MEMORY_PER_WORKER = 2_500_000_000
"""Bytes that a worker is reckoned to need: TensorFlow, and the single CNN at paper scale."""


def visible_gpus() -> list[str]:
    """Return the names under which CUDA knows the GPUs of this machine; the driver has no CUDA.

    None without the CUDA libraries of the ``gpu`` extra: TensorFlow would not use them.
    """
    if importlib.util.find_spec("nvidia") is None or not shutil.which("nvidia-smi"):
        return []
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [gpu for gpu in chosen.split(",") if gpu.strip() not in ("", "-1")]
    query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        listed = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):  # a card that does not answer is of no use
        return []
    return listed.stdout.split()


def usable_cores() -> int:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_workers() -> int:
    """Return how many workers this machine can hold: one a GPU, else one a core.

    On CPUs several single-threaded workers beat one with many threads.
    """
    import psutil

    in_memory = int(psutil.virtual_memory().available // MEMORY_PER_WORKER)
    return max(1, min(len(visible_gpus()) or usable_cores(), in_memory))
