"""What `ecsweep doctor` finds, and how it is mended."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from ec_sweep.errors import EcsweepError


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be."""

    kind: str
    study: str | None
    """``name@scale``, ``None`` where it concerns the home folder."""
    where: str
    problem: str
    remedy: str
    """What ``--fix`` is to do or, where there is no repair, a hand."""
    repair: Callable[[], object] | None = None
    """Mends it; can be killed at any instant and repeated. ``None``: only a hand can."""
    fixed: bool = False

    def mended(self) -> "Finding":
        """Return the finding after its repair, or why that could not be."""
        if self.repair is None:
            return self
        try:
            self.repair()
        except (EcsweepError, OSError) as error:
            return replace(self, problem=f"{self.problem}; not repaired: {error}")
        return replace(self, fixed=True)

    def to_json(self) -> dict[str, Any]:
        """Return the finding as ``doctor --json`` prints it."""
        document = asdict(replace(self, repair=None))
        del document["repair"]
        return document
