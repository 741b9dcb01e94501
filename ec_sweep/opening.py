"""Files opened whatever compresses them, and read in blocks of whole entries."""

import lzma
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from ec_sweep.errors import EcsweepError

BLOCK = 8 << 20  # bytes read at once
LONGEST = 16 << 20  # bytes of a line or an entry; the longest UniProt entries take some 2 MB
_HEAD = 64 << 10  # bytes looked at to recognise a format, or to find where a file is damaged
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ\x00": "xz"}
_SUFFIXES = {".gz": "gzip", ".zst": "zstd", ".xz": "xz"}
_BOM = b"\xef\xbb\xbf"
_OTHERS = {
    b"PK\x03\x04": "a zip archive: unpack it first",
    b"BZh": "compressed with bzip2: unpack it first",
    b"\xff\xfe": "UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "UTF-16 text: save it as UTF-8",
    b"%PDF": "a PDF document",
    b"SQLite format 3\x00": "an SQLite database",
}


class Block(NamedTuple):
    """Some whole entries of a file, its lines ending with LF, and the number of the first line."""

    data: bytes  # ends with LF, except at the end of a file that does not
    line: int


class _DamagedError(Exception):
    """A compressed file that cannot be read on."""


class Opened:
    """A file to be read once from start to end, and how far that is, for progress.

    ``kind`` says in errors what it should be.
    """

    def __init__(self, path: Path, kind: str = "file of proteins") -> None:
        self.path, self.kind = path, kind
        self.position = 0  # bytes on disk read so far
        try:
            self.size = path.stat().st_size
            if not path.is_file():
                raise EcsweepError(f"{path}: not a regular file. Write what it holds to a file.")
            with path.open("rb") as raw:
                self.start = raw.read(1024)
        except OSError as error:
            raise EcsweepError(f"{path}: cannot be read ({error.strerror}).") from error
        if not self.start:
            raise EcsweepError(f"{path}: the file is empty.")
        kinds = (kind for magic, kind in _MAGIC.items() if self.start.startswith(magic))
        self.compression = next(kinds, None)
        claimed = _SUFFIXES.get(path.suffix.lower())
        if claimed and not self.compression:
            raise EcsweepError(
                f"{path}: named {path.suffix} but not a {claimed} file.{_what(self.start)}"
            )

    def head(self) -> bytes:
        """Return the first lines, the last of which may be cut; what is no text is an error."""
        head = b""
        try:
            for piece in self._lines_ended(_HEAD):
                head += piece
                if len(head) >= _HEAD:
                    break
        except _DamagedError as error:
            raise self._damaged(error) from error
        self.position = 0
        if not head.strip():
            inside = " inside" if self.compression else ""
            raise EcsweepError(f"{self.path}: the file{inside} is empty.")
        if what := _what(head):
            raise EcsweepError(f"{self.path}: not a {self.kind}.{what}")
        self._reject_nul(head, 1)
        return head

    def blocks(
        self, separator: bytes, *, kept: int = 0, skip: int = 0, size: int = BLOCK
    ) -> Iterator[Block]:
        """Yield blocks that end behind ``separator``, less its last ``kept`` bytes.

        Those bytes begin the next block, as the ``>`` of FASTA does. The last
        block ends as the file ends. The first ``skip`` lines are left out.
        ``size`` is how many bytes are read at once.
        """
        tail, line = b"", 1
        try:
            for piece in self._lines_ended(size):
                data = tail + piece
                self._reject_nul(data, line, len(tail))
                self._reject_too_long(data, separator, len(tail), line)
                end = data.rfind(separator)
                if end < 0:
                    tail = data
                    continue
                end += len(separator) - kept
                tail = data[end:]
                block = Block(data[:end], line)
                line += block.data.count(b"\n")
                if rest := _without(block, skip):
                    yield rest
        except _DamagedError as error:
            raise self._damaged(error) from error
        if tail and (last := _without(Block(tail, line), skip)):
            yield last

    def _reject_nul(self, data: bytes, line: int, start: int = 0) -> None:
        place = data.find(b"\0", start)
        if place >= 0:
            line += data.count(b"\n", 0, place)
            raise EcsweepError(
                f"{self.path}: line {line}: holds a NUL byte, which no text does. Get it again."
            )

    def _reject_too_long(self, data: bytes, separator: bytes, known: int, line: int) -> None:
        """Raise an error if the entry that ``known`` bytes of began before is without end."""
        end = data.find(separator, max(0, known - len(separator)))
        if end < 0:
            end = len(data) - len(separator) + 1  # less what may be the start of one
        if end > LONGEST:
            what = "the line" if separator == b"\n" else "the entry that begins here"
            raise EcsweepError(
                f"{self.path}: line {line}: {what} has more than {LONGEST >> 20} MB, "
                f"which no {self.kind} holds. Is it what it should be?"
            )

    def _damaged(self, error: Exception) -> EcsweepError:
        """Return the error that says in which line; blocks are too large to tell: read again."""
        line = 1
        with suppress(_DamagedError):
            for piece in self._lines_ended(_HEAD):
                line += piece.count(b"\n")
        return EcsweepError(
            f"{self.path}: line {line}: cut off or damaged {self.compression} file ({error}). "
            "Get it again."
        )

    def _lines_ended(self, size: int) -> Iterator[bytes]:
        """Yield the text less its byte order mark, every line ended by LF alone."""
        text = self._decompressed(size)
        first = b""
        while len(first) < len(_BOM) and (piece := next(text, b"")):
            first += piece
        held = b""
        for piece in _chain(first.removeprefix(_BOM), text):
            data = held + piece
            held = b""
            if b"\r" in data:
                if data.endswith(b"\r"):
                    data, held = data[:-1], b"\r"
                data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            yield data
        if held:
            yield b"\n"

    def _decompressed(self, size: int) -> Iterator[bytes]:
        """Yield what the file holds in pieces of ``size`` bytes."""
        with _stream(self.path, self.compression) as (read, tell):
            while piece := read(size):
                self.position = min(tell(), self.size)
                yield piece
        self.position = self.size


def _chain(first: bytes, others: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from others


def _without(block: Block, skip: int) -> Block | None:
    """Return the block less those of its lines that are among the first ``skip`` of the file."""
    lines = skip + 1 - block.line
    if lines <= 0:
        return block
    rest = block.data.split(b"\n", lines)[lines:]
    return Block(rest[0], skip + 1) if rest and rest[0] else None


@contextmanager
def _stream(
    path: Path, compression: str | None
) -> Iterator[tuple[Callable[[int], bytes], Callable[[], int]]]:
    """Open a file for reading; give what reads it, and what tells the place on disk."""
    if compression is None:
        with path.open("rb", buffering=0) as raw:
            yield raw.read, raw.tell
    elif compression == "xz":
        with path.open("rb") as file:
            yield _Xz(file).read, file.tell
    else:
        import pyarrow as pa

        # Arrow inflates faster than Python's gzip, reads on over several members,
        # and is strict where that is lenient: what follows the last one is an error.
        with pa.OSFile(str(path)) as file, pa.CompressedInputStream(file, compression) as text:

            def read(size: int) -> bytes:
                try:
                    return bytes(text.read(size))
                except (OSError, pa.ArrowInvalid) as error:
                    raise _DamagedError(str(error)) from error

            yield read, file.tell


class _Xz:
    """Reads xz streams, one behind another; Python's own file object skips damaged ones."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ)
        self._input = b""

    def read(self, size: int) -> bytes:
        try:
            while True:
                if self._decoder.eof and not self._next_stream():
                    return b""
                if self._decoder.needs_input and not self._input:
                    self._input = self._file.read(1 << 18)
                    if not self._input:
                        raise _DamagedError("Truncated compressed stream")
                piece, self._input = self._decoder.decompress(self._input, size), b""
                if piece:
                    return piece
        except lzma.LZMAError as error:
            raise _DamagedError(str(error)) from error

    def _next_stream(self) -> bool:
        """Begin with the stream behind the one that ended, past the padding; say if there is."""
        rest = self._decoder.unused_data.lstrip(b"\0")
        while not rest and (more := self._file.read(1 << 18)):
            rest = more.lstrip(b"\0")
        if rest:
            self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ)
            self._input = rest
        return bool(rest)


def _what(start: bytes) -> str:
    """Say what a file that is no text of ours seems to be, or nothing."""
    beginning = start.lstrip().lower()
    if beginning.startswith((b"<!doctype html", b"<html", b"<head")):
        return " It is an HTML page, such as a server sends when a download fails."
    if beginning.startswith((b"<?xml", b"<uniprot")):
        return " It is XML; of UniProt's formats, take TSV."
    if beginning.startswith(b"{"):
        return " It is JSON; of UniProt's formats, take TSV."
    found = (what for magic, what in _OTHERS.items() if start.startswith(magic))
    what = next(found, "")
    return what and f" It is {what}."
