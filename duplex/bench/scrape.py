"""What a server tells of itself at /metrics."""

from __future__ import annotations

import urllib.error
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from duplex.bench.conversation import client_tls, socket_url

HTTP_TIMEOUT_SEC = 5.0
SPEAKING_KINDS = ("reply", "speak")

Samples = dict[tuple[str, str], float]
"""Values by sample name and step kind; without a kind, "" """


def scrape(url: str, *, verify_tls: bool = True) -> Samples | None:
    """Every sample at the /metrics of the server whose socket is at `url`; None where there are none of ours."""
    scheme, _, rest = socket_url(url).partition("://")
    address = f"{'https' if scheme == 'wss' else 'http'}://{rest.split('/')[0]}/metrics"
    tls = client_tls(verify=verify_tls) if scheme == "wss" else None
    try:
        with urllib.request.urlopen(address, timeout=HTTP_TIMEOUT_SEC, context=tls) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
    except (urllib.error.URLError, OSError, ValueError):
        return None
    if not any(family.name == "duplex_step_seconds" for family in families):
        return None
    return {(s.name, s.labels.get("kind", "")): s.value for family in families for s in family.samples}


def speaking_seconds(url: str, *, verify_tls: bool = True) -> float | None:
    """Seconds of model work the server has spent on replies so far; None where it tells nothing."""
    samples = scrape(url, verify_tls=verify_tls)
    if samples is None:
        return None
    return sum(samples.get(("duplex_step_seconds_sum", kind), 0.0) for kind in SPEAKING_KINDS)
