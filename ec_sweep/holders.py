"""Who drives a study: a process, told from a later one that has its number."""

import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Holder:
    """The process that drives a study."""

    host: str
    pid: int
    since: str
    started: str
    """When the process began, on the kernel's clock: tells it from a later one of its number."""
    silent: bool = False
    """Whether its connection is gone, so that it is dead or comes back."""

    def __str__(self) -> str:
        """Return it as errors name it."""
        if not self.host:
            return "another process"
        name = f"process {self.pid} on {self.host} since {self.since}"
        return f"{name} (silent: free in a minute unless it comes back)" if self.silent else name

    @property
    def here(self) -> bool:
        """Whether it runs on this machine."""
        return self.host == socket.gethostname()

    @property
    def alive(self) -> bool:
        """Whether it is a living process of this machine."""
        return self.here and self.started != "" and process_start(self.pid) == self.started


NAMELESS = Holder("", 0, "", "")
"""A holder that has not said who it is."""


def process_start(pid: int) -> str | None:
    """Return when a process began, on a clock that nobody sets; ``None`` when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except OSError:
        pass
    import psutil  # where there is no /proc

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
    except psutil.Error:
        return None
