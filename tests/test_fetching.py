"""Fetching from UniProt, from a server on this machine that behaves like its REST service."""

import gzip
import hashlib
import json
import random
import re
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ec_sweep import fetching, uniprot
from ec_sweep.cli import cli
from ec_sweep.errors import EcsweepError
from ec_sweep.fetching import Fetch
from ec_sweep.uniprot import Service
from tests.conftest import Ecsweep, kill, wait_for

HEADER = "Entry\tReviewed\tEC number\tLength\tFragment\tSequence"
PAGE = 5  # the server's pages are small, so that a few proteins fill several
QUERY = "(reviewed:true) AND (length:[50 TO 1000])"


def protein(number: int) -> str:
    draw = random.Random(number)
    sequence = "".join(draw.choices("ACDEFGHIKLMNPQRSTVWY", k=draw.randint(50, 1000)))
    ec = draw.choice(["", "3.1.1.1", "7.1.1.2; 1.6.5.3"])
    return f"P{number:05}\treviewed\t{ec}\t{len(sequence)}\t\t{sequence}\n"


Fault = Callable[["_Handler", bytes], None]


@dataclass
class Rest:
    """What the server has, how it fails, and what it was asked."""

    proteins: list[str] = field(default_factory=lambda: [protein(n) for n in range(23)])
    faults: dict[int, list[Fault]] = field(default_factory=dict)  # by the offset of the page
    announced: int | None = None
    release: str = "2026_03"
    link: str = "http://{host}/uniprotkb/search?{query}"
    address: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    agents: set[str] = field(default_factory=set)
    held: threading.Event = field(default_factory=threading.Event)

    @property
    def text(self) -> bytes:
        return (HEADER + "\n" + "".join(self.proteins)).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    rest: Rest

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        rest, parts = self.rest, urlsplit(self.path)
        asked = {name: value[0] for name, value in parse_qs(parts.query).items()}
        offset = int(asked.pop("cursor", 0))
        rest.asked.append(asked)
        rest.offsets.append(offset)
        rest.agents.add(self.headers["User-Agent"])
        rows = rest.proteins[offset : offset + PAGE]
        body = (HEADER + "\n" + "".join(rows)).encode()
        faults = rest.faults.get(offset)
        if faults:
            faults.pop(0)(self, body)
        else:
            self.answer(200, body, **self.paging(parts.query, offset))

    def paging(self, query: str, offset: int) -> dict[str, str]:
        rest = self.rest
        total = len(rest.proteins) if rest.announced is None else rest.announced
        found = {
            "X-Total-Results": str(total),
            "x-uniprot-release": rest.release,
            "X-UniProt-Release-Date": "02-September-2026",
        }
        if offset + PAGE < len(rest.proteins):
            query = query.partition("&cursor=")[0] + f"&cursor={offset + PAGE}"
            link = rest.link.format(host=self.headers["Host"], query=query)
            found["Link"] = f'<{link}>; rel="next"'
        return found

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Answer, compressed where that is accepted."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if status == 200 and "gzip" in self.headers["Accept-Encoding"]:
            body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
        headers.setdefault("Content-Type", "text/plain;format=tsv")
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def says(status: int, body: bytes = b"", **headers: str) -> Fault:
    return lambda handler, _: handler.answer(status, body, **headers)


def cut_short(handler: _Handler, body: bytes) -> None:
    """Promise more bytes than are sent."""
    paging = handler.paging(urlsplit(handler.path).query, 0)
    handler.close_connection = True
    handler.answer(200, body, Content_Length=str(len(body) + 1000), **paging)


def cut_chunks(handler: _Handler, body: bytes) -> None:
    """End within the chunks of an answer."""
    handler.close_connection = True
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.send_header("X-Total-Results", str(len(handler.rest.proteins)))
    handler.end_headers()
    handler.wfile.write(b"%x\r\n%s\r\n" % (len(body) // 2, body[: len(body) // 2]))


def whole_but(change: Callable[[bytes], bytes]) -> Fault:
    """Answer as always, with a changed table."""

    def fault(handler: _Handler, body: bytes) -> None:
        parts = urlsplit(handler.path)
        offset = int(parse_qs(parts.query).get("cursor", ["0"])[0])
        handler.answer(200, change(body), **handler.paging(parts.query, offset))

    return fault


def hangs(handler: _Handler, _: bytes) -> None:
    handler.rest.held.wait(60)
    handler.close_connection = True


def resets(handler: _Handler, _: bytes) -> None:
    handler.close_connection = True


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def rest() -> Iterator[Rest]:
    found = Rest()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"rest": found}))
    found.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield found
    found.held.set()
    server.shutdown()
    server.server_close()
    thread.join()


@dataclass
class Run:
    """A fetch in this process, that does not really wait."""

    rest: Rest
    out: Path
    waits: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __call__(self, query: str = QUERY, tries: int = 4, **options: bool) -> dict[str, Any]:
        service = Service(self.rest.address, tries, self.notes.append, self.waits.append)
        fetch = Fetch(service, query, self.out, note=self.notes.append, progress=lambda *_: None)
        return fetch.run(**options)

    def fails(self, *, tries: int = 2, **options: bool) -> str:
        with pytest.raises(EcsweepError) as raised:
            self(tries=tries, **options)
        assert not self.out.exists()
        return str(raised.value)

    @property
    def part(self) -> Path:
        return self.out.with_name(f"{self.out.name}.part")

    @property
    def text(self) -> bytes:
        return gzip.decompress(self.out.read_bytes())


@pytest.fixture
def fetch(rest: Rest, tmp_path: Path) -> Run:
    return Run(rest, tmp_path / "new" / "proteins.tsv.gz")


def test_all_pages_become_one_file_that_says_where_it_is_from(rest: Rest, fetch: Run) -> None:
    """Pages are joined under one header; query, release, count and checksum are noted."""
    found = fetch()
    assert fetch.text == rest.text
    assert rest.asked[0] == {
        "query": QUERY,
        "fields": "accession,reviewed,ec,length,fragment,sequence",
        "format": "tsv",
        "sort": "accession asc",
        "size": "500",
    }
    assert rest.offsets == [0, 5, 10, 15, 20]
    assert all(agent.startswith("ecsweep/") for agent in rest.agents)
    assert found == json.loads(fetch.out.with_name("proteins.tsv.gz.json").read_text())
    assert found["sha256"] == hashlib.sha256(fetch.out.read_bytes()).hexdigest()
    assert (found["count"], found["query"]) == (23, QUERY)
    assert (found["release"], found["release_date"]) == ("2026_03", "02-September-2026")
    left = {file.name for file in fetch.out.parent.iterdir()}
    assert left == {"proteins.tsv.gz", "proteins.tsv.gz.json"}
    assert fetching.provenance(fetch.out) == found
    fetch.out.write_bytes(b"changed")
    assert fetching.provenance(fetch.out) is None


def test_one_page_and_the_last_full_page_are_whole_results(rest: Rest, fetch: Run) -> None:
    """A result ends where no next page is named, full or not."""
    for count in (1, PAGE, 2 * PAGE):
        rest.proteins = [protein(number) for number in range(count)]
        assert fetch(force=True)["count"] == count
        assert fetch.text == rest.text


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (says(429, Retry_After="7"), "answered 429 Too Many Requests"),
        (says(500, b"<html>"), "answered 500 Internal Server Error"),
        (says(503), "answered 503 Service Unavailable"),
        (cut_short, "broke off its answer"),
        (cut_chunks, "broke off its answer"),
        (resets, "cannot be reached"),
        (whole_but(lambda body: body[:-9]), "sent a damaged page (row "),
        (whole_but(lambda _: (HEADER + "\n").encode()), "sent a page that leads nowhere"),
        (whole_but(lambda body: gzip.compress(body)[:-20]), "sent a damaged gzip file"),
        (
            whole_but(lambda _: f"{HEADER}\n\nError encountered when streaming data.".encode()),
            "sent a damaged page (row 1",
        ),
    ],
)
def test_what_passes_is_tried_again(rest: Rest, fetch: Run, fault: Fault, reason: str) -> None:
    """Busy and failing servers, cut and damaged answers cost a wait, and nothing else."""
    rest.faults = {0: [fault], 10: [fault, fault]}
    fetch()
    assert fetch.text == rest.text
    assert rest.offsets == [0, 0, 5, 10, 10, 10, 15, 20]
    assert len(fetch.waits) == 3
    assert fetch.notes[0].startswith(f"127.0.0.1 {reason}")
    assert ": try 2 of 4 in " in fetch.notes[0]
    assert len(fetch.notes) == 3


def test_waits_double_unless_the_server_says_how_long(rest: Rest, fetch: Run) -> None:
    """Back-off is exponential with jitter; Retry-After counts in seconds and as a date."""
    date = formatdate(time.time() + 40, usegmt=True)
    busy = [says(429), says(503), says(429, Retry_After="7"), says(503, Retry_After=date)]
    rest.faults = {5: [*busy, says(429, Retry_After="soon"), says(500), says(500), says(500)]}
    fetch(tries=9)
    assert fetch.waits[2] == 7
    assert 35 < fetch.waits[3] <= 40
    for wait, most in zip(fetch.waits[:2] + fetch.waits[4:], (1, 2, 16, 32, 60, 60), strict=True):
        assert most / 2 <= wait <= most


def test_a_server_that_asks_for_hours_is_left_to_people(rest: Rest, fetch: Run) -> None:
    """No command sleeps for hours: what is there is kept."""
    rest.faults = {10: [says(429, Retry_After="7200")]}
    error = fetch.fails()
    assert "asks to wait 120 minutes. 10 of 23 proteins are kept in" in error
    assert not fetch.waits


def test_tries_end_and_the_next_run_goes_on(rest: Rest, fetch: Run) -> None:
    """After the last try it is said how to go on; only what is missing is asked for."""
    whole = Run(rest, fetch.out.with_name("whole.tsv.gz"))
    whole()
    rest.faults, rest.offsets = {10: [says(500), says(500)]}, []
    error = fetch.fails()
    assert error.startswith("127.0.0.1 answered 500 Internal Server Error, 2 times in a row. ")
    assert "10 of 23 proteins are kept" in error
    assert "the same command goes on from there" in error
    assert rest.offsets == [0, 5, 10, 10]
    with fetch.part.open("ab") as file:
        file.write(b"\x1f\x8btorn by a crash")
    fetch()
    assert rest.offsets == [0, 5, 10, 10, 10, 15, 20]
    assert "Going on after 10 of 23 proteins (release 2026_03)." in fetch.notes
    assert fetch.out.read_bytes() == whole.out.read_bytes()


@pytest.mark.parametrize("announced", [22, 24])
def test_a_wrong_count_is_an_error_and_what_came_is_kept(
    rest: Rest, fetch: Run, announced: int
) -> None:
    """More or fewer proteins than announced make no file."""
    rest.announced = announced
    error = fetch.fails()
    assert f"UniProt announced {announced} proteins, sent 23, and 23 stand in" in error
    assert gzip.decompress(fetch.part.read_bytes()) == rest.text
    rest.announced = None
    fetch()
    assert fetch.text == rest.text


def test_a_part_damaged_on_disk_is_seen_at_the_end(rest: Rest, fetch: Run) -> None:
    """The count is taken from what is on disk, not from what was received."""
    rest.faults = {10: [says(400)]}
    fetch.fails()
    with fetch.part.open("r+b") as file:
        file.seek(100)
        file.write(b"damaged")
    assert "sent 23, and 0 stand in" in fetch.fails()
    fetch()
    assert fetch.text == rest.text


def test_a_part_that_shrank_is_not_gone_on_from(rest: Rest, fetch: Run) -> None:
    """Where the part does not fit its state, the fetch begins anew and says so."""
    rest.faults = {10: [says(400)], 5: [], 0: []}
    fetch.fails()
    fetch.part.write_bytes(b"x")
    fetch()
    assert "beginning anew" in fetch.notes[-1]
    assert fetch.text == rest.text


def test_a_new_release_begins_anew(rest: Rest, fetch: Run) -> None:
    """Two releases are never mixed, neither within a run nor between two."""

    def publish(handler: _Handler, _: bytes) -> None:
        rest.release, rest.proteins = "2026_04", [protein(number) for number in range(50, 70)]
        handler.do_GET()

    rest.faults = {10: [publish]}
    assert fetch()["release"] == "2026_04"
    assert fetch.text == rest.text
    assert "UniProt went from release 2026_03 to 2026_04: beginning anew." in fetch.notes

    rest.faults = {10: [says(400)]}
    fetch.out.unlink()
    fetch.fails()
    rest.release = "2026_05"
    assert fetch()["release"] == "2026_05"
    assert fetch.text == rest.text


def test_releases_that_alternate_are_an_error(rest: Rest, fetch: Run) -> None:
    """A server in the middle of an update is not asked for ever."""

    def flip(handler: _Handler, _: bytes) -> None:
        rest.release = "2026_04" if rest.release == "2026_03" else "2026_03"
        handler.do_GET()

    rest.faults = {10: [flip], 15: [flip]}
    assert "a second time. UniProt is being updated: try again later." in fetch.fails()


def test_another_search_does_not_go_on_in_the_same_part(rest: Rest, fetch: Run) -> None:
    """A part of another search is refused; --restart begins anew."""
    rest.faults = {10: [says(400)]}
    fetch.fails()
    with pytest.raises(EcsweepError, match="holds 10 proteins of another search"):
        fetch("insulin")
    assert fetch("insulin", restart=True)["query"] == "insulin"
    assert fetch.text == rest.text


def test_two_fetches_do_not_write_the_same_file(fetch: Run) -> None:
    """The second is told, and touches nothing."""
    fetch.out.parent.mkdir()
    with FileLock(fetch.out.with_name(".proteins.tsv.gz.lock")):
        assert "is being fetched by another process" in fetch.fails()
    fetch()


def test_a_file_that_is_there_is_replaced_only_when_asked(rest: Rest, fetch: Run) -> None:
    """--force replaces a file, but not before the new one is complete."""
    fetch.out.parent.mkdir()
    fetch.out.write_text("mine")
    with pytest.raises(EcsweepError, match="is there already"):
        fetch()
    rest.faults = {10: [says(400)]}
    with pytest.raises(EcsweepError, match="refuses"):
        fetch(force=True)
    assert fetch.out.read_text() == "mine"
    fetch(force=True)
    assert fetch.text == rest.text


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (
            says(200, b"<!doctype html><title>Log in</title>", Content_Type="text/html"),
            "answered with a web page instead of data",
        ),
        (says(200, b"\n <html>sorry</html>"), "answered with a web page instead of data"),
        (says(302, Location="https://elsewhere.example/x"), "redirects at another server"),
        (says(301, Location="http://127.0.0.1:1/x"), "redirects at another server"),
        (says(301, Location="http://[/"), "127.0.0.1: Invalid IPv6 URL"),
        (says(200, f"{HEADER}\n".encode(), X_Total_Results="9" * 5000), "does not answer as"),
        (says(200, b"Entry\tSequence\n", X_Total_Results="1"), "does not answer as UniProt's"),
        (says(200, HEADER.encode() + b"\n"), "does not answer as UniProt's"),
        (says(404), "refuses (404 Not Found)"),
        (
            says(400, b'{"messages": ["\'foo\' is not a valid search field"]}'),
            "refuses (400 Bad Request): 'foo' is not a valid search field",
        ),
    ],
)
def test_what_is_no_data_is_an_error_at_once(
    rest: Rest, fetch: Run, fault: Fault, reason: str
) -> None:
    """Refusals, web pages and other servers are not tried again."""
    rest.faults = {5: [fault]}
    error = fetch.fails()
    assert reason in error
    assert "5 of 23 proteins are kept" in error
    assert not fetch.waits


def test_redirects_within_the_server_are_followed(rest: Rest, fetch: Run) -> None:
    """A moved page is found, but not for ever."""
    rest.faults = {0: [says(302, Location=f"{rest.address}/moved?query=x&cursor=0")]}
    fetch()
    assert fetch.text == rest.text
    rest.faults = {0: [says(302, Location="/again")] * 9}
    fetch.out.unlink()
    assert "redirects without end" in fetch.fails()


def test_the_next_page_stays_on_the_server(rest: Rest, fetch: Run) -> None:
    """A link to another host is not followed, one in another scheme is in ours."""
    rest.link = "https://{host}/uniprotkb/search?{query}"
    fetch()
    assert fetch.text == rest.text
    fetch.out.unlink()
    rest.link = "http://[/uniprotkb/search?{query}"
    assert "continues at another server" in fetch.fails()
    rest.link = "http://elsewhere.example/uniprotkb/search?{query}"
    assert "continues at another server, which is not followed" in fetch.fails()


def test_a_query_without_proteins_is_an_error(rest: Rest, fetch: Run) -> None:
    """An empty result makes no file."""
    rest.proteins = []
    assert f"UniProt knows no protein for this query: {QUERY!r}." in fetch.fails()
    assert not fetch.part.exists()


def test_silence_and_unreachable_servers_are_said(
    rest: Rest, fetch: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that says nothing is given up like one that is not there."""
    monkeypatch.setattr(uniprot, "_TIMEOUT", (1.0, 0.1))
    rest.faults = {0: [hangs, hangs]}
    error = fetch.fails()
    assert "127.0.0.1 does not answer in time, 2 times in a row. Nothing is fetched yet." in error
    assert not list(fetch.out.parent.glob("*.part")) + list(fetch.out.parent.glob(".*.lock"))
    rest.address = "http://127.0.0.1:1"
    assert "127.0.0.1 cannot be reached (Connection refused), 2 times" in fetch.fails()


@pytest.mark.parametrize(
    "server", ["", "rest.uniprot.org", "ftp://x", "http://", "http://u:p@x", "http://x:99999"]
)
def test_a_server_must_be_an_address(server: str) -> None:
    """What cannot be a server is said before anything is asked."""
    with pytest.raises(EcsweepError, match=r"--server \(ECSWEEP_UNIPROT\) must be an address"):
        Service(server)


def test_proxies_of_the_environment_are_used(
    rest: Rest, fetch: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTP_PROXY leads every page through the proxy."""
    monkeypatch.setenv("HTTP_PROXY", rest.address)
    rest.address = "http://uniprot.invalid/mirror"
    fetch()
    assert fetch.text == rest.text
    assert fetch.notes == []


@given(body=st.binary(max_size=200), start=st.sampled_from([b"", HEADER.encode() + b"\n"]))
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_answer_is_a_traceback(rest: Rest, fetch: Run, body: bytes, start: bytes) -> None:
    """Whatever a server sends becomes a whole file or one line of error."""
    rest.faults = {0: [says(200, start + body, X_Total_Results="1", Link="<&>; rel=next, <")]}
    try:
        found = fetch(tries=1, force=True, restart=True)
    except EcsweepError as error:
        assert str(error).isprintable()
    else:
        assert found["count"] == 1


def command(rest: Rest, *more: str) -> list[str]:
    return ["data", "fetch", "uniprot", "--server", rest.address, *more]


def test_the_command_fetches_and_says_what_is_next(ecsweep: Ecsweep, rest: Rest) -> None:
    """The file lies under the home folder, and builds can start from it."""
    rest.faults = {5: [says(429, Retry_After="0"), says(503, Retry_After="0")]}
    said = ecsweep.ok("data", "fetch", "uniprot", ECSWEEP_UNIPROT=rest.address)
    file = ecsweep.home / "data" / "downloads" / "uniprot-reviewed.tsv.gz"
    assert gzip.decompress(file.read_bytes()) == rest.text
    assert rest.asked[0]["query"] == QUERY
    assert "23 of 23 proteins" in said
    assert "23 proteins of release 2026_03, complete." in said
    assert "ecsweep data import data/downloads/uniprot-reviewed.tsv.gz" in said
    assert "is there already" in ecsweep.fails(*command(rest))


def test_a_killed_fetch_goes_on_and_makes_the_same_bytes(ecsweep: Ecsweep, rest: Rest) -> None:
    """After SIGKILL the same command makes the file that an uninterrupted one makes.

    Ctrl-C ends with 130 and keeps the state, too.
    """
    Run(rest, ecsweep.home / "whole.tsv.gz")()
    rest.faults, rest.offsets = {10: [hangs], 15: [hangs]}, []
    state = ecsweep.home / "cut.tsv.gz.part.json"
    for stop, pages in ((signal.SIGKILL, 2), (signal.SIGINT, 3)):
        process = ecsweep.start(*command(rest, "--out", "cut.tsv.gz"))
        try:
            wait_for(lambda pages=pages: rest.offsets[-1:] == [pages * PAGE], process=process)
        finally:
            said = kill(process, stop)
        assert json.loads(state.read_text())["count"] == pages * PAGE
        assert not (ecsweep.home / "cut.tsv.gz").exists()
    assert process.returncode == 130
    assert "Interrupted. What is there is kept" in said
    assert "Going on after 15 of 23" in ecsweep.ok(*command(rest, "--out", "cut.tsv.gz"))
    assert rest.offsets == [0, 5, 10, 10, 15, 15, 20]
    whole, cut = (ecsweep.home / f"{name}.tsv.gz" for name in ("whole", "cut"))
    assert cut.read_bytes() == whole.read_bytes()


def test_a_full_disk_is_said_and_the_fetch_goes_on_later(ecsweep: Ecsweep, rest: Rest) -> None:
    """Where nothing can be written any more, what is written is kept."""
    done = subprocess.run(
        ecsweep.command(*command(rest, "--out", "big.tsv.gz")),
        cwd=ecsweep.home,
        env=ecsweep.environment(),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)),
    )
    assert done.returncode == 2
    assert "big.tsv.gz: cannot be written (File too large). Make room" in done.stderr
    Run(rest, ecsweep.home / "big.tsv.gz")()
    assert gzip.decompress((ecsweep.home / "big.tsv.gz").read_bytes()) == rest.text
    assert rest.offsets.count(0) == 1  # it went on, not anew


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--query", "x", "--all"], "leave out --reviewed and --all"),
        (["--query", " "], "--query must not be empty"),
        (["--out", "x.tsv"], "--out must end in .tsv.gz"),
        (["--tries", "0"], "--tries must be from 1"),
        (["--tries", "1"], "cannot be reached"),
        (["--out", "."], "--out must end in .tsv.gz"),
        (["--out", "folder.gz"], "is a folder"),
        (["--out", "/proc/x.gz"], "cannot be written"),
    ],
)
def test_bad_options_are_said(
    options: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Options that contradict each other, and places that cannot be written to."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ECSWEEP_UNIPROT", "http://127.0.0.1:1")
    Path("folder.gz").mkdir()
    with pytest.raises(EcsweepError, match=re.escape(said)):
        cli(["data", "fetch", "uniprot", *options], standalone_mode=False)


def test_another_default_and_a_query_have_names_of_their_own(
    rest: Rest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--all asks for unreviewed proteins too, --query for what it says; each has its file."""
    monkeypatch.setenv("ECSWEEP_HOME", str(tmp_path))
    for options in (["--all"], ["--query", "insulin"], ["--query", "ec:3.*"]):
        cli(command(rest, *options), standalone_mode=False)
    asked = list(dict.fromkeys(page["query"] for page in rest.asked))
    assert asked == ["(length:[50 TO 1000])", "insulin", "ec:3.*"]
    files = {file.name for file in (tmp_path / "data" / "downloads").glob("uniprot-*.gz")}
    assert "uniprot-all.tsv.gz" in files
    assert len(files) == 3


def test_brenda_is_explained_not_fetched(ecsweep: Ecsweep) -> None:
    """BRENDA's licence is accepted by people on its site: what to get is said, with exit code 2."""
    done = ecsweep.run("data", "fetch", "brenda")
    assert done.returncode == 2
    for said in ("BRENDA_sequences.csv", "CC BY 4.0", "ecsweep data import", "sequences.php"):
        assert said in done.stdout
