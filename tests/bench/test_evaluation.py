"""Word error and speed of an evaluation: speech of a real voice, metrics over a real socket."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest

from duplex.audio.wav import write_wav
from duplex.bench.evaluation import Evaluation, intelligibility
from duplex.bench.log import ConversationLog
from duplex.bench.recordings import Recording
from duplex.bench.scoring import Outcome, Sounding
from duplex.bench.scrape import speaking_seconds
from duplex.bench.script import At, SaidItem, Utterance
from duplex.bench.testset import Annotation, Case, Task
from duplex.train.voices import AGENT_VOICE, SAMPLE_RATE, synthesize

SENTENCES = ("The capital of France is Paris.", "Seven plus two is nine.", "A cow has four legs.")
METRICS = """# TYPE duplex_step_seconds histogram
duplex_step_seconds_sum{kind="listen"} 9.5
duplex_step_seconds_sum{kind="reply"} 0.25
duplex_step_seconds_sum{kind="speak"} 1.5
"""


def spoken(said: str, told: str, *, interrupted: bool = False, failed: str = "") -> tuple[Outcome, ConversationLog]:
    """A conversation in which the agent says something, and what the server tells that it says."""
    began_sec = 0.3
    speech = synthesize(said, AGENT_VOICE)
    lead = np.zeros(SAMPLE_RATE, np.float32)
    log = ConversationLog(SAMPLE_RATE, SAMPLE_RATE, heard=np.concatenate([lead, speech, lead]), close_code=1000)
    item = Utterance(Recording(lead, SAMPLE_RATE, 0, SAMPLE_RATE), At(0))
    log.said = [] if failed else [SaidItem(item, began_sec, began_sec, began_sec + 1, began_sec + 1)]
    start_sec = 1.0 - began_sec
    sounding = Sounding(start_sec, start_sec + len(speech) / SAMPLE_RATE, 1, interrupted, told)
    case = Case(Task.TURN_TAKING, "x", Path(), (Annotation(timestamp=(0.0, 0.0)),))
    return Outcome(case, (sounding,), failed=failed), log


def test_word_error_is_of_what_was_heard_to_its_end_beside_the_source_voice(tmp_path: Path) -> None:
    (tmp_path / "grammar.txt").write_text("\n".join(SENTENCES))
    source = tmp_path / "source_voice"
    source.mkdir()
    (source / "0.txt").write_text(SENTENCES[0])
    write_wav(source / "0.wav", synthesize(SENTENCES[0], AGENT_VOICE), SAMPLE_RATE)
    pairs = [
        spoken(SENTENCES[0], SENTENCES[0]),
        spoken(SENTENCES[1], SENTENCES[1].replace("nine", "ten")),  # one of five words is said otherwise
        spoken(SENTENCES[0], SENTENCES[2], interrupted=True),
        spoken(SENTENCES[0], SENTENCES[2], failed="it broke"),
    ]
    found = intelligibility(Evaluation([o for o, _ in pairs], [log for _, log in pairs]), tmp_path)
    assert found["replies"] == 2
    assert found["word_error"] == pytest.approx(1 / 11, abs=1e-4)
    assert found["source_voice_word_error"] == 0.0
    assert (found["same_texts"], found["same_texts_word_error"], found["same_texts_source_voice"]) == (1, 0.0, 0.0)
    assert found["grammar_sentences"] == 3


def test_a_sentence_that_is_said_often_counts_once_among_distinct_texts(tmp_path: Path) -> None:
    (tmp_path / "grammar.txt").write_text("\n".join(SENTENCES))
    source = tmp_path / "source_voice"
    source.mkdir()
    for number, sentence in enumerate(SENTENCES[:2]):
        (source / f"{number}.txt").write_text(sentence)
        write_wav(source / f"{number}.wav", synthesize(sentence, AGENT_VOICE), SAMPLE_RATE)
    wrong = spoken(SENTENCES[1].replace("nine", "ten"), SENTENCES[1])
    pairs = [*[spoken(SENTENCES[0], SENTENCES[0])] * 3, spoken(SENTENCES[1], SENTENCES[1]), wrong]
    found = intelligibility(Evaluation([o for o, _ in pairs], [log for _, log in pairs]), tmp_path)
    assert found["same_texts"] == 5
    assert found["same_texts_word_error"] == pytest.approx(1 / (3 * 6 + 2 * 5), abs=1e-4)
    assert found["distinct_texts"] == 2
    assert found["distinct_texts_word_error"] == pytest.approx(0.5 / (6 + 5), abs=1e-4)
    assert found["distinct_texts_source_voice"] == 0.0


@contextmanager
def serving(text: str) -> Iterator[str]:
    """A server whose /metrics says `text`; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"ws://127.0.0.1:{server.server_port}/v1/duplex"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("text", "seconds"), [(METRICS, 1.75), ("# TYPE duplex_step_seconds histogram\n", 0.0), ("other 1\n", None)]
)
def test_seconds_spent_on_replies_are_read_from_metrics(text: str, seconds: float | None) -> None:
    with serving(text) as url:
        assert speaking_seconds(url) == seconds


def test_a_server_without_metrics_tells_nothing() -> None:
    assert speaking_seconds("ws://127.0.0.1:9") is None
