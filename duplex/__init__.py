"""A full-duplex spoken-conversation server."""
