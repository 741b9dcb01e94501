"""Downloads that survive cuts: pages become a file, and what is there is never asked for twice."""

import gzip
import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ec_sweep.errors import EcsweepError
from ec_sweep.paths import DISK_FULL, write_atomically
from ec_sweep.uniprot import FIELDS, Page, Service

LICENCE = "CC BY 4.0, UniProt Consortium"
_GZIP_LEVEL = 6
_MANY = 5_000_000  # proteins; UniProt itself sends those who want more to its files


@dataclass(frozen=True)
class State:
    """How far a download has come; stands beside the part of the file that is there."""

    query: str
    url: str  # of the first page: another server, query or field is another file
    next: str | None
    count: int  # proteins written
    total: int  # proteins announced
    bytes: int  # written; what stands behind is torn
    release: str | None
    release_date: str | None
    header: str


class _ChangedError(Exception):
    """The result is not what its first pages were taken from."""


class Fetch:
    """A search of UniProt on its way to a gzipped file.

    Each page is one member of the file, written before the state that counts
    it. So a cut at any instant costs a page at most, and the file is the same
    as without.
    """

    def __init__(
        self,
        service: Service,
        query: str,
        out: Path,
        *,
        note: Callable[[str], object],
        progress: Callable[[int, int], object],
    ) -> None:
        """Say what happens with ``note``, and how many of how many are there with ``progress``."""
        self._service, self._query, self._out = service, query, out
        self._note, self._progress = note, progress
        self._url = service.first(query)
        self._part = out.with_name(f"{out.name}.part")
        self._state_file = out.with_name(f"{out.name}.part.json")
        self._state: State | None = None

    def run(self, *, force: bool = False, restart: bool = False) -> dict[str, Any]:
        """Fetch what is missing, check the whole and put it in place; returns its provenance.

        Raises:
            EcsweepError: it cannot be had now, or not at all; what is there is kept.
        """
        with _writing(self._out), _alone(self._out):
            if self._out.exists() and not force:
                raise EcsweepError(f"{self._out} is there already. --force replaces it.")
            self._state = None if restart else self._left()
            try:
                self._pages()
            except _ChangedError as change:
                self._note(f"{change}: beginning anew.")
                self._state = None
                self._pages_of_one_release()
            finally:
                if self._part.exists() and not self._part.stat().st_size:
                    self._part.unlink()
            return self._finish()

    def _left(self) -> State | None:
        """Return how far an earlier run came, ``None`` where it left nothing to go on from."""
        try:
            state = State(**json.loads(self._state_file.read_bytes()))
            usable = 0 <= state.bytes <= self._part.stat().st_size
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            usable = False
        if not usable:
            self._note(f"{self._part} does not fit what is noted of it: beginning anew.")
            return None
        if state.url != self._url:
            raise EcsweepError(
                f"{self._part} holds {state.count:,} proteins of another search: {state.query!r} "
                f"({state.url}). Ask for the same, choose another --out, or begin anew with "
                "--restart."
            )
        self._note(
            f"Going on after {state.count:,} of {state.total:,} proteins (release {state.release})."
        )
        return state

    def _pages_of_one_release(self) -> None:
        try:
            self._pages()
        except _ChangedError as change:
            raise EcsweepError(
                f"{change} a second time. UniProt is being updated: try again later."
            ) from change

    def _pages(self) -> None:
        """Append the pages that are missing."""
        state = self._state
        self._part.touch()
        with self._part.open("r+b") as file:
            file.truncate(state.bytes if state else 0)
            file.seek(0, os.SEEK_END)
            address = state.next if state else self._url
            while address:
                try:
                    page = self._service.page(address)
                except EcsweepError as error:
                    stopped = str(error).rstrip(".")
                    raise EcsweepError(f"{stopped}. {self._kept()}") from error
                state = self._joined(page)
                lines = page.rows if self._state else page.header + b"\n" + page.rows
                # no time of day: the same pages are the same bytes
                file.write(gzip.compress(lines, _GZIP_LEVEL, mtime=0))
                file.flush()
                os.fsync(file.fileno())
                state = replace(state, bytes=file.tell())
                write_atomically(self._state_file, json.dumps(asdict(state), indent=2))
                self._state, address = state, state.next
                self._progress(state.count, state.total)

    def _joined(self, page: Page) -> State:
        """Return the state with a page added; raises where it is not of the same result."""
        header = page.header.decode("utf-8", "replace")
        old = self._state
        if old is None:
            if not page.total:
                self._part.unlink()
                raise EcsweepError(f"UniProt knows no protein for this query: {self._query!r}.")
            if page.total > _MANY:
                self._note(
                    f"{page.total:,} proteins take days by pages. The whole of UniProtKB is had "
                    "sooner from https://ftp.uniprot.org (data import reads its .dat.gz files)."
                )
            old = State(
                self._query, self._url, None, 0, page.total, 0, page.release, page.release_date,
                header,
            )  # fmt: skip
        if page.release != old.release:
            raise _ChangedError(f"UniProt went from release {old.release} to {page.release}")
        if (page.total, header) != (old.total, old.header):
            raise _ChangedError(f"the result changed from {old.total:,} to {page.total:,} proteins")
        return replace(old, next=page.next, count=old.count + page.count)

    def _kept(self) -> str:
        if self._state is None:
            return "Nothing is fetched yet."
        return (
            f"{self._state.count:,} of {self._state.total:,} proteins are kept in {self._part}: "
            "the same command goes on from there (--restart begins anew)."
        )

    def _finish(self) -> dict[str, Any]:
        """Check what is on disk, note where it is from, and give it its name."""
        state = self._state
        if state is None:
            raise AssertionError("unreachable: the first page makes a state")
        there = _rows(self._part)
        if not state.count == state.total == there:
            self._state_file.unlink()  # going on from here would end here again
            raise EcsweepError(
                f"UniProt announced {state.total:,} proteins, sent {state.count:,}, and {there:,} "
                f"stand in {self._part}, which is kept to look at. The same command begins anew."
            )
        with self._part.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        found = {
            "source": "UniProtKB",
            "release": state.release,
            "release_date": state.release_date,
            "query": state.query,
            "fields": FIELDS,
            "url": state.url,
            "fetched": datetime.now(UTC).isoformat(timespec="seconds"),
            "count": state.count,
            "bytes": self._part.stat().st_size,
            "sha256": digest,
            "licence": LICENCE,
        }
        write_atomically(_beside(self._out), json.dumps(found, indent=2) + "\n")
        os.replace(self._part, self._out)
        self._state_file.unlink(missing_ok=True)
        return found


def provenance(path: Path) -> dict[str, Any] | None:
    """Return where a fetched file is from, ``None`` for files that were not fetched, or changed."""
    try:
        found = json.loads(_beside(path).read_bytes())
        same = found["bytes"] == path.stat().st_size and found["source"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return found if same else None


def _beside(out: Path) -> Path:
    return out.with_name(f"{out.name}.json")


def _rows(part: Path) -> int:
    """Return how many rows stand under the header of a gzipped file, 0 where it is damaged."""
    lines = 0
    try:
        with gzip.open(part, "rb") as file:
            while block := file.read(2**20):
                lines += block.count(b"\n")
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return 0
    return max(0, lines - 1)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep other fetches from writing the same file."""
    from filelock import FileLock, Timeout

    lock = out.with_name(f".{out.name}.lock")
    try:
        with FileLock(lock, timeout=0):
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)  # nobody waits for it
    except Timeout:
        raise EcsweepError(f"{out} is being fetched by another process already.") from None


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Turn errors of the file system into one line that says what to do."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.is_dir():
            raise EcsweepError(f"--out must be a file, but {out} is a folder.")
        with tempfile.TemporaryFile(dir=out.parent):
            pass  # a lock where nothing can be written would look like one that another holds
        yield
    except BrokenPipeError:  # who reads our output went away: the file is not at fault
        raise
    except OSError as error:
        advice = (
            "Make room; the same command then goes on."
            if error.errno in DISK_FULL
            else "Choose another place with --out."
        )
        raise EcsweepError(
            f"{out}: cannot be written ({error.strerror or error}). {advice}"
        ) from error
