"""Plain HTTP on the WebSocket port: the page, health, metrics."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from urllib.parse import unquote, urlsplit

from prometheus_client import CONTENT_TYPE_LATEST
from websockets.datastructures import Headers
from websockets.http11 import Response

from duplex.core.metrics import Metrics

MIME_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".wasm": "application/wasm",
    ".wav": "audio/wav",
    ".webmanifest": "application/manifest+json",
    ".txt": "text/plain; charset=utf-8",
}

# The page brings all it needs: nothing inline, nothing from elsewhere; its sockets may go to other servers by choice.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' ws: wss:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def respond(status: HTTPStatus, body: bytes, content_type: str, **extra: str) -> Response:
    """A whole HTTP response; the connection closes after it."""
    headers = Headers()
    headers["Content-Type"] = content_type
    headers["Content-Length"] = str(len(body))
    headers["Cache-Control"] = "no-cache"
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    headers["Connection"] = "close"
    for name, value in extra.items():
        headers[name.replace("_", "-")] = value
    return Response(status.value, status.phrase, headers, body)


def refuse(status: HTTPStatus, code: str, message: str, **extra: str) -> Response:
    """An error as JSON."""
    body = json.dumps({"error": {"code": code, "message": message}}).encode()
    return respond(status, body, "application/json", **extra)


class Pages:
    """Answers everything that is not a WebSocket. `not_ready` gives the reason why /readyz says no, or None."""

    def __init__(self, web_root: Path, metrics: Metrics, not_ready: Callable[[], str | None]) -> None:
        self._root = web_root.resolve()
        self._metrics = metrics
        self._not_ready = not_ready

    async def answer(self, target: str) -> Response:
        """The response to GET `target`."""
        path = unquote(urlsplit(target).path)
        if path == "/healthz":
            return respond(HTTPStatus.OK, b'{"ok":true}', "application/json")
        if path == "/readyz":
            reason = self._not_ready()
            if reason is None:
                return respond(HTTPStatus.OK, b'{"ready":true}', "application/json")
            return refuse(HTTPStatus.SERVICE_UNAVAILABLE, reason, f"the server is {reason}", Retry_After="5")
        if path == "/metrics":
            return respond(HTTPStatus.OK, self._metrics.exposition(), CONTENT_TYPE_LATEST)
        return await asyncio.to_thread(self._file, path)

    def _file(self, path: str) -> Response:
        missing = refuse(HTTPStatus.NOT_FOUND, "not_found", "no such page")
        try:
            file = (self._root / path.lstrip("/")).resolve()
            if file == self._root:
                file = self._root / "index.html"
            content_type = MIME_TYPES.get(file.suffix)
            if content_type is None or not file.is_relative_to(self._root) or not file.is_file():
                return missing
            return respond(HTTPStatus.OK, file.read_bytes(), content_type)
        except (OSError, ValueError):  # a name that no file can have, or a file that may not be read
            return missing
