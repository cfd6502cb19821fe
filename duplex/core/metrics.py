"""What operators scrape. One object, made once, handed to whoever measures."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_DELAY_BUCKETS_SEC = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_STEP_BUCKETS_SEC = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
_LATENCY_BUCKETS_SEC = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.3, 1.6, 2.0, 3.0, 5.0)
_BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """All metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.sessions = Gauge("duplex_sessions", "Live sessions", registry=self.registry)
        self.connections = Gauge("duplex_connections", "Open WebSocket connections", registry=self.registry)
        self.loop_delay_sec = Histogram(
            "duplex_event_loop_delay_seconds",
            "How late the event loop woke a task",
            buckets=_DELAY_BUCKETS_SEC,
            registry=self.registry,
        )
        self.queue_depth = Gauge("duplex_step_queue_depth", "Steps waiting", registry=self.registry)
        self.step_sec = Histogram(
            "duplex_step_seconds",
            "Duration of a batch of steps",
            ["kind"],
            buckets=_STEP_BUCKETS_SEC,
            registry=self.registry,
        )
        self.batch_size = Histogram(
            "duplex_batch_size",
            "Steps taken at once",
            ["kind"],
            buckets=_BATCH_BUCKETS,
            registry=self.registry,
        )
        self.deadline_misses = Counter(
            "duplex_deadline_misses", "Steps finished after they were due", ["kind"], registry=self.registry
        )
        self.step_failures = Counter("duplex_step_failures", "Steps that failed", ["kind"], registry=self.registry)
        self.worker_replacements = Counter(
            "duplex_worker_replacements", "Workers replaced after a fault", registry=self.registry
        )
        self.first_audio_sec = Histogram(
            "duplex_first_audio_seconds",
            "User's last speech sample to first reply sample sent",
            buckets=_LATENCY_BUCKETS_SEC,
            registry=self.registry,
        )
        self.cut_sec = Histogram(
            "duplex_cut_seconds",
            "User's onset to the cut of the reply",
            buckets=_LATENCY_BUCKETS_SEC,
            registry=self.registry,
        )
        self.turns = Counter("duplex_turns", "User turns by how they ended", ["outcome"], registry=self.registry)
        self.skipped_audio_sec = Counter(
            "duplex_skipped_audio_seconds", "Microphone audio skipped", registry=self.registry
        )
        self.underruns = Counter(
            "duplex_underruns", "Times that a client's playback ran dry in mid-reply", registry=self.registry
        )
        self.queued_sec = Histogram(
            "duplex_client_queued_seconds",
            "Agent audio that a client held and had not played, by its reports",
            buckets=_STEP_BUCKETS_SEC,
            registry=self.registry,
        )
        self.refusals = Counter(
            "duplex_refusals", "Connections and sessions refused", ["reason"], registry=self.registry
        )

    def exposition(self) -> bytes:
        """The text format Prometheus reads."""
        return generate_latest(self.registry)
