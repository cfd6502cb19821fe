"""How a conversation is written for the LLM, from the checkpoint's chat template (fixture quirk 7)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from duplex.core.errors import CheckpointError

AUDIO_MARK = "<audio>"
END_OF_TURN = "<|im_end|>"
SYSTEM_HEAD = "<|im_start|>system\n"


@dataclass(frozen=True)
class ChatFormat:
    """Token ids around a user turn.

    prefix: end-of-turn, then what stands before the audio; inserted at the start of every user turn.
    suffix: what stands behind the audio; opens the reply. A system prompt is written without its end-of-turn
    token, because the next prefix brings it.
    """

    end_of_turn: int
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    default_role: str
    encode: Callable[[str], list[int]]

    @classmethod
    def from_template(cls, template: str, encode: Callable[[str], list[int]]) -> ChatFormat:
        """Take a template apart: system part, end of turn, text before and behind `<audio>`.

        Raises CheckpointError when the template lacks one of them.
        """
        if template.count(AUDIO_MARK) != 1 or not template.startswith(SYSTEM_HEAD):
            raise CheckpointError(f"chat template has no system part or not exactly one {AUDIO_MARK}: {template!r}")
        before, behind = template.split(AUDIO_MARK)
        role, mark, user_head = before.removeprefix(SYSTEM_HEAD).partition(END_OF_TURN)
        end_ids = encode(END_OF_TURN)
        if not mark or len(end_ids) != 1:
            raise CheckpointError(f"chat template or tokenizer lacks {END_OF_TURN} as one token")
        return cls(end_ids[0], (end_ids[0], *encode(user_head)), tuple(encode(behind)), role, encode)

    def system(self, role: str | None = None) -> list[int]:
        """Token ids of the system prompt, its own by default."""
        return self.encode(SYSTEM_HEAD + (self.default_role if role is None else role))
