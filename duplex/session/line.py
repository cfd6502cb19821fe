"""One session's conversation state: the committed line and the tentative turn beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from duplex.core.clock import Clock
from duplex.core.errors import BranchOverflowError, DuplexError
from duplex.engine.steps import ListenResult, ListenStep, PrefillStep
from duplex.model.caches import Branch, StreamCaches
from duplex.pool.pool import ModelPool
from duplex.pool.queue import StepKind
from duplex.session.store import SessionStore

if TYPE_CHECKING:
    import torch

LISTEN_DUE_SEC = 0.16  # before the next chunk arrives
PREFILL_DUE_SEC = 0.2
ROOM_FRACTION = 4  # a quarter of the slot, at most ROOM_TOKENS, must be free when a turn opens
ROOM_TOKENS = 512
ANSWER_FRACTION = 4  # a quarter of that room must be left for the answer to a typed turn


class ConversationLine:
    """Branches of one session. One coroutine at a time calls its methods.

    `turn` is the fork an open user turn is fed into, None when there is none or it was taken. `instructions` is the
    system prompt of the conversation.
    """

    def __init__(self, session_id: str, pool: ModelPool, store: SessionStore, clock: Clock) -> None:
        self._session_id = session_id
        self._pool = pool
        self._store = store
        self._clock = clock
        self._committed: Branch | None = None
        self.instructions = ""
        self.turn: Branch | None = None
        self._turn_start = 0
        self._taken = False
        self._first = False
        self._before_reply: tuple[int, StreamCaches] | None = None

    @property
    def committed(self) -> Branch:
        """The conversation so far."""
        assert self._committed is not None, "the line was not started"
        return self._committed

    @property
    def crowded(self) -> bool:
        """Whether another turn might outgrow the slot."""
        return self.committed.length + self._room > self._store.max_length

    @property
    def _room(self) -> int:
        return min(ROOM_TOKENS, self._store.max_length // ROOM_FRACTION)

    async def start(self, instructions: str, typed: str | None = None) -> None:
        """Begin a conversation with a system prompt, and a typed turn of the user; one that was begun before is
        forgotten, unless this fails.

        Raises BranchOverflowError when the prompt leaves no room for a turn, or the turn none for an answer.
        """
        fresh = self._store.create(self._session_id)
        try:
            await self._prefill(fresh, "system", instructions)
            if fresh.length + self._room > self._store.max_length:
                raise BranchOverflowError(
                    f"{fresh.length} tokens; a conversation holds {self._store.max_length}, "
                    f"of which {self._room} must be left for a turn"
                )
            if typed is not None:
                await self._prefill_typed(fresh, typed)
        except DuplexError:
            self._store.release(self._session_id, fresh)
            raise
        self.drop_turn(taken=False)
        if self._committed is not None:
            self._store.release(self._session_id, self._committed)
        self._committed = fresh
        self.instructions = instructions
        self._before_reply = None
        self._taken = False
        self._first = True
        self._turn_start = fresh.length

    async def put_user_text(self, text: str) -> None:
        """Put a typed turn of the user into the conversation.

        Raises BranchOverflowError when it leaves no room for an answer; the conversation is then as it was.
        """
        before = self.committed.length, self.committed.stream
        try:
            await self._prefill_typed(self.committed, text)
        except BranchOverflowError:
            self._store.truncate(self.committed, *before)
            raise

    async def _prefill_typed(self, branch: Branch, text: str) -> None:
        await self._prefill(branch, "user", text)
        needed = branch.length + self._room // ANSWER_FRACTION
        if needed > self._store.max_length:
            raise BranchOverflowError(
                f"the conversation needs {needed} tokens, the answer's among them; a slot holds {self._store.max_length}"
            )

    async def _prefill(self, branch: Branch, role: str, text: str) -> None:
        await self._pool.submit(
            StepKind.PREFILL,
            PrefillStep(branch, role, text),
            deadline=self._clock.now() + PREFILL_DUE_SEC,
            session_id=self._session_id,
        )

    async def open_turn(self, keep: int | None) -> None:
        """Fork the conversation, its first `keep` tokens (None: all of it), for a turn of the user."""
        source = self.committed
        length = None if keep is None else min(keep, source.length)
        self.drop_turn(taken=False)
        self.turn = await self._pool.submit(
            StepKind.STORE,
            lambda: self._store.fork(self._session_id, source, length),
            deadline=self._clock.now() + LISTEN_DUE_SEC,
            session_id=self._session_id,
        )
        self._turn_start = self.turn.length
        self._first = True

    async def listen(self, features: torch.Tensor) -> ListenResult | None:
        """One chunk [19, 80] into the open turn; None when there is none."""
        if self.turn is None and not self._taken:
            return None
        branch = self.turn if self.turn is not None else self.committed
        result = await self._pool.submit(
            StepKind.LISTEN,
            ListenStep(branch, features, self._first),
            deadline=self._clock.now() + LISTEN_DUE_SEC,
            session_id=self._session_id,
        )
        self._first = False
        return result

    def take_turn(self) -> None:
        """The open turn becomes the conversation."""
        if self.turn is not None:
            self._committed = self._store.adopt(self._session_id, self.turn, self.committed)
            self.turn = None
            self._taken = True

    def drop_turn(self, *, taken: bool) -> None:
        """Forget the open turn; one that was taken is the conversation already and is taken back."""
        if taken:
            self._store.truncate(self.committed, self._turn_start)
            self._taken = False
        elif self.turn is not None:
            self._store.release(self._session_id, self.turn)
            self.turn = None

    def mark_reply(self) -> None:
        """The turn is over and answered; remember this place, so that the reply can be withdrawn."""
        self._taken = False
        self._before_reply = (self.committed.length, self.committed.stream.copy())

    def withdraw_reply(self) -> None:
        """Back to before the last reply: the same user turn goes on, encoder and adapter where they were."""
        if self._before_reply is not None:
            self._store.truncate(self.committed, *self._before_reply)
            self._taken = True

    def cut_reply(self, keep: int) -> None:
        """Keep `keep` tokens of the conversation: what was heard."""
        self._store.truncate(self.committed, keep)
