"""The dialogue logic: what was heard and decided goes in, what is to be done comes out.

No sockets, no tasks, no clock: time is the chunks of audio that come in. Two axes: what the agent does
(`DialogueState`) and whether the user speaks; both can hold at once.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from duplex.core.config import SessionConfig
from duplex.core.events import AgentActivity, CutReason, UserActivity
from duplex.core.types import DialogueState, TurnDecision
from duplex.core.verdict import decide, needed_silence_ms
from duplex.core.voice import SILENT_DB, WINDOW_MS, VoiceActivity
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
    Event,
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

log = logging.getLogger(__name__)

PREROLL_CHUNKS = 6  # replayed into a new turn (fixture quirk 15)
TELLING_SPEECH_MS = 160  # of speech, from which on a state head is trained to tell an interruption
FAR_PAUSE_CHUNKS = 6  # for so long after the agent, or after a voice far away, another one may still be far away


@dataclass(slots=True)
class UserTurn:
    """A turn the user has begun and that is not yet decided. Chunks are counted on the session's audio clock.

    first_chunk: where it begins, preroll included.
    resumed: it was answered already, but the user went on before the answer could be heard.
    taken: it has interrupted the agent; the conversation goes on from it whatever is decided.
    over_agent: it was begun while the agent was heard.
    """

    number: int
    first_chunk: int
    resumed: bool = False
    taken: bool = False
    over_agent: bool = False
    voice: VoiceActivity = field(default_factory=VoiceActivity)


@dataclass(slots=True)
class RunningReply:
    """A reply that is being written, spoken or heard. `answers_speech`: not a typed turn, not dictated."""

    turn: int
    generation: int
    answers_speech: bool
    started: bool = False
    audible: bool = False


_ACTIVITY = {
    DialogueState.IDLE: AgentActivity.LISTENING,
    DialogueState.LISTENING: AgentActivity.LISTENING,
    DialogueState.THINKING: AgentActivity.THINKING,
    DialogueState.SPEAKING: AgentActivity.SPEAKING,
}


@dataclass
class DialogueMachine:
    """One conversation's logic. `handle` takes an event and returns the actions, in order.

    tells_interruptions: the checkpoint tells whether the user is taking the floor; if not, how long they talk does.
    """

    config: SessionConfig = field(default_factory=lambda: SessionConfig())
    tells_interruptions: bool = False
    state: DialogueState = DialogueState.IDLE
    user: UserActivity = UserActivity.SILENT
    turn: UserTurn | None = None
    reply: RunningReply | None = None
    generation: int = 0
    turn_number: int = 0
    _onset: VoiceActivity = field(default_factory=VoiceActivity)
    _near_db: float = SILENT_DB  # level of the user's speech in the turn answered last
    _far_until: int = -FAR_PAUSE_CHUNKS - 1  # the last chunk with the agent's voice, or one far away
    _waited_ms: int = 0  # for the user, since the agent was heard or a turn was open
    _may_prompt: bool = False  # the agent has said something since it last asked whether the user is there
    _decided_until: int = 0  # chunks before this one belong to decided turns: never replayed
    _announced: Announce = field(default_factory=lambda: Announce(UserActivity.SILENT, AgentActivity.LISTENING, 0))

    @property
    def announced(self) -> Announce:
        """What the client was last told of who is doing what."""
        return self._announced

    def handle(self, event: Event) -> list[Action]:
        """Let one thing happen."""
        match event:
            case ChunkHeard():
                actions = self._heard(event)
            case ChunkJudged():
                actions = self._judged(event)
            case ReplyStarted(generation):
                actions = self._reply_started(generation)
            case ReplyAudible(generation):
                if self._is_current(generation) and self.reply is not None:
                    self.reply.audible = True
                actions = []
            case ReplyEnded(generation):
                actions = self._reply_ended(generation)
            case ReplyFailed(generation):
                actions = self._reply_failed(generation)
            case ClientInterrupted():
                actions = self._stopped(CutReason.CLIENT)
            case UserTyped(text, ref):
                actions = self._interject(CutReason.USER)
                actions.append(AnswerTyped(self._next_turn(), self._begin_reply(answers_speech=False), text, ref))
            case AgentTold(text):
                actions = self._interject(CutReason.CLIENT)
                actions.append(SpeakText(self._next_turn(), self._begin_reply(answers_speech=False), text))
            case ListeningFailed(turn):
                actions = self._drop() if self.turn is not None and self.turn.number == turn else []
        self._set_state()
        return [*actions, *self._announcement()]

    # --- the user's side ---------------------------------------------------------------------------------

    def _heard(self, event: ChunkHeard) -> list[Action]:
        if self.turn is None:
            return self._wait_for_onset(event)
        turn = self.turn
        for probability, power in event.windows():
            turn.voice.count(probability, self.config.vad_threshold, power)
        self.user = UserActivity.SPEAKING if turn.voice.silence_ms == 0 else UserActivity.SILENT
        actions: list[Action] = [Feed(turn.number, event.index)]
        self._decided_until = event.index + 1
        talked_long = 0 < self.config.barge_in_ms <= turn.voice.speech_ms
        if not self.tells_interruptions and self._can_interrupt(turn) and talked_long:
            actions += self._take_floor(turn)
        if turn.voice.silence_ms >= self.config.vad_timeout_ms:
            needed_ms = self.config.min_speech_ms
            if turn.over_agent and not turn.taken:  # no end of a turn, no interruption, and soon over: it was a hum
                needed_ms = max(needed_ms, self.config.barge_in_ms)
            answered = turn.resumed or turn.voice.speech_ms >= needed_ms
            actions += self._respond() if answered else self._ignore()
        return actions

    def _wait_for_onset(self, event: ChunkHeard) -> list[Action]:
        opened: UserTurn | None = None
        if self.reply is not None and self.reply.audible:
            self._far_until = event.index
        for probability, power in event.windows():
            if opened is None and probability < self.config.vad_threshold:
                self._onset = VoiceActivity()
                continue
            self._onset.count(probability, self.config.vad_threshold, power)
            long_enough = self._onset.speech_ms >= self.config.onset_windows * WINDOW_MS
            if opened is None and long_enough and not self._far_away(self._onset, event.index):
                opened = UserTurn(0, event.index, voice=self._onset)
        if opened is None:
            self.user = UserActivity.SILENT
            return self._prompted(len(event.speech) * WINDOW_MS)
        self._onset = VoiceActivity()
        self._waited_ms = 0
        self.turn = opened
        self.user = UserActivity.SPEAKING
        first = opened.first_chunk = max(self._decided_until, event.index - PREROLL_CHUNKS, 0)
        self._decided_until = event.index + 1
        reply = self.reply
        opened.over_agent = reply is not None and reply.audible
        if reply is not None and reply.answers_speech and not reply.audible:
            opened.number = reply.turn
            opened.resumed = opened.taken = True
            return [
                *self._cut(CutReason.USER, withdrawn=True),
                ContinueTurn(opened.number, first, event.index),
            ]
        opened.number = self._next_turn()
        return [OpenTurn(opened.number, first, event.index)]

    def _prompted(self, silent_ms: int) -> list[Action]:
        """Ask once whether the user is still there, who has been silent for `silent_ms` more."""
        self._waited_ms = 0 if self.reply is not None else self._waited_ms + silent_ms
        patience_ms = self.config.silence_prompt_sec * 1000
        if not self._may_prompt or not 0 < patience_ms <= self._waited_ms:
            return []
        prompt = SpeakText(self._next_turn(), self._begin_reply(answers_speech=False), self.config.silence_prompt)
        self._may_prompt = False
        return [prompt]

    def _far_away(self, voice: VoiceActivity, chunk: int) -> bool:
        """Whether a voice heard over the agent is much fainter than the user's own was: another one, or an echo.

        When the agent falls silent, such a voice goes on to belong to somebody else.
        """
        goes_on = chunk - self._far_until <= FAR_PAUSE_CHUNKS
        far = goes_on and voice.loudest_db < self._near_db - self.config.far_away_db
        if far:
            self._far_until = chunk
        return far

    def _can_interrupt(self, turn: UserTurn) -> bool:
        enough_ms = min(TELLING_SPEECH_MS, self.config.min_speech_ms)
        return self.reply is not None and not turn.taken and turn.voice.speech_ms >= enough_ms

    def _take_floor(self, turn: UserTurn) -> list[Action]:
        turn.taken = True
        return [*self._cut(CutReason.USER), TakeTurn(turn.number)]

    def verdict(self, probs: tuple[float, float, float], words_over: float | None = None) -> TurnDecision:
        """What P(continue), P(respond), P(ignore) of the open turn's last chunk mean now.

        words_over: P(the words found so far are a whole turn); they tell nothing of what may be a hum.
        """
        decision = self._ungated(probs)
        if self.turn is None:
            return decision
        needed_ms = needed_silence_ms(probs, self.config, None if self._may_hum else words_over)
        return self.turn.voice.gated(decision, needed_ms)

    @property
    def _may_hum(self) -> bool:
        """Whether the turn began over the agent, which may have ended since, and has not interrupted it."""
        return self.turn is not None and self.turn.over_agent and not self.turn.taken

    def _ungated(self, probs: tuple[float, float, float]) -> TurnDecision:
        decision = decide(probs, self.config, agent_silent=self.reply is None and not self._may_hum)
        if decision is TurnDecision.IGNORE and self.turn is not None and self.turn.resumed:
            return TurnDecision.RESPOND  # it was a turn already
        return decision

    def _judged(self, event: ChunkJudged) -> list[Action]:
        if self.turn is None or self.turn.number != event.turn:
            return []
        decision = self.verdict(event.probs, event.words_over)
        self.turn.voice.note(self._ungated(event.probs))
        if decision is TurnDecision.CONTINUE:
            taking = event.interruption is not None and event.interruption > self.config.barge_in_probability
            return self._take_floor(self.turn) if taking and self._can_interrupt(self.turn) else []
        if decision is TurnDecision.IGNORE and self.turn.taken and self.turn.voice.silence_ms == 0:
            return []  # who has interrupted and still speaks is no backchannel
        if decision is TurnDecision.RESPOND:
            return self._respond()
        return self._ignore()

    def _respond(self) -> list[Action]:
        assert self.turn is not None
        turn = self.turn
        actions = self._cut(CutReason.USER)
        self.turn = None
        if not turn.resumed:  # what resumes a turn may be a cough
            self._near_db = turn.voice.level_db
        self.user = UserActivity.SILENT
        self._onset = VoiceActivity()
        generation = self._begin_reply(answers_speech=True, turn=turn.number)
        return [*actions, Respond(turn.number, generation, turn.taken)]

    def _ignore(self) -> list[Action]:
        """The open turn was none; over a reply it was a hum."""
        assert self.turn is not None
        number, actions = self.turn.number, self._drop()
        if self.reply is not None:
            self._announced = Announce(UserActivity.BACKCHANNEL, _ACTIVITY[self.state], number)
            actions.append(self._announced)
        return actions

    def _drop(self) -> list[Action]:
        assert self.turn is not None
        turn, self.turn = self.turn, None
        self.user = UserActivity.SILENT
        self._onset = VoiceActivity()
        return [DropTurn(turn.number, turn.taken)]

    def _interject(self, reason: CutReason) -> list[Action]:
        """Something typed comes in between: whatever is being said, by either side, ends here."""
        actions = self._drop() if self.turn is not None else []
        return [*actions, *self._cut(reason, keep_heard=True)]

    # --- the agent's side --------------------------------------------------------------------------------

    def _is_current(self, generation: int) -> bool:
        return self.reply is not None and self.reply.generation == generation

    def _begin_reply(self, *, answers_speech: bool, turn: int | None = None) -> int:
        self.generation += 1
        self._may_prompt = True
        self.reply = RunningReply(turn or self.turn_number, self.generation, answers_speech)
        return self.generation

    def _reply_started(self, generation: int) -> list[Action]:
        if self._is_current(generation) and self.reply is not None:
            self.reply.started = True
        return []

    def _reply_ended(self, generation: int) -> list[Action]:
        if not self._is_current(generation):
            return []
        self.reply = None
        return self._reopened()

    def _reply_failed(self, generation: int) -> list[Action]:
        if not self._is_current(generation):
            return []
        return self._stopped(CutReason.FAILED)

    def _stopped(self, reason: CutReason) -> list[Action]:
        """The reply ends where it was heard to, and the user did not end it."""
        cut = self._cut(reason, keep_heard=True)
        return [*cut, *self._reopened()] if cut else []

    def _reopened(self) -> list[Action]:
        """A turn that was opened over a reply which has now ended goes on behind it."""
        turn = self.turn
        if turn is None or turn.taken:
            return []
        return [ReopenTurn(turn.number, turn.first_chunk, self._decided_until - 1)]

    def _cut(self, reason: CutReason, *, keep_heard: bool = False, withdrawn: bool = False) -> list[Action]:
        if self.reply is None:
            return []
        generation = self.reply.generation
        self.reply = None
        self.generation += 1
        return [CutReply(generation, reason, keep_heard, withdrawn)]

    def _next_turn(self) -> int:
        self.turn_number += 1
        return self.turn_number

    def _set_state(self) -> None:
        """The one place where the agent's state changes."""
        if self.reply is not None:
            state = DialogueState.SPEAKING if self.reply.started else DialogueState.THINKING
        else:
            state = DialogueState.LISTENING if self.turn is not None else DialogueState.IDLE
        if state is not self.state:
            log.debug("state", extra={"was": self.state.value, "now": state.value, "turn": self.turn_number})
            self.state = state

    def _announcement(self) -> list[Action]:
        turn = self.turn.number if self.turn is not None else self.turn_number
        announce = Announce(self.user, _ACTIVITY[self.state], turn)
        if announce == self._announced:
            return []
        self._announced = announce
        return [announce]
