"""What a study will take, in words."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from ec_sweep.errors import plural
from ec_sweep.estimates import Estimate, Part
from ec_sweep.plan import size
from ec_sweep.progress import duration


def lines(found: Estimate) -> Iterator[str]:
    """Yield an estimate of time, memory and disk, and what each rests on."""
    yield from _time(found)
    measured = max((part.memory for part in found.parts), default=0)
    least = max((part.memory_at_least for part in found.parts), default=0)
    if measured:
        yield f"Memory: {size(measured)} a trial at most, as measured."
    elif least:
        yield f"Memory: at least {size(least)} a trial, for its weights alone; none is measured."
    parts = {name: count for name, count in asdict(found.disk).items() if count}
    listed = ", ".join(f"{name} {size(count)}" for name, count in parts.items())
    if found.disk.total:
        yield f"Disk: at most {size(found.disk.total)} ({listed}); {size(found.free)} free."


def _time(found: Estimate) -> Iterator[str]:
    seconds = found.seconds
    known = [part for part in found.parts if part.seconds]
    unknown = [part for part in found.parts if not part.seconds]
    if seconds:
        low, high = duration(seconds.low), duration(seconds.high)
        span = f" ({low} to {high})" if low != high else ""
        beside = f"{found.workers} side by side" if found.workers > 1 else "one at a time"
        left = "what is left" if not unknown else f"{_cells(known)} of what is left"
        line = f"About {duration(seconds.typical)} for {left}{span}, {beside}"
        yield f"{line}, {_basis(known[0])}." if len(known) == 1 else f"{line}:"
    if len(known) > 1:
        for part in known:
            yield (
                f"    {_cells([part])} of {part.model}, length {part.length:,}, "
                f"{duration(part.seconds.typical if part.seconds else 0)} each, {_basis(part)}"
            )
    if unknown:
        models = ", ".join(dict.fromkeys(part.model for part in unknown))
        yield (
            f"No estimate of time for {_cells(unknown)} ({models}): no such network has "
            f"been trained on as long sequences here. {found.to_learn}"
        )


def _cells(parts: Sequence[Part]) -> str:
    count = math.fsum(part.cells for part in parts)
    whole = max(1, round(count))
    return f"{whole:,} {plural('cell', whole)}"


def _basis(part: Part) -> str:
    """Say from what a time is taken, and what makes it less sure."""
    cells = f"{part.runs:,} {plural('earlier cell', part.runs)} of {part.model}"
    if part.certainty == "scaled":
        other = f"{cells} of other {' and '.join(part.unlike)}"
        by = f" {part.times:,.1f}-fold" if abs(part.times - 1) > 0.05 else ""
        return f"less sure: scaled{by} from {other}"
    if part.unlike:
        return f"from {cells} of this length and size, but of other {' and '.join(part.unlike)}"
    return f"from {cells} of this length and size"
