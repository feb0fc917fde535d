"""A local web server that lists runs and shows their pages; it only reads.

It answers programs of this machine, to requests that name this machine: a page of another site
whose name resolves to 127.0.0.1 gets nothing (DNS rebinding). The only files that it sends are the
`report.html` of runs that it has found itself, so no address leads to any other file.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from parcnet_train.actions.watch.states import RunState, Watcher
from parcnet_train.actions.watch.table import (
    COLUMNS,
    TEXTS,
    cells,
    common_folder,
    groups_of,
    note_of,
    summary,
)
from parcnet_train.errors import ConfigError, reason_of
from parcnet_train.files import read_regular
from parcnet_train.runs.directories import PAGE
from parcnet_train.visualize.pages import render

HOST = "127.0.0.1"
HTML = "text/html; charset=utf-8"
NAMES = (HOST, "localhost")  # that a request may call this machine
HEADERS = {
    "Cache-Control": "no-store",
    # Pages are self-contained; nothing in them may talk to another machine.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
        "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
RELOAD = """
<script>
setInterval(async () => {{
  const found = await fetch(location.href, {{method: "HEAD"}}).catch(() => null);
  if (found?.ok && found.headers.get("ETag") !== {tag}) location.reload();
}}, 3000);
</script>
"""  # goes to the end of a run's page


class Page(NamedTuple):
    """The page of a run."""

    content: bytes  # empty for a request of headers
    length: int  # bytes of the whole content
    tag: str  # changes with the page


class Site(ThreadingHTTPServer):
    """Server of the runs that a watcher finds.

    Args:
        watcher: Reader of the runs.
        port: Port to listen at; 0: any free one.

    Raises:
        ConfigError: If the port cannot be used.
    """

    def __init__(self, watcher: Watcher, port: int) -> None:
        self.watcher = watcher
        self.lock = threading.Lock()  # of the watcher, which several requests use
        try:
            super().__init__((HOST, port), Handler)
        except OSError as error:
            reason = "is in use" if error.errno == errno.EADDRINUSE else reason_of(error)
            raise ConfigError(
                f"watch.port={port}: this port {reason}; expected a free port. Fix: "
                "watch.port=0 takes any free one",
                "watch.port",
            ) from error

    def runs(self) -> list[RunState]:
        """Return the current state of all runs."""
        with self.lock:
            return self.watcher.read()

    def path_of(self, run: RunState) -> str:
        """Return the path of the page of a run in the address of the site."""
        return f"/{(run.folder / PAGE).relative_to(self.watcher.top).as_posix()}"

    def index(self) -> bytes:
        """Return the list of all runs as a page."""
        runs = self.runs()
        folder = common_folder(runs, self.watcher.top)
        return render(
            "parcnet_train.actions.watch",
            "index.html.jinja",
            title="Runs",
            summary=summary(runs, folder),
            columns=COLUMNS,
            texts=TEXTS,
            groups={
                name: [self.row_of(run) for run in group]
                for name, group in groups_of(runs, folder).items()
            },
        )

    def row_of(self, run: RunState) -> dict[str, Any]:
        """Return the values of a run in the list."""
        page = quote(os.fsencode(self.path_of(run))) if has_page(run) else None
        return {"cells": cells(run), "state": run.state, "note": note_of(run), "page": page}

    def page(self, path: str, is_head: bool) -> Page | None:
        """Return the page of a run; None if there is none.

        Open pages ask for their headers all the time, so neither other runs nor the content are
        read for these.

        Args:
            path: Decoded path of a request.
            is_head: Whether only the headers are wanted.
        """
        with self.lock:
            run = self.watcher.read_one((self.watcher.top / path.removeprefix("/")).parent)
        if run is None or self.path_of(run) != path or not has_page(run):
            return None
        file = run.folder / PAGE
        try:
            found = file.stat()
            tag = json.dumps(f"{found.st_mtime_ns:x}")
            end = RELOAD.format(tag=json.dumps(tag)).encode()
            if is_head:
                return Page(b"", found.st_size + len(end), tag)
            content = read_regular(file) + end
        except OSError:
            return None
        return Page(content, len(content), tag)

    def handle_error(self, request: object, client_address: object) -> None:
        """Leave out what a browser that goes away causes."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Handler(BaseHTTPRequestHandler):
    """Answer to one request: GET or HEAD of the list or of the page of a run."""

    server: Site
    timeout = 10  # seconds, for a client that sends nothing

    def do_GET(self) -> None:
        """Send the list of runs, or the page of a run."""
        if not is_own_name(self.headers.get_all("Host", [])):
            self.send(HTTPStatus.FORBIDDEN, b"This server answers to 127.0.0.1 and localhost.\n")
            return
        path = os.fsdecode(unquote_to_bytes(self.path.partition("?")[0]))
        is_head = self.command == "HEAD"
        if path == "/":
            self.send(HTTPStatus.OK, self.server.index(), HTML)
        elif (page := self.server.page(path, is_head)) is not None:
            self.send(HTTPStatus.OK, page.content, HTML, {"ETag": page.tag}, page.length)
        else:
            self.send(HTTPStatus.NOT_FOUND, b"There is no such page; / lists all runs.\n")

    do_HEAD = do_GET  # noqa: N815  `send` leaves out the content

    def send(
        self,
        status: HTTPStatus,
        content: bytes,
        kind: str = "text/plain; charset=utf-8",
        more: Mapping[str, str] | None = None,
        length: int | None = None,
    ) -> None:
        """Send an answer; `length` is that of its content, if another one than this."""
        self.send_response(status)
        size = len(content) if length is None else length
        about = {"Content-Type": kind, "Content-Length": str(size)}
        for name, value in {**HEADERS, **about, **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Print nothing about requests."""


def has_page(run: RunState) -> bool:
    """Return whether a run has a page; a link, which may lead elsewhere, is none."""
    file = run.folder / PAGE
    return file.is_file() and file.resolve() == file


def is_own_name(hosts: list[str]) -> bool:
    """Return whether the Host headers of a request are one that names this machine.

    The port may be another one, that of a forwarding by ssh.
    """
    return len(hosts) == 1 and hosts[0].partition(":")[0].lower() in NAMES
