"""What a measurement says of the libraries that it was made with."""

import contextlib
import importlib.metadata
import platform


def versions(*names: str) -> str:
    """Return Python's version and those of the libraries named, as far as they are installed."""
    found = [f"Python {platform.python_version()}"]
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return ", ".join(found)
