"""The page from a server of this machine's own."""

from __future__ import annotations

import shutil
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bridge.errors import BridgeError
from signbart_runtime.web.site import SITE, Site

HOST = "127.0.0.1"
# By hand: what the system says of .mjs and .wasm differs, and browsers refuse wrong ones.
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
}
_OTHER = "application/octet-stream"  # models
_BY_CONTENT = ("vendor/", "model/")  # paths that name their contents


def make_server(site: Site, port: int) -> ThreadingHTTPServer:
    """A server that gives the page to this machine's browsers, and nothing else to anybody.

    Args:
        site: The page.
        port: 0 for any that is free.

    Raises:
        BridgeError: The port is taken, or there is none such.
    """
    try:
        return ThreadingHTTPServer((HOST, port), _handler(site))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or "there are 65,535 ports"
        raise BridgeError(
            f"{HOST}:{port}: cannot be listened to: {reason}; choose another --port"
        ) from None


def address(server: ThreadingHTTPServer) -> str:
    """What to open."""
    return f"http://{HOST}:{server.server_address[1]}/"


def _handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def _answer(self, body: bool) -> None:
            # A name of another site that leads here would let that site's scripts read the model.
            host = urlsplit("//" + self.headers.get("Host", "")).hostname
            if host not in (HOST, "localhost"):
                self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
                return
            name = unquote(urlsplit(self.path).path).lstrip("/") or "index.html"
            if name == SITE:
                self._begin(name, len(site.site_json))
                if body:
                    self.wfile.write(site.site_json)
            elif name in site.files:
                try:
                    with open(site.files[name], "rb") as file:
                        self._begin(name, site.files[name].stat().st_size)
                        if body:
                            shutil.copyfileobj(file, self.wfile)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True  # the browser has gone
            else:
                self.send_error(HTTPStatus.NOT_FOUND)

        def _begin(self, name: str, length: int) -> None:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", _TYPES.get(Path(name).suffix, _OTHER))
            self.send_header("Content-Length", str(length))
            kept = name.startswith(_BY_CONTENT)
            self.send_header("Cache-Control", "max-age=31536000, immutable" if kept else "no-cache")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing: who serves to oneself needs no log."""

    return Handler
