"""What a log says about a case: conversations made by hand, seconds on the recording's clock."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from duplex.bench.log import ConversationLog, Event, ReplyText
from duplex.bench.recordings import Recording
from duplex.bench.scoring import Outcome, detection_error, figures, score
from duplex.bench.script import At, SaidItem, Utterance
from duplex.bench.speaker import HeardReply
from duplex.bench.testset import Annotation, Case, Task

RATE = 1000
BEGAN_SEC = 0.3  # of the recording on the session's clock
RIGHT = (("paris",),)


def log(*replies: tuple[float, float, str], cut: tuple[int, ...] = (), probs: dict[float, float] | None = None):
    """A conversation of 12 s in which the user spoke from 0.5 to 2.0 s and these replies sounded (start, end, text)."""
    heard = np.zeros(13 * RATE, np.float32)
    out = ConversationLog(RATE, RATE, close_code=1000)
    for turn, (start, end, text) in enumerate(replies, 1):
        first, last = round((start + BEGAN_SEC) * RATE), round((end + BEGAN_SEC) * RATE)
        heard[first : last + 1] = 0.1
        out.replies.append(HeardReply(turn, turn, first - 50, last + 50, interrupted=turn in cut))
        out.texts.append(ReplyText(turn, [(0, text)]))
    out.heard = heard
    recording = Recording(np.ones(10 * RATE, np.float32), RATE, 500, 2000)
    said = SaidItem(Utterance(recording, At(0)), BEGAN_SEC, BEGAN_SEC + 0.5, BEGAN_SEC + 2.0, BEGAN_SEC + 10)
    out.said = [said]
    out.user_frames = [np.zeros(12 * RATE, np.float32)]
    for moment, respond in (probs or {}).items():
        fields = {"t_ms": 1000 * (moment + BEGAN_SEC), "probs": [1 - respond, respond, 0.0]}
        out.events.append(Event(moment, "turn", fields))
    return out


def case(task: Task, start: float, end: float, **extra: object) -> Case:
    return Case(task, "x/000", Path(), (Annotation.model_validate({"timestamp": (start, end), **extra}),))


def test_a_turn_taken_in_time_and_answered_right():
    outcome = score(case(Task.TURN_TAKING, 2.0, 2.0, answer=RIGHT), log((2.4, 3.0, "It is Paris.")))
    assert outcome.took_over
    assert outcome.right
    assert outcome.latency_sec == pytest.approx(0.4)


def test_an_early_answer_has_a_negative_latency():
    outcome = score(case(Task.TURN_TAKING, 2.0, 2.0, answer=RIGHT), log((1.5, 3.0, "It is Rome.")))
    assert outcome.latency_sec == pytest.approx(-0.5)
    assert not outcome.right


def test_what_was_taken_back_is_early_but_no_answer():
    talk = log((1.5, 1.7, ""), (2.6, 3.0, "It is Paris."))
    talk.replies[0].withdrawn = talk.replies[0].interrupted = True
    outcome = score(case(Task.TURN_TAKING, 2.0, 2.0, answer=RIGHT), talk)
    assert (outcome.took_over, outcome.early) == (True, True)
    assert outcome.latency_sec == pytest.approx(0.6)
    unanswered = log((1.5, 1.7, "It"), cut=(1,))
    outcome = score(case(Task.TURN_TAKING, 2.0, 2.0, answer=RIGHT), unanswered)
    assert (outcome.took_over, outcome.early, outcome.latency_sec) == (False, True, None)


def test_a_reply_that_was_cut_said_what_was_heard_of_it():
    talk = log((2.4, 2.6, "It is Paris."), cut=(1,))
    talk.texts[0].heard = "It"
    outcome = score(case(Task.TURN_TAKING, 2.0, 2.0, answer=RIGHT), talk)
    assert [reply.text for reply in outcome.replies] == ["It"]
    assert (outcome.took_over, outcome.right) == (True, False)


def test_no_answer_is_no_take_over_and_no_right_answer():
    outcome = score(case(Task.TURN_TAKING, 2.0, 2.0, answer=RIGHT), log())
    assert (outcome.took_over, outcome.right, outcome.latency_sec) == (False, False, None)


def test_a_withdrawn_reply_does_not_say_the_words_of_the_next():
    talk = log((2.2, 2.6, ""), (4.0, 5.0, "It is Paris."))
    talk.replies[0].withdrawn = talk.replies[0].interrupted = True
    talk.replies[0].turn = 2  # the user went on, and the turn was answered anew
    del talk.texts[0]
    first, second = score(case(Task.TURN_TAKING, 3.5, 3.5, answer=RIGHT), talk).replies
    assert (first.text, second.text) == ("", "It is Paris.")


@pytest.mark.parametrize(("start", "taken"), [(0.7, True), (1.2, True), (2.3, False)])
def test_a_pause_is_taken_when_the_agent_speaks_before_the_end(start, taken):
    outcome = score(case(Task.PAUSE, 1.0, 1.6), log((start, start + 1, "Hm.")))
    assert outcome.took_over is taken


def test_a_turn_does_not_end_before_its_last_pause():
    """However soft the words behind it are."""
    outcome = score(case(Task.PAUSE, 2.5, 3.1), log((2.8, 3.0, "Hm.")))  # loud until 2.0
    assert outcome.took_over


def test_an_interruption_stops_the_old_reply_and_gets_a_new_one():
    talk = log((2.5, 5.4, "One, two, three."), (6.5, 7.0, "Paris."), cut=(1,))
    outcome = score(case(Task.INTERRUPTION, 5.0, 6.0, answer=RIGHT), talk)
    assert outcome.was_speaking
    assert outcome.stopped
    assert outcome.stop_sec == pytest.approx(0.4)
    assert outcome.latency_sec == pytest.approx(0.5)
    assert outcome.right


def test_a_reply_that_ends_by_itself_was_not_stopped():
    talk = log((2.5, 5.4, "One, two, three."), (6.5, 7.0, "Paris."))
    outcome = score(case(Task.INTERRUPTION, 5.0, 6.0), talk)
    assert (outcome.was_speaking, outcome.stopped, outcome.stop_sec) == (True, False, None)
    assert figures([outcome])["interruption"]["stopped"] == 0.0


def test_a_late_answer_to_the_question_is_none_to_the_interruption():
    late = log((5.2, 5.6, "One,"), cut=(1,))
    outcome = score(case(Task.INTERRUPTION, 5.0, 6.0, answer=RIGHT), late)
    assert (outcome.took_over, outcome.latency_sec, outcome.right) == (False, None, False)
    answered = log((5.2, 5.6, "One,"), (6.5, 7.0, "Paris."), cut=(1,))
    outcome = score(case(Task.INTERRUPTION, 5.0, 6.0, answer=RIGHT), answered)
    assert outcome.latency_sec == pytest.approx(0.5)
    assert outcome.right


def test_a_late_answer_that_talks_through_an_interruption_is_none_to_it():
    talk = log((5.1, 9.0, "One, two, three."))
    outcome = score(case(Task.INTERRUPTION, 5.0, 6.0, answer=RIGHT), talk)
    assert (outcome.took_over, outcome.latency_sec, outcome.right) == (False, None, False)


def test_an_answer_begun_before_the_interruption_has_ended():
    talk = log((2.5, 5.3, "One, two, three."), (5.8, 7.0, "Paris."), cut=(1,))
    outcome = score(case(Task.INTERRUPTION, 5.0, 6.0, answer=RIGHT), talk)
    assert outcome.latency_sec == pytest.approx(-0.2)
    assert outcome.right


def test_what_was_begun_and_cut_in_mid_interruption_is_no_answer():
    talk = log((2.5, 5.2, "One, two,"), (5.5, 5.8, "Par"), cut=(1, 2))
    assert score(case(Task.INTERRUPTION, 5.0, 6.0), talk).took_over is False


def test_a_late_answer_to_the_question_is_none_to_a_backchannel():
    late = (4.2, 7.0, "One, two, three.")
    assert score(case(Task.BACKCHANNEL, 4.0, 4.4), log(late)).disturbed is None
    assert score(case(Task.BACKCHANNEL, 4.0, 4.4), log()).disturbed is None
    assert score(case(Task.BACKCHANNEL, 4.0, 4.4), log(late, (7.5, 8.0, "Yes?"))).disturbed
    assert score(case(Task.BACKCHANNEL, 4.0, 4.4), log((2.5, 3.0, "Two."), (5.0, 6.0, "Yes?"))).disturbed


def test_a_broken_conversation_says_nothing_about_the_agent():
    whole = score(case(Task.BACKGROUND, 4.0, 4.4), log((2.5, 6.0, "One, two, three.")))
    broken, erring, unbegun = log(), log(), log()
    broken.close_code = 1011
    erring.events.append(Event(1.0, "error", {"code": "step_failed", "message": "out of memory", "fatal": True}))
    unbegun.said = []
    early = log()
    early.user_frames = [np.zeros(3 * RATE, np.float32)]
    failed = [score(case(Task.BACKGROUND, 4.0, 4.4), talk) for talk in (broken, erring, unbegun, early)]
    assert "1011" in failed[0].failed
    assert "step_failed: out of memory" in failed[1].failed
    assert failed[2].failed
    assert "after 3.0 s" in failed[3].failed
    out = figures([whole, *failed])
    assert out["conversations"] == {"held": 1, "failed": 4, "reported_errors": 0}
    assert (out["background"]["cases"], out["background"]["failed"]) == (1, 4)
    nothing = figures(failed)["background"]
    assert (nothing["cases"], nothing["failed"], nothing["disturbed"]) == (0, 4, None)


def test_an_answer_that_failed_is_a_missing_one():
    erring = log()
    erring.events.append(
        Event(1.0, "error", {"code": "step_failed", "message": "the turn is too long", "fatal": False})
    )
    outcome = score(case(Task.TURN_TAKING, 2.0, 2.0, answer=RIGHT), erring)
    assert (outcome.failed, outcome.took_over, outcome.right) == ("", False, False)
    assert "too long" in outcome.reported
    out = figures([outcome])
    assert (out["conversations"]["reported_errors"], out["turn_taking"]["tor"]) == (1, 0.0)


def test_a_backchannel_that_the_agent_talks_through():
    outcome = score(case(Task.BACKCHANNEL, 4.0, 4.4), log((2.5, 6.0, "One, two, three.")))
    assert (outcome.disturbed, outcome.was_speaking) == (False, True)


@pytest.mark.parametrize(
    "talk",
    [
        log((2.5, 4.6, "One, two,"), cut=(1,)),
        log((2.5, 5.6, "One, two,"), cut=(1,)),
        log((2.5, 6.0, "One, two, three."), (6.5, 7.0, "Yes?")),
    ],
    ids=["stopped", "stopped late", "answered"],
)
def test_a_disturbing_backchannel(talk):
    assert score(case(Task.BACKCHANNEL, 4.0, 4.4), talk).disturbed


def test_a_reply_of_silence_is_no_reply():
    talk = log((2.4, 3.0, "It is Paris."))
    talk.heard[:] = 0.001
    assert score(case(Task.TURN_TAKING, 2.0, 2.0), talk).took_over is False


def test_probabilities_before_and_behind_the_end():
    talk = log((2.4, 3.0, "Yes."), probs={0.8: 0.1, 1.4: 0.3, 1.9: 0.7, 2.2: 0.6, 2.4: 0.9, 3.5: 1.0})
    outcome = score(case(Task.PAUSE, 1.0, 1.6), talk)
    assert outcome.pause_probability == pytest.approx(0.3)
    assert outcome.end_probability == pytest.approx(0.9)


def test_the_end_of_a_paused_turn_is_where_the_annotation_says():
    talk = log((1.9, 3.0, "Yes."), probs={1.9: 0.8, 2.3: 0.2})
    ending = {"timestamp": (1.0, 1.6), "end": 1.8, "answer": [["yes"]]}
    outcome = score(Case(Task.PAUSE, "x/000", Path(), (Annotation.model_validate(ending),)), talk)
    assert (outcome.took_over, outcome.right) == (False, True)
    assert outcome.end_probability == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("replies", "right"),
    [
        ([(1.76, 3.0, "Yes.")], True),  # begun just before the end: taken, and right all the same
        ([(1.2, 1.5, "Hm."), (1.9, 3.0, "Yes.")], True),
        ([(1.2, 1.7, "Yes.")], False),  # over before the user was
        ([(1.2, 2.0, "Yes."), (2.1, 3.0, "No.")], False),
    ],
)
def test_the_answer_to_a_paused_turn_is_what_is_heard_last_beyond_its_end(replies, right):
    ending = {"timestamp": (1.0, 1.6), "end": 1.8, "answer": [["yes"]]}
    assert score(Case(Task.PAUSE, "x/000", Path(), (Annotation.model_validate(ending),)), log(*replies)).right is right


def test_figures_leave_apart_what_did_not_apply():
    speaking = Outcome(case(Task.INTERRUPTION, 1, 2), (), took_over=True, stop_sec=0.4, was_speaking=True, right=True)
    silent = dataclasses.replace(speaking, was_speaking=False, stop_sec=None, took_over=False, right=False)
    inside = Outcome(case(Task.TURN_TAKING, 1, 1), (), took_over=True, latency_sec=-0.2, early=True, right=True)
    refused = dataclasses.replace(inside, latency_sec=0.6, early=False, outside=True, right=False)
    out = figures([speaking, silent, inside, refused])
    assert out["interruption"]["agent_was_silent"] == 1
    assert out["interruption"]["tor"] == 0.5
    assert out["interruption"]["stop_sec_p50"] == 0.4
    assert out["turn_taking"]["early"] == 0.5
    assert out["turn_taking"]["right"] == 1.0
    assert out["turn_taking"]["refused_outside"] == 0.0
    assert "pause" not in out


def test_detection_error_falls_one_way_and_rises_the_other():
    def pause(before: float, at_end: float) -> Outcome:
        return Outcome(case(Task.PAUSE, 1, 2), (), pause_probability=before, end_probability=at_end)

    curve = detection_error([pause(0.1, 0.9), pause(0.6, 0.95)])
    at = {round(t, 2): (missed, false) for t, missed, false in curve}
    assert at[0.05] == (0.0, 1.0)
    assert at[0.5] == (0.0, 0.5)
    assert at[0.92] == (0.5, 0.0)
    assert detection_error([]) == []
    assert detection_error([Outcome(case(Task.PAUSE, 1, 2), ())]) == []  # a server without trace
