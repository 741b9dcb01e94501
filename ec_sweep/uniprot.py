"""UniProt's REST service: the pages of a search, each checked and tried again where that helps."""

import gzip
import json
import random
import re
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlencode, urljoin, urlsplit, urlunsplit

from ec_sweep import __version__
from ec_sweep.errors import EcsweepError, printable

if TYPE_CHECKING:
    from requests import RequestException, Response

SERVER = "https://rest.uniprot.org"
FIELDS = "accession,reviewed,ec,length,fragment,sequence"
_SIZE = 500  # rows of a page: the most that the service gives
_TIMEOUT = (10.0, 60.0)  # seconds to connect, and between two pieces of an answer
_LONGEST_WAIT = 60.0  # seconds before a try, where the service does not ask for more
_LONGEST_ASKED = 600.0  # seconds that the service may ask to wait; beyond, people decide
_LARGEST_PAGE = 256 * 2**20  # bytes; 500 of the longest proteins known are 20 MB
_REDIRECTS = 5
_TRY_AGAIN = frozenset({408, 425, 429})  # HTTP, beside all from 500 on
_WHOLE_NUMBER = re.compile(r"[0-9]{1,15}")
_NEEDED = frozenset({b"entry", b"ec number", b"sequence"})


@dataclass(frozen=True)
class Page:
    """Some rows of a search's result, and where the next ones are."""

    header: bytes
    rows: bytes  # whole lines, each with its end
    count: int
    total: int  # of the whole result, as the service announces it
    release: str | None
    release_date: str | None
    next: str | None


class _AgainError(Exception):
    """What may go well at the next try; with the seconds to wait where the service says so."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class Service:
    """One UniProt server, asked politely: one page at a time, and slower where it is busy."""

    def __init__(
        self,
        server: str = SERVER,
        tries: int = 8,
        note: Callable[[str], object] = print,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        import requests

        self._server = _checked(server)
        self._tries, self._note, self._sleep = tries, note, sleep
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"ecsweep/{__version__} python-requests"

    def first(self, query: str) -> str:
        """Return the address of the first page of a search.

        Sorted by accession, so that the same release gives the same file.
        """
        asked = {
            "query": query,
            "fields": FIELDS,
            "format": "tsv",
            "sort": "accession asc",
            "size": str(_SIZE),
        }
        path = self._server.path.rstrip("/") + "/uniprotkb/search"
        return urlunsplit(self._server._replace(path=path, query=urlencode(asked)))

    def page(self, address: str) -> Page:
        """Return a page; what a later try may mend is tried again, longer apart each time.

        Raises:
            EcsweepError: the service refuses, sends something else, or fails every time.
        """
        for number in range(1, self._tries + 1):
            try:
                return self._read(address)
            except _AgainError as trouble:
                reason = f"{self._server.hostname} {trouble}"
                if number == self._tries:
                    times = f", {number} times in a row" if number > 1 else ""
                    raise EcsweepError(f"{reason}{times}.") from trouble
                wait = trouble.wait
                if wait is None:
                    wait = min(_LONGEST_WAIT, 2.0 ** (number - 1)) * random.uniform(0.5, 1)
                self._note(f"{reason}: try {number + 1} of {self._tries} in {wait:.0f} s")
                self._sleep(wait)
        raise AssertionError("unreachable: the last try returns or raises")

    def _read(self, address: str) -> Page:
        """Ask once for a page."""
        from requests import RequestException

        try:
            with self._answer(address) as response:
                self._check_status(response)
                body = _body(response)
        except (RequestException, ValueError) as error:  # requests parses redirects, too
            if isinstance(error, ValueError) or "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise EcsweepError(f"{self._server.hostname}: {_one_line(str(error))}") from error
            raise _AgainError(_in_words(error)) from error
        html = "html" in response.headers.get("Content-Type", "").lower()
        if html or body.lstrip()[:1] == b"<":
            raise EcsweepError(
                f"{self._server.hostname} answered with a web page instead of data, such as a "
                f"proxy sends that wants a login. It begins: {_shown(body)}"
            )
        return self._page(address, response, body)

    def _answer(self, address: str) -> "Response":
        """Follow redirects, but only on this server: data of another is not what was asked for."""
        for _ in range(_REDIRECTS):
            response = self._session.get(
                address, stream=True, timeout=_TIMEOUT, allow_redirects=False
            )
            if not response.is_redirect:
                return response
            response.close()
            address = self._here(address, response.headers["Location"], "redirects")
        raise EcsweepError(f"{self._server.hostname} redirects without end, last to {address}.")

    def _check_status(self, response: "Response") -> None:
        status = response.status_code
        if status in _TRY_AGAIN or status >= 500:
            said = f"answered {status} {printable(response.reason or '')}".rstrip()
            wait = _retry_after(response.headers.get("Retry-After"))
            if wait is not None and wait > _LONGEST_ASKED:
                raise EcsweepError(
                    f"{self._server.hostname} {said} and asks to wait {wait / 60:.0f} minutes."
                )
            raise _AgainError(said, wait)
        if status != 200:
            raise EcsweepError(
                f"{self._server.hostname} refuses ({status} {printable(response.reason or '')}): "
                f"{_messages(response)}"
            )

    def _page(self, address: str, response: "Response", body: bytes) -> Page:
        header, *rows = body.removesuffix(b"\n").split(b"\n")
        columns = header.lower().split(b"\t")
        total = response.headers.get("X-Total-Results", "")
        if not _WHOLE_NUMBER.fullmatch(total) or not set(columns) >= _NEEDED:
            raise EcsweepError(
                f"{self._server.hostname} does not answer as UniProt's REST service does: a table "
                "with the columns Entry, EC number and Sequence, and the header X-Total-Results. "
                f"It begins: {_shown(body)}"
            )
        for number, row in enumerate(rows, start=1):
            # "Error encountered when streaming data" may stand among the rows, under status 200.
            if not _is_whole(row.split(b"\t"), columns):
                raise _AgainError(f"sent a damaged page (row {number}: {_shown(row)})")
        following = response.links.get("next", {}).get("url")
        if following:
            following = self._here(address, following, "continues")
            if not rows or following == address:
                raise _AgainError("sent a page that leads nowhere")
        return Page(
            header,
            b"".join(row + b"\n" for row in rows),
            len(rows),
            int(total),
            _printable_header(response, "X-UniProt-Release"),
            _printable_header(response, "X-UniProt-Release-Date"),
            following,
        )

    def _here(self, address: str, target: str, how: str) -> str:
        """Return where a page leads: on this server, in the scheme asked for, or it is an error."""
        try:
            found = urlsplit(urljoin(address, target))
            same = (found.hostname, _port(found)) == (self._server.hostname, _port(self._server))
        except ValueError:
            same = False
        if not same:
            raise EcsweepError(
                f"{self._server.hostname} {how} at another server, which is not followed: "
                f"{printable(target)[:200]}"
            )
        return urlunsplit(found._replace(scheme=self._server.scheme, netloc=self._server.netloc))


def _checked(server: str) -> SplitResult:
    """Return the parts of a server's address; what is none is an error."""
    try:
        found = urlsplit(server)
        usable = found.scheme in ("http", "https") and found.hostname and (found.port or 1)
    except ValueError:
        usable = False
    if not usable or found.query or found.fragment or "@" in found.netloc:
        raise EcsweepError(
            "--server (ECSWEEP_UNIPROT) must be an address such as https://rest.uniprot.org, "
            f"without a user name (~/.netrc holds those). Received: {server!r:.200}."
        )
    return found


def _port(address: SplitResult) -> int | None:
    """Return the port of an address, ``None`` for its scheme's own."""
    return None if address.port == {"http": 80, "https": 443}.get(address.scheme) else address.port


def _body(response: "Response") -> bytes:
    """Read an answer whole, whether it is compressed on the way, as a file, or not at all."""
    body = bytearray()
    for piece in response.iter_content(2**16):
        body += piece
        if len(body) > _LARGEST_PAGE:
            raise _AgainError(f"sent a page of more than {_LARGEST_PAGE // 2**20} MB")
    if not body.startswith(b"\x1f\x8b"):
        return bytes(body)
    try:
        return gzip.decompress(body)
    except (EOFError, OSError, zlib.error) as error:
        raise _AgainError("sent a damaged gzip file") from error


def _is_whole(row: list[bytes], columns: list[bytes]) -> bool:
    """Say whether a row has its columns, and a sequence of the length that it gives."""
    if len(row) != len(columns):
        return False
    length = row[columns.index(b"length")] if b"length" in columns else b""
    return not length or length == str(len(row[columns.index(b"sequence")])).encode()


def _retry_after(header: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks for, as a number or as a date."""
    from urllib3.exceptions import InvalidHeader
    from urllib3.util import Retry

    if header is None:
        return None
    try:
        return Retry().parse_retry_after(header)
    except (InvalidHeader, OverflowError, ValueError):
        return None


def _messages(response: "Response") -> str:
    """Return what UniProt says is wrong with a request."""
    body = _body(response)
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    said = found.get("messages") if isinstance(found, dict) else None
    return _one_line("; ".join(map(str, said))) if isinstance(said, list) else _shown(body)


def _in_words(error: "RequestException") -> str:
    """Say in a few words why there was no whole answer."""
    from requests import exceptions

    if isinstance(error, exceptions.Timeout):
        return "does not answer in time"
    if isinstance(error, exceptions.ChunkedEncodingError | exceptions.ContentDecodingError):
        return "broke off its answer"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return f"cannot be reached ({cause.strerror})"
        reason = getattr(cause, "reason", None)
        inner = cause.args[0] if cause.args and isinstance(cause.args[0], Exception) else None
        cause = reason if isinstance(reason, Exception) else inner or cause.__cause__
    return f"cannot be reached ({_one_line(str(error))})"


def _printable_header(response: "Response", name: str) -> str | None:
    found = response.headers.get(name)
    return None if found is None else printable(found)[:80]


def _shown(body: bytes) -> str:
    return repr(_one_line(body[:2000].decode("utf-8", "replace"))[:120])


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))[:300]
