"""Sockets, HTTP, wiring: the only part that knows all others."""
