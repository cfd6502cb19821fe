"""Who may connect."""

from __future__ import annotations

import hmac
from urllib.parse import parse_qs, urlsplit

from websockets.datastructures import Headers

TOKEN_PREFIX = "token."


def offered_subprotocols(headers: Headers) -> list[str]:
    """The subprotocols a client offers, in its order."""
    return [name.strip() for value in headers.get_all("Sec-WebSocket-Protocol") for name in value.split(",")]


def authorized(api_key: str | None, path: str, headers: Headers) -> bool:
    """Whether a request carries the key: as bearer token, subprotocol `token.K`, or `?api_key=K`."""
    if api_key is None:
        return True
    presented = [
        name.removeprefix(TOKEN_PREFIX) for name in offered_subprotocols(headers) if name.startswith(TOKEN_PREFIX)
    ]
    for value in headers.get_all("Authorization"):
        scheme, _, credential = value.partition(" ")
        if scheme.lower() == "bearer":
            presented.append(credential.strip())
    presented += parse_qs(urlsplit(path).query).get("api_key", [])
    return any(hmac.compare_digest(key.encode(), api_key.encode()) for key in presented)
