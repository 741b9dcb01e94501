"""Stopping a study from another terminal."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from ec_sweep.errors import EcsweepError
from ec_sweep.holders import Holder
from ec_sweep.locks import holder_of
from ec_sweep.planning import Place

_LOOK = 0.5  # seconds between looks at whether it has ended
_SAY = 15.0  # seconds between signs of life


@dataclass(frozen=True)
class Cancelled:
    """Who drove a study, and whether it has stopped."""

    holder: Holder
    stopped: bool


def cancel(place: Place, name: str, timeout: float, say: Callable[[str], None]) -> Cancelled | None:
    """Stop the driver of a study (``name@scale``) and wait for it; ``None`` when there is none.

    Raises:
        EcsweepError: the driver is not this machine's, or not this user's, to stop.
    """
    holder = holder_of(place.home, name, place.storage)
    if holder is None:
        return None
    if not holder.alive:
        where = f"on {holder.host}" if holder.host and not holder.here else "where it runs"
        raise EcsweepError(
            f"{name} is run by {holder}. Only there can it be stopped: use this command {where}."
        )
    _terminate(name, holder)
    say(f"Asked {holder} to stop {name}; waiting for its running trials.")
    begin = said = time.monotonic()
    while time.monotonic() < begin + timeout:
        if holder_of(place.home, name, place.storage) != holder:  # free, or another's by now
            return Cancelled(holder, stopped=True)
        if time.monotonic() > said + _SAY:
            said = time.monotonic()
            say(f"Still stopping after {said - begin:.0f} s.")
        time.sleep(_LOOK)
    return Cancelled(holder, stopped=False)


def _terminate(name: str, holder: Holder) -> None:
    """Send SIGTERM to a driver, and to no other process that has its number by now."""
    try:
        handle = os.pidfd_open(holder.pid) if hasattr(os, "pidfd_open") else None
        try:
            if not holder.alive:
                return  # it has just ended
            if handle is None:
                os.kill(holder.pid, signal.SIGTERM)
            else:
                signal.pidfd_send_signal(handle, signal.SIGTERM)
        finally:
            if handle is not None:
                os.close(handle)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise EcsweepError(
            f"{name} is run by {holder}, which belongs to another user. Ask them, or use sudo."
        ) from error
