"""Dialogue logic as conversations on virtual time: each row is a chunk of 160 ms and what comes of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from duplex.core.config import Eagerness, SessionConfig
from duplex.core.events import AgentActivity, CutReason, UserActivity
from duplex.core.types import DialogueState, TurnDecision
from duplex.core.verdict import decide, probability_of_end
from duplex.session.dialogue import (
    Action,
    AgentTold,
    Announce,
    AnswerTyped,
    ChunkHeard,
    ChunkJudged,
    ClientInterrupted,
    ContinueTurn,
    CutReply,
    DropTurn,
    Feed,
    ListeningFailed,
    OpenTurn,
    ReopenTurn,
    ReplyAudible,
    ReplyEnded,
    ReplyFailed,
    ReplyStarted,
    Respond,
    SpeakText,
    TakeTurn,
    UserTyped,
)
from duplex.session.machine import DialogueMachine

SPEECH = (0.9,) * 5
SILENCE = (0.01,) * 5
CLICK = (0.01, 0.9, 0.9, 0.01, 0.01)
CONTINUE = (0.9, 0.05, 0.05)
RESPOND = (0.03, 0.92, 0.05)
IGNORE = (0.01, 0.01, 0.98)


@dataclass
class Talk:
    """A machine and the audio clock."""

    machine: DialogueMachine
    chunk: int = 0

    def hear(self, *chunks: tuple[float, ...], power: float = 0.01) -> list[Action]:
        """Chunks go by; returns what the last one did, without announcements."""
        actions: list[Action] = []
        for speech in chunks:
            actions = self.machine.handle(ChunkHeard(self.chunk, speech, (power,) * len(speech)))
            self.chunk += 1
        return work(actions)

    def judge(self, probs: tuple[float, float, float], interruption: float | None = None) -> list[Action]:
        assert self.machine.turn is not None
        return work(self.machine.handle(ChunkJudged(self.machine.turn.number, probs, interruption)))

    def answered(self) -> int:
        """Silence, a question, an audible answer; returns the answer's generation."""
        self.hear(*[SILENCE] * 10, SPEECH, SPEECH, SILENCE)
        (respond,) = self.judge(RESPOND)
        assert isinstance(respond, Respond)
        self.machine.handle(ReplyStarted(respond.generation))
        self.machine.handle(ReplyAudible(respond.generation))
        return respond.generation


def work(actions: list[Action]) -> list[Action]:
    return [action for action in actions if not isinstance(action, Announce)]


@pytest.fixture
def talk() -> Talk:
    return Talk(DialogueMachine(SessionConfig()))


@pytest.fixture
def telling() -> Talk:
    """With a checkpoint that tells interruptions."""
    return Talk(DialogueMachine(SessionConfig(), tells_interruptions=True))


def test_a_turn_opens_with_six_chunks_of_preroll_and_is_answered(talk: Talk) -> None:
    assert talk.hear(*[SILENCE] * 10) == []
    assert talk.hear(SPEECH) == [OpenTurn(1, first=4, last=10)]
    assert talk.machine.state is DialogueState.LISTENING
    assert talk.hear(SPEECH) == [Feed(1, 11)]
    assert talk.judge(CONTINUE) == []
    assert talk.hear(SILENCE) == [Feed(1, 12)]
    assert talk.judge(RESPOND) == [Respond(1, 1, taken=False)]
    assert talk.machine.state is DialogueState.THINKING
    talk.machine.handle(ReplyStarted(1))
    assert talk.machine.state is DialogueState.SPEAKING
    talk.machine.handle(ReplyEnded(1))
    assert talk.machine.state is DialogueState.IDLE


def test_a_reply_that_ends_by_itself_lies_before_the_turn_that_began_over_it(talk: Talk) -> None:
    generation = talk.answered()
    talk.hear(*[SILENCE] * 10)
    assert talk.hear(SPEECH) == [OpenTurn(2, first=17, last=23)]
    talk.hear(SILENCE)
    assert talk.machine.handle(ReplyEnded(generation))[0] == ReopenTurn(2, first=17, last=24)
    talk.hear(SILENCE)
    assert talk.judge(RESPOND) == [Respond(2, 2, taken=False)]


def test_a_reply_that_the_client_stops_lies_before_the_turn_that_began_over_it(talk: Talk) -> None:
    generation = talk.answered()
    talk.hear(*[SILENCE] * 10, SPEECH, SILENCE)
    assert work(talk.machine.handle(ClientInterrupted())) == [
        CutReply(generation, CutReason.CLIENT, keep_heard=True),
        ReopenTurn(2, first=17, last=24),
    ]
    assert work(talk.machine.handle(ClientInterrupted())) == []  # there is nothing left to stop


def test_a_turn_that_has_cut_the_reply_stays_where_it_is(talk: Talk) -> None:
    generation = talk.answered()
    talk.hear(*[SILENCE] * 10, SPEECH, SPEECH, SPEECH)
    assert TakeTurn(2) in talk.hear(SPEECH)
    assert work(talk.machine.handle(ReplyEnded(generation))) == []


def test_early_speech_has_what_preroll_there_is(talk: Talk) -> None:
    talk.hear(SILENCE, SILENCE)
    assert talk.hear(SPEECH) == [OpenTurn(1, first=0, last=2)]


def test_a_click_opens_nothing(talk: Talk) -> None:
    assert talk.hear(CLICK, CLICK, SILENCE) == []


def test_onset_counts_across_chunks(talk: Talk) -> None:
    assert talk.hear((0.01, 0.01, 0.01, 0.9, 0.9)) == []
    assert talk.hear((0.9, 0.01, 0.01, 0.01, 0.01)) == [OpenTurn(1, 0, 1)]


def test_a_pause_in_mid_turn_ends_nothing(talk: Talk) -> None:
    talk.hear(SPEECH, SPEECH)
    for _ in range(5):  # 0.8 s
        assert talk.hear(SILENCE) == [Feed(1, talk.chunk - 1)]
        assert talk.judge(CONTINUE) == []
    assert talk.hear(SPEECH) == [Feed(1, 7)]
    assert talk.machine.turn is not None
    assert talk.machine.turn.voice.silence_ms == 0


def test_who_is_still_to_be_heard_is_not_answered_yet(talk: Talk) -> None:
    talk.hear(*[SILENCE] * 10, SPEECH, SPEECH)
    assert talk.machine.verdict(RESPOND) is TurnDecision.CONTINUE
    assert talk.judge(RESPOND) == []
    talk.hear((0.9, 0.9, 0.9, 0.9, 0.1))
    assert talk.judge(RESPOND) == []  # silent for one window
    talk.hear((0.9, 0.9, 0.9, 0.1, 0.1))
    assert talk.judge(RESPOND) == [Respond(1, 1, taken=False)]


def test_what_sounds_on_for_ever_is_answered_all_the_same(talk: Talk) -> None:
    talk.hear(*[SILENCE] * 10, SPEECH, SPEECH)
    for _ in range(2):
        assert talk.judge(RESPOND) == []
        talk.hear(SPEECH)
    assert talk.judge(CONTINUE) == []  # it was not over after all: the count begins anew
    for _ in range(4):
        talk.hear(SPEECH)
        assert talk.judge(RESPOND) == []
    talk.hear(SPEECH)
    assert talk.judge(RESPOND) == [Respond(1, 1, taken=False)]


def test_no_silence_is_needed_where_none_is_asked_for(talk: Talk) -> None:
    talk.machine.config = SessionConfig(end_silence_ms=0)
    talk.hear(*[SILENCE] * 10, SPEECH, SPEECH)
    assert talk.judge(RESPOND) == [Respond(1, 1, taken=False)]


def test_an_unsure_end_needs_a_longer_silence(talk: Talk) -> None:
    unsure = (0.4, 0.6, 0.0)
    talk.hear(*[SILENCE] * 10, SPEECH, SPEECH, SILENCE)
    assert talk.judge(unsure) == []
    for _ in range(3):
        talk.hear(SILENCE)
        assert talk.judge(unsure) == []
    talk.hear(SILENCE)
    assert talk.judge(unsure) == [Respond(1, 1, taken=False)]


def test_eagerness_says_what_is_sure(talk: Talk) -> None:
    talk.machine.config = SessionConfig(eagerness=Eagerness.HIGH)
    talk.hear(*[SILENCE] * 10, SPEECH, SPEECH, SILENCE)
    assert talk.judge((0.12, 0.88, 0.0)) == [Respond(1, 1, taken=False)]


def test_an_interruption_is_told_while_its_end_is_waited_for(telling: Talk) -> None:
    generation = telling.answered()
    telling.hear(SPEECH, SPEECH)
    assert telling.judge(RESPOND, 0.9) == [CutReply(generation, CutReason.USER), TakeTurn(2)]
    telling.hear(SILENCE)
    assert telling.judge(RESPOND, 0.9) == [Respond(2, telling.machine.generation, taken=True)]


def test_barge_in_by_verdict(talk: Talk) -> None:
    generation = talk.answered()
    assert isinstance(talk.hear(SPEECH)[0], OpenTurn)
    talk.hear(SPEECH, SILENCE)
    assert talk.judge(RESPOND) == [
        CutReply(generation, CutReason.USER),
        Respond(2, talk.machine.generation, taken=False),
    ]
    assert talk.machine.generation > generation
    assert talk.machine.handle(ReplyEnded(generation)) == []  # the old one cannot end the new one
    assert talk.machine.state is DialogueState.THINKING


def test_barge_in_by_persistence(talk: Talk) -> None:
    generation = talk.answered()
    talk.hear(SPEECH, SPEECH, SPEECH)
    assert talk.machine.reply is not None
    assert talk.hear(SPEECH) == [Feed(2, 16), CutReply(generation, CutReason.USER), TakeTurn(2)]
    assert talk.judge(IGNORE) == []  # still speaking: no backchannel
    talk.hear(SILENCE)
    assert talk.judge(RESPOND) == [Respond(2, talk.machine.generation, taken=True)]


def test_barge_in_by_what_is_being_said(telling: Talk) -> None:
    telling.machine.config = SessionConfig(barge_in_probability=0.65)
    generation = telling.answered()
    telling.hear(SPEECH, SPEECH)
    assert telling.judge(CONTINUE, 0.6) == []
    assert telling.judge(CONTINUE, 0.9) == [CutReply(generation, CutReason.USER), TakeTurn(2)]
    assert telling.hear(SPEECH) == [Feed(2, 15)]
    assert telling.judge(CONTINUE, 0.9) == []  # taken once


def test_a_voice_far_away_opens_nothing_while_the_agent_is_heard(talk: Talk) -> None:
    talk.answered()
    assert talk.hear(*[SPEECH] * 6, power=0.0006) == []  # 12.2 dB below the question
    assert isinstance(talk.hear(SPEECH, power=0.0007)[0], OpenTurn)


def test_faint_consonants_keep_nobody_from_interrupting(talk: Talk) -> None:
    talk.answered()
    powers = (0.0001, 0.0001, 0.01, 0.0001, 0.0001)
    assert isinstance(work(talk.machine.handle(ChunkHeard(talk.chunk, SPEECH, powers)))[0], OpenTurn)


def test_a_faint_voice_is_heard_when_the_agent_is_silent(talk: Talk) -> None:
    generation = talk.answered()
    talk.hear(SILENCE)
    talk.machine.handle(ReplyEnded(generation))
    assert talk.hear(*[SILENCE] * 5, SPEECH, power=0.0005) == []
    assert isinstance(talk.hear(*[SILENCE] * 6, SPEECH, power=0.0005)[0], OpenTurn)


def test_a_voice_far_away_that_began_over_the_agent_is_no_turn_after_it(talk: Talk) -> None:
    generation = talk.answered()
    assert talk.hear(SPEECH, power=0.0005) == []
    talk.machine.handle(ReplyEnded(generation))
    assert talk.hear(SPEECH, *[SILENCE] * 4, SPEECH, SPEECH, power=0.0005) == []
    assert isinstance(talk.hear(*[SILENCE] * 6, SPEECH, power=0.0005)[0], OpenTurn)


def test_a_faint_voice_goes_on_with_its_turn_until_the_reply_is_heard(talk: Talk) -> None:
    talk.hear(*[SILENCE] * 10, SPEECH, SPEECH, SILENCE)
    talk.judge(RESPOND)
    talk.machine.handle(ReplyStarted(1))
    assert isinstance(talk.hear(SPEECH, power=0.0005)[-1], ContinueTurn)


def test_a_cough_that_resumes_a_turn_is_not_the_users_level(talk: Talk) -> None:
    talk.hear(*[SILENCE] * 10, SPEECH, SPEECH, SILENCE)
    talk.judge(RESPOND)
    talk.hear(SPEECH, power=0.9)
    talk.hear(SILENCE)
    (respond,) = talk.judge(IGNORE)
    assert isinstance(respond, Respond)
    talk.machine.handle(ReplyStarted(respond.generation))
    talk.machine.handle(ReplyAudible(respond.generation))
    assert isinstance(talk.hear(SPEECH)[0], OpenTurn)


def test_a_voice_is_measured_by_its_speech_from_the_first_window_on(talk: Talk) -> None:
    talk.hear(*[SILENCE] * 10, (0.01, 0.01, 0.9, 0.9, 0.9))
    talk.hear(SILENCE, power=0.9)
    assert talk.machine.turn is not None
    assert talk.machine.turn.voice.level_db == pytest.approx(-20.0)
    assert talk.machine.turn.voice.speech_ms == 96


def test_the_silence_asked_for_may_be_long(talk: Talk) -> None:
    talk.machine.config = SessionConfig(end_silence_ms=1500)
    talk.hear(*[SILENCE] * 10, SPEECH, SPEECH)
    for _ in range(9):  # 1.44 s
        talk.hear(SILENCE)
        assert talk.judge(RESPOND) == []
    talk.hear(SILENCE)
    assert talk.judge(RESPOND) == [Respond(1, 1, taken=False)]


def test_a_cough_is_too_short_to_interrupt(telling: Talk) -> None:
    telling.answered()
    telling.hear((0.9, 0.9, 0.9, 0.01, 0.01))
    assert telling.judge(CONTINUE, 0.99) == []


def test_who_took_the_floor_and_fell_silent_is_answered(telling: Talk) -> None:
    telling.answered()
    telling.hear(SPEECH, SPEECH)
    telling.judge(CONTINUE, 0.9)
    actions = [action for _ in range(14) for action in telling.hear(SILENCE)]
    assert Respond(2, telling.machine.generation, taken=True) in actions


def test_talking_long_is_no_interruption_where_the_model_tells(telling: Talk) -> None:
    telling.answered()
    for chunk in range(13, 24):  # the first verdict comes late
        assert not any(isinstance(action, CutReply) for action in telling.hear(SPEECH)), chunk
    assert telling.judge(CONTINUE, 0.1) == []
    telling.hear(SILENCE)
    assert isinstance(telling.judge(RESPOND, 0.1)[-1], Respond)


def test_nothing_is_too_likely_to_be_turned_off(telling: Talk) -> None:
    telling.machine.config = SessionConfig(barge_in_probability=1)
    telling.answered()
    telling.hear(SPEECH, SPEECH)
    assert telling.judge(CONTINUE, 1.0) == []


def test_nobody_is_interrupted_while_the_agent_is_silent(telling: Talk) -> None:
    telling.hear(SPEECH, SPEECH)
    assert telling.judge(CONTINUE, 0.99) == []
    assert telling.hear(SPEECH) == [Feed(1, 2)]


def test_persistence_can_be_turned_off(talk: Talk) -> None:
    talk.machine.config = SessionConfig(barge_in_ms=0)
    talk.answered()
    assert talk.hear(*[SPEECH] * 10) == [Feed(2, 22)]


def test_a_backchannel_leaves_the_agent_alone(talk: Talk) -> None:
    talk.answered()
    talk.hear(SPEECH, SILENCE)
    actions = talk.machine.handle(ChunkJudged(2, IGNORE))
    assert actions == [
        DropTurn(2, taken=False),
        Announce(UserActivity.BACKCHANNEL, AgentActivity.SPEAKING, 2),
        Announce(UserActivity.SILENT, AgentActivity.SPEAKING, 2),
    ]
    assert talk.machine.state is DialogueState.SPEAKING


def test_what_was_decided_is_not_replayed(talk: Talk) -> None:
    talk.hear(*[SILENCE] * 10, SPEECH, SILENCE)
    assert talk.judge(IGNORE) == [DropTurn(1, taken=False)]
    talk.hear(SILENCE)
    assert talk.hear(SPEECH) == [OpenTurn(2, first=12, last=13)]


def test_the_vad_is_ready_at_once_after_a_decision(talk: Talk) -> None:
    talk.answered()
    assert isinstance(talk.hear(SPEECH)[0], OpenTurn)


def test_resumed_speech_withdraws_a_reply_nobody_has_heard(talk: Talk) -> None:
    talk.hear(*[SILENCE] * 10, SPEECH, SPEECH, SILENCE)
    talk.judge(RESPOND)
    talk.machine.handle(ReplyStarted(1))  # sent, but not heard yet
    talk.hear(SILENCE)
    assert talk.hear(SPEECH) == [
        CutReply(1, CutReason.USER, withdrawn=True),
        ContinueTurn(1, first=13, last=14),
    ]
    assert talk.machine.state is DialogueState.LISTENING
    talk.hear(SILENCE)
    assert talk.judge(IGNORE) == [Respond(1, talk.machine.generation, taken=True)]  # it was a turn already


def test_resumed_speech_does_not_withdraw_a_typed_answer(talk: Talk) -> None:
    talk.machine.handle(UserTyped("hello"))
    assert talk.hear(SPEECH) == [OpenTurn(2, 0, 0)]


@pytest.mark.parametrize(
    ("speech", "outcome"),
    [((SPEECH, SPEECH), [Respond(1, 1, taken=False)]), (((0.9, 0.9, 0.9, 0.01, 0.01),), [DropTurn(1, taken=False)])],
)
def test_a_vad_timeout_answers_speech_and_ignores_what_was_too_short(
    talk: Talk, speech: tuple[tuple[float, ...], ...], outcome: list[Action]
) -> None:
    talk.hear(*speech)
    actions = talk.hear(SILENCE)
    while actions == [Feed(1, talk.chunk - 1)]:
        actions = talk.hear(SILENCE)
    assert actions == [Feed(1, talk.chunk - 1), *outcome]
    assert talk.chunk in (14, 15)  # 2 s of silence


@pytest.mark.parametrize(("chunks", "outcome"), [(2, DropTurn(2, taken=False)), (5, Respond(2, 3, False))])
def test_a_short_sound_over_the_agent_that_nothing_is_made_of_was_a_hum(
    telling: Talk, chunks: int, outcome: Action
) -> None:
    telling.answered()
    telling.hear(*[SPEECH] * chunks)
    actions: list[Action] = []
    while telling.machine.turn is not None:
        actions = telling.hear(SILENCE)
    assert actions[-1] == outcome


def test_the_client_stops_the_agent(talk: Talk) -> None:
    generation = talk.answered()
    assert work(talk.machine.handle(ClientInterrupted())) == [CutReply(generation, CutReason.CLIENT, keep_heard=True)]
    assert talk.machine.state is DialogueState.IDLE
    assert talk.machine.handle(ClientInterrupted()) == []


def test_a_typed_turn_replaces_everything(talk: Talk) -> None:
    generation = talk.answered()
    talk.hear(SPEECH)
    assert work(talk.machine.handle(UserTyped("stop"))) == [
        DropTurn(2, taken=False),
        CutReply(generation, CutReason.USER, keep_heard=True),
        AnswerTyped(3, talk.machine.generation, "stop"),
    ]


@pytest.mark.parametrize("event", [UserTyped("stop"), ListeningFailed(2)])
def test_a_turn_that_something_else_ends_was_no_hum(talk: Talk, event: UserTyped | ListeningFailed) -> None:
    talk.answered()
    talk.hear(SPEECH)
    actions = talk.machine.handle(event)
    assert [action.user for action in actions if isinstance(action, Announce)] == [UserActivity.SILENT]


def test_dictated_words(talk: Talk) -> None:
    assert work(talk.machine.handle(AgentTold("hi"))) == [SpeakText(1, 1, "hi")]


def test_dictated_words_replace_everything(talk: Talk) -> None:
    generation = talk.answered()
    talk.hear(SPEECH)
    assert work(talk.machine.handle(AgentTold("hi"))) == [
        DropTurn(2, taken=False),
        CutReply(generation, CutReason.CLIENT, keep_heard=True),
        SpeakText(3, talk.machine.generation, "hi"),
    ]


def test_dictated_words_take_the_floor_back_from_who_has_interrupted(telling: Talk) -> None:
    telling.answered()
    telling.hear(SPEECH, SPEECH)
    telling.judge(CONTINUE, 0.9)
    actions = work(telling.machine.handle(AgentTold("hi")))
    assert actions == [DropTurn(2, taken=True), SpeakText(3, telling.machine.generation, "hi")]


@pytest.fixture
def patient(talk: Talk) -> Talk:
    """Asks after 1.6 s of silence, ten chunks."""
    talk.machine.config = SessionConfig(silence_prompt_sec=1.6, silence_prompt="Hello?")
    return talk


def test_a_user_who_says_nothing_is_asked_once(patient: Talk) -> None:
    generation = patient.answered()
    assert patient.hear(*[SILENCE] * 20) == []  # the agent is still heard
    patient.machine.handle(ReplyEnded(generation))
    assert patient.hear(*[SILENCE] * 9) == []
    assert patient.hear(SILENCE) == [SpeakText(2, generation + 1, "Hello?")]
    patient.machine.handle(ReplyEnded(generation + 1))
    assert patient.hear(*[SILENCE] * 40) == []
    assert isinstance(patient.hear(SPEECH)[0], OpenTurn)


def test_who_speaks_up_is_waited_for_anew(patient: Talk) -> None:
    patient.machine.handle(ReplyEnded(patient.answered()))
    patient.hear(*[SILENCE] * 9, SPEECH)
    patient.judge(IGNORE)
    assert patient.hear(*[SILENCE] * 9) == []
    assert isinstance(patient.hear(SILENCE)[0], SpeakText)


def test_nobody_is_asked_before_a_word_was_said(patient: Talk) -> None:
    assert patient.hear(*[SILENCE] * 40) == []


def test_a_question_can_be_asked_over_the_prompt(patient: Talk) -> None:
    patient.machine.handle(ReplyEnded(patient.answered()))
    (prompt,) = patient.hear(*[SILENCE] * 10)
    assert isinstance(prompt, SpeakText)
    patient.machine.handle(ReplyStarted(prompt.generation))
    patient.machine.handle(ReplyAudible(prompt.generation))
    patient.hear(SPEECH, SPEECH, SILENCE)
    assert patient.judge(RESPOND)[0] == CutReply(prompt.generation, CutReason.USER)


def test_silence_may_go_on_for_ever(talk: Talk) -> None:
    talk.machine.config = SessionConfig(silence_prompt_sec=0)
    talk.machine.handle(ReplyEnded(talk.answered()))
    assert talk.hear(*[SILENCE] * 400) == []


def test_a_failed_reply_ends_where_it_was_heard_to(talk: Talk) -> None:
    generation = talk.answered()
    assert work(talk.machine.handle(ReplyFailed(generation - 1))) == []
    cut = CutReply(generation, CutReason.FAILED, keep_heard=True)
    assert work(talk.machine.handle(ReplyFailed(generation))) == [cut]
    assert talk.machine.state is DialogueState.IDLE


def test_a_turn_that_was_opened_over_a_failed_reply_goes_on_behind_it(talk: Talk) -> None:
    generation = talk.answered()
    talk.hear(SPEECH, SPEECH)
    cut = CutReply(generation, CutReason.FAILED, keep_heard=True)
    assert work(talk.machine.handle(ReplyFailed(generation))) == [cut, ReopenTurn(2, 13, 14)]


def test_a_failed_step_drops_its_turn_only(talk: Talk) -> None:
    talk.answered()
    talk.hear(SPEECH)
    assert work(talk.machine.handle(ListeningFailed(7))) == []
    assert work(talk.machine.handle(ListeningFailed(2))) == [DropTurn(2, taken=False)]
    assert talk.machine.state is DialogueState.SPEAKING


def test_verdicts_of_a_turn_that_is_over_are_void(talk: Talk) -> None:
    talk.answered()
    assert talk.machine.handle(ChunkJudged(1, RESPOND)) == []


@pytest.mark.parametrize(
    ("probs", "eagerness", "decision"),
    [
        ((0.3, 0.6, 0.1), Eagerness.MEDIUM, TurnDecision.RESPOND),
        ((0.3, 0.6, 0.1), Eagerness.LOW, TurnDecision.CONTINUE),
        ((0.55, 0.4, 0.05), Eagerness.MEDIUM, TurnDecision.CONTINUE),
        ((0.55, 0.4, 0.05), Eagerness.HIGH, TurnDecision.RESPOND),
        ((0.05, 0.4, 0.55), Eagerness.HIGH, TurnDecision.IGNORE),
    ],
)
def test_verdicts_by_eagerness(probs: tuple[float, float, float], eagerness: Eagerness, decision: TurnDecision) -> None:
    assert decide(probs, SessionConfig(eagerness=eagerness)) is decision


@pytest.mark.parametrize(
    ("probs", "odds", "decision"),
    [
        ((0.1, 0.3, 0.6), 0.25, TurnDecision.RESPOND),  # a bare "hello"
        ((0.1, 0.3, 0.6), 1.0, TurnDecision.IGNORE),
        ((0.02, 0.03, 0.95), 0.25, TurnDecision.IGNORE),  # a cough
        ((0.4, 0.05, 0.55), 0.25, TurnDecision.CONTINUE),
    ],
)
def test_what_sounds_like_a_backchannel_counts_less_while_nobody_speaks(
    probs: tuple[float, float, float], odds: float, decision: TurnDecision
) -> None:
    config = SessionConfig(ignore_odds_in_silence=odds)
    assert decide(probs, config, agent_silent=True) is decision
    assert decide(probs, config) is not TurnDecision.RESPOND


@pytest.mark.parametrize(
    ("over", "words_over", "expected"),
    [
        (0.97, None, 0.97),
        (0.97, math.exp(-1), 0.97),  # which tells nothing
        (0.97, 0.0, 0.7984),  # odds times e^-2.1
        (0.97, math.exp(-4), 0.7984),
        (0.8, 0.9, 0.8821),
        (1.0, 0.0, 1.0),
        (0.0, 1.0, 0.0),
    ],
)
def test_words_raise_or_lower_the_odds_of_an_end(over: float, words_over: float | None, expected: float) -> None:
    assert probability_of_end((1.0 - over, over, 0.0), words_over) == pytest.approx(expected, abs=1e-4)


def test_a_sure_end_that_the_words_speak_against_counts_only_after_a_longer_silence(talk: Talk) -> None:
    talk.hear(*[SPEECH] * 5, SILENCE, SILENCE)
    assert talk.machine.verdict(RESPOND, words_over=0.001) is TurnDecision.CONTINUE
    assert talk.machine.verdict(RESPOND, words_over=0.5) is TurnDecision.RESPOND
    assert talk.machine.handle(ChunkJudged(1, RESPOND, words_over=0.001)) == []
    talk.hear(*[SILENCE] * 3)
    assert talk.machine.verdict(RESPOND, words_over=0.001) is TurnDecision.RESPOND


def test_words_tell_nothing_of_a_hum_but_of_who_has_taken_the_floor(telling: Talk) -> None:
    telling.answered()
    telling.hear(SPEECH, SPEECH, SILENCE, SILENCE)
    assert telling.machine.verdict(RESPOND, words_over=0.0) is TurnDecision.RESPOND
    telling.judge(CONTINUE, 0.9)
    assert telling.machine.verdict(RESPOND, words_over=0.0) is TurnDecision.CONTINUE


def test_a_short_turn_is_answered_in_silence_and_ignored_over_the_agent(talk: Talk) -> None:
    hello = (0.04, 0.3, 0.66)
    talk.hear(*[SILENCE] * 10, SPEECH, SILENCE)
    assert talk.machine.verdict(hello) is TurnDecision.RESPOND
    (respond,) = talk.judge(hello)
    assert isinstance(respond, Respond)
    talk.machine.handle(ReplyStarted(respond.generation))
    talk.machine.handle(ReplyAudible(respond.generation))
    talk.hear(SPEECH, SILENCE)
    assert talk.machine.verdict(hello) is TurnDecision.IGNORE
    assert isinstance(talk.judge(hello)[0], DropTurn)


def test_who_hums_over_the_agents_last_words_asks_nothing(talk: Talk) -> None:
    hum = (0.04, 0.3, 0.66)  # in silence this is a short turn
    generation = talk.answered()
    talk.hear(SPEECH)
    talk.machine.handle(ReplyEnded(generation))
    talk.hear(SILENCE)
    assert talk.machine.verdict(hum) is TurnDecision.IGNORE
    assert isinstance(talk.judge(hum)[0], DropTurn)


def test_who_took_the_floor_does_not_hum(telling: Talk) -> None:
    telling.answered()
    telling.hear(SPEECH, SPEECH)
    telling.judge(CONTINUE, 0.9)
    telling.hear(SILENCE)
    assert telling.machine.verdict((0.04, 0.3, 0.66)) is TurnDecision.RESPOND
