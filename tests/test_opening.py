"""Files in blocks: compressed or not, damaged or whole, read in bounded memory."""

import gzip
import lzma
import tracemalloc
import zlib
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ec_sweep import opening
from ec_sweep.errors import EcsweepError
from ec_sweep.opening import Opened

LINES = b"".join(b"line %d of some text\n" % number for number in range(5000))


def zstd(data: bytes) -> bytes:
    return pa.compress(data, "zstd", asbytes=True)


SQUEEZE = {"gzip": gzip.compress, "zstd": zstd, "xz": lzma.compress, "plain": bytes}


def read(path: Path, separator: bytes = b"\n", **how: int) -> bytes:
    return b"".join(block.data for block in Opened(path).blocks(separator, **how))


@pytest.mark.parametrize("kind", SQUEEZE)
def test_compression_is_known_by_content(kind: str, tmp_path: Path) -> None:
    """Gzip, zstd, xz and plain text are read whatever the name, also several streams joined."""
    path = tmp_path / "proteins.txt"
    path.write_bytes(SQUEEZE[kind](LINES[:9000]) + SQUEEZE[kind](LINES[9000:]))
    opened = Opened(path)
    assert b"".join(block.data for block in opened.blocks(b"\n", size=10_000)) == LINES
    assert opened.position == opened.size == path.stat().st_size
    assert Opened(path).head().startswith(b"line 0 ")


@pytest.mark.parametrize("kind", ["gzip", "zstd", "xz"])
@pytest.mark.parametrize("place", ["start", "middle", "end", "second", "behind"])
def test_damage_is_found(kind: str, place: str, tmp_path: Path) -> None:
    """A compressed file cut anywhere, or with rubbish behind it, is an error with its line."""
    noise = b"".join(b"%x\n" % (number**7) for number in range(6000))
    data = SQUEEZE[kind](noise)
    cut = {
        "start": data[:12],
        "middle": data[: len(data) // 2],
        "end": data[:-3],
        "second": data + data[: len(data) // 2],
        "behind": data + b"rubbish that is no stream",
    }
    path = tmp_path / "x"
    path.write_bytes(cut[place])
    with pytest.raises(EcsweepError, match=rf"x: line \d+: cut off or damaged {kind} file"):
        read(path, size=10_000)


def test_damage_is_found_in_its_place(tmp_path: Path) -> None:
    """The line is the one that could not be read, within 64 KB, however large a block is."""
    noise = b"".join(b"%x\n" % (number**7) for number in range(60_000))
    cut = gzip.compress(noise)[:-100_000]
    path = tmp_path / "x"
    path.write_bytes(cut)
    readable = zlib.decompressobj(wbits=31).decompress(cut)
    with pytest.raises(EcsweepError) as error:
        read(path, size=1 << 23)
    line = int(str(error.value).partition("line ")[2].partition(":")[0])
    assert 0 <= readable.count(b"\n") + 1 - line <= readable[-(64 << 10) :].count(b"\n")


def test_padding_between_xz_streams_is_none_of_ours(tmp_path: Path) -> None:
    """Xz allows zeros behind a stream."""
    (tmp_path / "x").write_bytes(lzma.compress(b"a\n") + bytes(8) + lzma.compress(b"b\n"))
    assert read(tmp_path / "x") == b"a\nb\n"


BAD = [
    (b"", "the file is empty"),
    (gzip.compress(b"", mtime=0), "the file inside is empty"),
    (b"\n \n", "the file is empty"),
    (b"<!DOCTYPE html><html>", "HTML page, such as a server sends"),
    (gzip.compress(b"\n<HTML><body>", mtime=0), "HTML page, such as a server sends"),
    (b"<?xml version='1.0'?>", "It is XML"),
    (b"PK\x03\x04....", "zip archive: unpack it first"),
    (b"BZh91AY", "bzip2: unpack it first"),
    ("Entry".encode("utf-16"), "UTF-16 text: save it as UTF-8"),
    (b"a\nb\nc\0c\n", "line 3: holds a NUL byte"),
]


@pytest.mark.parametrize(("content", "message"), BAD)
def test_what_is_no_text_is_said(content: bytes, message: str, tmp_path: Path) -> None:
    """Empty files, web pages, archives, NUL bytes: one line that says what came."""
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(EcsweepError, match=message):
        Opened(tmp_path / "x").head()


def test_names_that_promise_compression(tmp_path: Path) -> None:
    """A web page named .gz is called what it is; a folder and a missing file, too."""
    (tmp_path / "x.gz").write_bytes(b"<html>429")
    with pytest.raises(EcsweepError, match=r"named \.gz but not a gzip file\. It is an HTML"):
        Opened(tmp_path / "x.gz")
    with pytest.raises(EcsweepError, match="not a regular file"):
        Opened(tmp_path)
    with pytest.raises(EcsweepError, match=r"nothing\.tsv: cannot be read \(No such file"):
        Opened(tmp_path / "nothing.tsv")


def test_nul_bytes_deep_inside(tmp_path: Path) -> None:
    """A NUL byte is found in whatever block, and its line told."""
    (tmp_path / "x").write_bytes(LINES + b"a\0b\n" + LINES)
    with pytest.raises(EcsweepError, match="line 5001: holds a NUL byte"):
        read(tmp_path / "x", size=1000)


@pytest.mark.parametrize("kind", ["plain", "gzip"])
def test_endless_lines_take_no_memory(kind: str, tmp_path: Path) -> None:
    """A line of 100 MB is refused with its number, in far less memory."""
    path = tmp_path / "x"
    path.write_bytes(SQUEEZE[kind](b"first\nsecond\n" + b"A" * 100_000_000))
    tracemalloc.start()
    with pytest.raises(EcsweepError, match="line 3: the line has more than 16 MB"):
        read(path)
    assert tracemalloc.get_traced_memory()[1] < 80e6
    tracemalloc.stop()


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 60), st.integers(0, 60), st.sampled_from([b"\n", b"\n>", b"\n//\n"]))
def test_the_longest_line_does_not_depend_on_blocks(
    tmp_path_factory: pytest.TempPathFactory, size: int, length: int, separator: bytes
) -> None:
    """Whether an entry is too long is a matter of its length alone."""
    path = tmp_path_factory.mktemp("long") / "x"
    path.write_bytes(b"a" + separator + b"b" * length + separator + b"c" * 9)
    allowed = 30
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "LONGEST", allowed)
        kept = len(separator) - 1 if separator == b"\n>" else 0
        try:
            blocks = list(Opened(path).blocks(separator, kept=kept, size=min(size, allowed)))
        except EcsweepError:
            assert length + kept > allowed
        else:
            assert length + kept <= allowed
            assert b"".join(block.data for block in blocks) == path.read_bytes()


TEXTS = st.lists(
    st.sampled_from([b"a", b">", b"/", b"//\n", b"\n", b"\r", b"\r\n", b"\xef\xbb\xbf"])
)


@settings(deadline=None)
@given(TEXTS, st.integers(1, 9), st.sampled_from([(b"\n", 0), (b"\n>", 1), (b"\n//\n", 0)]))
def test_blocks_are_whole_entries(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], size: int, cut: tuple[bytes, int]
) -> None:
    """Blocks of any size join to the text, and end where an entry does; lines are counted."""
    separator, kept = cut
    path = tmp_path_factory.mktemp("blocks") / "x"
    path.write_bytes(b"x" + b"".join(parts))
    text = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    blocks = list(Opened(path).blocks(separator, kept=kept, size=size))
    assert b"".join(block.data for block in blocks) == text
    done = b""
    for number, block in enumerate(blocks):
        assert block.data
        assert block.line == 1 + done.count(b"\n")
        done += block.data
        if number < len(blocks) - 1:
            assert text[: len(done) + kept].endswith(separator)


@settings(deadline=None)
@given(st.integers(1, 50), st.integers(0, 5))
def test_first_lines_are_skipped(
    tmp_path_factory: pytest.TempPathFactory, size: int, skip: int
) -> None:
    """A header is left out of the blocks, wherever they end, and the lines stay numbered."""
    path = tmp_path_factory.mktemp("skip") / "x"
    path.write_bytes(b"\xef\xbb\xbf1\r\n22\r\n333\r\n4444\r\n55555")
    blocks = list(Opened(path).blocks(b"\n", skip=skip, size=size))
    rest = b"1\n22\n333\n4444\n55555".split(b"\n")[skip:]
    assert b"".join(block.data for block in blocks) == b"\n".join(rest)
    if blocks:
        assert blocks[0].line == skip + 1
