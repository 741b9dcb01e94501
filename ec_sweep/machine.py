"""Cores, GPUs and memory of this machine."""

import contextlib
import importlib.util
import os
import platform
import shutil
import stat
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ec_sweep.errors import EcsweepError

_BACKENDS = {"tensorflow": "tensorflow", "jax": "'ecsweep[jax]'"}
"""What Keras can compute with here, and what installs it."""
_MPS_PIPES = "/tmp/nvidia-mps"
"""Where CUDA itself looks for the pipes of its Multi-Process Service, unless told otherwise."""
_NO_LIMIT = 1 << 60
"""Bytes from which on a limit of memory is none."""


@dataclass(frozen=True)
class Card:
    """The memory of a GPU, in bytes."""

    total: int
    free: int


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


def available_memory() -> int:
    """Return the bytes that new processes could take: the machine's, or a container's if less."""
    import psutil

    groups = _groups()
    return min([int(psutil.virtual_memory().available), *(left for _, left in groups)])


def total_memory() -> int:
    """Return the bytes that all processes together can have, of the machine or a container."""
    import psutil

    return min([int(psutil.virtual_memory().total), *(most for most, _ in _groups())])


def _groups(root: Path = Path("/sys/fs/cgroup")) -> list[tuple[int, int]]:
    """Return the limits that control groups set this process, and what is left of each."""
    found = []
    names = (  # of version 2 and 1
        ("0::", root, "memory.max", "memory.current", "inactive_file"),
        (":memory:", root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
         "total_inactive_file"),
    )  # fmt: skip
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            for sign, top, limit, usage, cache in names:
                if sign in line:
                    own = top / line.partition(sign)[2].lstrip("/")
                    parents = [own, *own.parents]
                    for group in parents[: parents.index(top) + 1]:
                        found += _limit_of(group, limit, usage, cache)
    return found


def _limit_of(group: Path, limit: str, usage: str, cache: str) -> list[tuple[int, int]]:
    """Return a group's limit and what it leaves, nothing when it sets none or is not to be seen."""
    try:
        most = int((group / limit).read_text())  # "max": none
        used = int((group / usage).read_text())
        lines = (group / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):
        return []
    given_back = sum(int(line.split()[1]) for line in lines if line.split()[0] == cache)
    return [(most, max(0, most - used + given_back))] if most < _NO_LIMIT else []


def cards(gpus: Sequence[str]) -> list[Card | None]:
    """Return the memory of GPUs, ``None`` where it cannot be told (a part of one, say)."""
    fields = "index,uuid,memory.total,memory.free"
    query = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    found: dict[str, Card] = {}
    try:
        listed = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return [None] * len(gpus)
    for line in listed.stdout.splitlines():
        with contextlib.suppress(ValueError):  # "[N/A]"
            index, uuid, total, free = (field.strip() for field in line.split(","))
            found[index] = found[uuid] = Card(int(total) << 20, int(free) << 20)
    return [found.get(gpu.strip()) for gpu in gpus]


def mps_runs() -> bool:
    """Whether CUDA's Multi-Process Service runs, by the pipe that controls it.

    It lets kernels of several processes run at once. Whoever owns the machine
    starts it; CUDA finds it without our doing.
    """
    folder = os.environ.get("CUDA_MPS_PIPE_DIRECTORY") or _MPS_PIPES
    with contextlib.suppress(OSError):
        return stat.S_ISFIFO((Path(folder) / "control").stat().st_mode)
    return False


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
