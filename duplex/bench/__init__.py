"""Clients that measure: speak the native protocol, hear the answers, say how long they took."""
