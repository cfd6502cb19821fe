"""Structured logs: one JSON object a line, one line an event. Never what a user said."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "taskName", "color_message", "websocket"}


class JsonLines(logging.Formatter):
    """Time, level, logger, event and whatever was given as `extra`. Tracebacks give places, not values."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "source": record.name,
            "event": record.getMessage(),
        }
        line.update({key: value for key, value in vars(record).items() if key not in _STANDARD})
        if record.exc_info and record.exc_info[1] is not None:
            line["trace"] = _places(record.exc_info[1])
        return json.dumps(line, default=str)


def _places(error: BaseException) -> list[str]:
    """`Type file:line` of the error, its cause and, of a group, its members."""
    places = [
        f"{type(error).__name__} {frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)
    ] or [type(error).__name__]
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            places += _places(member)
    if error.__cause__ is not None:
        places += _places(error.__cause__)
    return places


def configure_logs(level: str) -> None:
    """Send every log line to stderr, as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("websockets").setLevel(logging.WARNING)
