"""One tree of exceptions; the server maps each to an error event and a close code in one place."""

from __future__ import annotations


class DuplexError(Exception):
    """Base of every error this program raises on purpose."""


class CapacityError(DuplexError):
    """No room for another session or branch."""


class BranchOverflowError(DuplexError):
    """A conversation grew past the length of its slot."""


class CheckpointError(DuplexError):
    """A checkpoint is missing something, has something unexpected or of the wrong shape; the message names it."""


class ConfigError(DuplexError):
    """A configuration value is unknown or invalid; the message names it and the nearest valid one."""
