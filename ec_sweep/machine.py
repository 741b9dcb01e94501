"""Cores, GPUs and memory of this machine, and how many workers it can hold."""

import contextlib
import importlib.util
import os
import platform
import shutil
import subprocess
from pathlib import Path

from ec_sweep.errors import EcsweepError

_BACKENDS = {"tensorflow": "tensorflow", "jax": "'ecsweep[jax]'", "torch": "torch"}
"""What Keras can compute with here, and what installs it."""
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


def check_backend() -> None:
    """Raise an error when the backend that Keras is asked to take is none, or not installed."""
    backend = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if backend not in _BACKENDS:
        raise EcsweepError(
            f"KERAS_BACKEND must be one of {', '.join(_BACKENDS)}. Received: {backend!r}."
        )
    if importlib.util.find_spec(backend) is None:
        raise EcsweepError(
            f"KERAS_BACKEND is {backend}, which is not installed. "
            f"Install it with: pip install {_BACKENDS[backend]}"
        )


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


def memory_of(pid: int) -> int:
    """Return the bytes that a process holds in memory, 0 when it is gone."""
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def oom_kills() -> int:
    """Return how many processes the kernel has killed for want of memory, as far as it says.

    Of this process' own group where the kernel counts by group, else of the whole machine.
    """
    with contextlib.suppress(OSError, StopIteration):
        groups = Path("/proc/self/cgroup").read_text().splitlines()
        own = next(line[3:] for line in groups if line.startswith("0::"))
        return _oom_kills(Path(f"/sys/fs/cgroup{own}/memory.events"))
    with contextlib.suppress(OSError, StopIteration):
        return _oom_kills(Path("/proc/vmstat"))
    return 0


def _oom_kills(counters: Path) -> int:
    lines = counters.read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("oom_kill ")))


def description() -> str:
    """Return processor, cores and system in a line."""
    return f"{_cpu()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"


def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown CPU"


def reset_peak_memory() -> None:
    """Make Linux forget the peak of the worker's earlier trials."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mb() -> float:
    """Return the most memory this process held since the trial began, in MiB.

    Where the kernel does not say: what it holds now.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    import psutil

    return float(psutil.Process().memory_info().rss) / 2**20
