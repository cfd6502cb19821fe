"""Types, dialogue states, events, configuration, errors, clock and metrics. No torch, no asyncio."""
