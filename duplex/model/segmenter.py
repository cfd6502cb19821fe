"""Text segments: the pieces of a reply that are spoken one after another, cut where a speaker would pause."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

import torch

CLOSING_MARKS = frozenset("。！？；.!?;…\n")
COMMAS = frozenset(",，、")
TRAILING = " \t\r\"'”’)）]】»"  # may follow a mark in the same token
INCOMPLETE = "\ufffd"  # what a tokenizer decodes half a character to

_DROPPED = str.maketrans("", "", "*`~_#\n\r\t")
_AS_COMMA = str.maketrans({"(": ",", ")": ",", "（": "，", "）": "，", "、": "，"})
_CHINESE = re.compile(r"[\u4e00-\u9fff]")
_LIST_NUMBER = re.compile(r"(\d)\. *(?=[^\W\d])")  # "1. First": a digit, a point, then a letter
_GAP_AFTER_MARK = re.compile(r"([.:：]) +")
_FINAL_MARKS = frozenset("。！？；.!?;…:：")


def post_process(text: str) -> str:
    """What is spoken of a written segment, "" when nothing is; the speech decoder was trained on such text.

    Markup and line breaks go, brackets become commas, list numbers ("1. ") get a colon instead of the point,
    gaps behind points and colons close, and the last mark ends the sentence ("。" also behind English).
    """
    # Line breaks go first: what stands on the next line counts as following its mark directly.
    text = text.translate(_DROPPED).translate(_AS_COMMA).strip()
    text = _LIST_NUMBER.sub(r"\1：" if _CHINESE.search(text) else r"\1:", text)
    text = _GAP_AFTER_MARK.sub(r"\1", text)
    if text and text[-1] in COMMAS:
        return text[:-1] + "。"
    if text and text[-1] not in _FINAL_MARKS:
        return text + "。"
    return text


@dataclass(frozen=True)
class Segment:
    """A piece of a reply.

    text: as written, before `post_process`. first_token, token_count: its place in the reply's tokens.
    hidden [token_count, llm_dim]: the hidden states that predicted those tokens (fixture quirk 9).
    token_lengths: visible characters each token brought, to share out the segment's duration.
    last: whether the reply ends with it; not set where the reply happens to end just behind a cut.
    """

    text: str
    first_token: int
    token_count: int
    hidden: torch.Tensor
    token_lengths: tuple[int, ...]
    last: bool = False


class Decoder(Protocol):
    """The one thing a segmenter asks of a tokenizer."""

    def decode(self, token_ids: list[int], **options: bool) -> str: ...


@dataclass(frozen=True)
class SegmentRules:
    """When a piece of a reply is long enough to be spoken (fixture quirks 18 and 19).

    min_hidden: hidden states a segment has at least, but for the last one.
    comma_hidden: hidden states from which a comma ends a segment; None: commas never do.
    comma_before_audio: a comma ends a segment as long as nothing has been spoken, for an early start.
    max_hidden: hidden states behind which a segment ends at the next word, and at twice as many in any case: text without
    marks is spoken before all of it is written. None: never.
    """

    min_hidden: int = 4
    comma_hidden: int | None = 20
    comma_before_audio: bool = True
    max_hidden: int | None = 64


SERVER_RULES = SegmentRules()
OFFLINE_RULES = SegmentRules(min_hidden=1, comma_hidden=None, comma_before_audio=False, max_hidden=None)


class TextSegmenter:
    """Cuts one reply, token by token. Not shared between replies.

    `spoken`: set by the engine once audio of this reply exists. `text`: the reply so far, whole characters only.
    """

    def __init__(self, tokenizer: Decoder, *, offline: bool = False) -> None:
        self.rules = OFFLINE_RULES if offline else SERVER_RULES
        self.spoken = False
        self.text = ""
        self._tokenizer = tokenizer
        self._tokens: list[int] = []
        self._first = 0  # of the open segment, in tokens
        self._first_char = 0  # of the open segment, in self.text
        self._hidden: list[torch.Tensor] = []
        self._lengths: list[int] = []
        # Decoding windows: tokens before `_read` have given their text; those from `_context` on are decoded
        # again with every new token, because a tokenizer may treat a text's first token differently.
        self._context = 0
        self._read = 0

    def push(self, token_id: int, hidden_row: torch.Tensor, written: str | None = None) -> Segment | None:
        """Take a token (not the end-of-turn one) and the hidden state [llm_dim] that predicted it, or would have.
        `written`: its text, where that is known beforehand; either of all tokens or of none.

        Returns the segment it completes. One that is empty after `post_process` stays open, and so becomes the
        beginning of the next.
        """
        self._tokens.append(token_id)
        if written is None:
            written = self._decode_new()
        else:
            self._context = self._read = len(self._tokens)
        before = self._cut() if self._overdue(written) else None
        self._hidden.append(hidden_row)
        self.text += written
        self._lengths.append(len(written.strip()))
        return before or (self._cut() if self._closes(written) else None)

    def flush(self) -> Segment | None:
        """The end of the reply: what is left, marked `last`, or None when that is nothing to speak."""
        self.text += self._decode_tail()
        return self._cut(last=True)

    def _overdue(self, written: str) -> bool:
        """Whether the open segment is long enough to end before the word that `written` begins."""
        limit, count = self.rules.max_hidden, len(self._hidden)
        if limit is None or count < limit:
            return False
        return count >= 2 * limit or written[:1].isspace() or _CHINESE.match(written) is not None

    def _closes(self, written: str) -> bool:
        rules = self.rules
        count = len(self._hidden)
        if not written or count < rules.min_hidden:
            return False
        if "\n" in written:
            return True
        piece = self.text[self._first_char :].rstrip(TRAILING)
        # A token of trailing characters alone comes too late: its mark was judged one token earlier.
        if len(self.text) - len(self.text.rstrip(TRAILING)) >= len(written) or not piece:
            return False
        if piece[-1] in COMMAS:
            early = rules.comma_before_audio and not self.spoken
            return early or (rules.comma_hidden is not None and count >= rules.comma_hidden)
        if piece[-1] == "." and piece[-2:-1].isdigit():
            return False  # "1." of a list, or the middle of 12.5
        return piece[-1] in CLOSING_MARKS

    def _cut(self, *, last: bool = False) -> Segment | None:
        text = self.text[self._first_char :]
        if not self._hidden or not post_process(text):
            return None
        hidden = torch.stack(self._hidden)
        segment = Segment(text, self._first, len(self._hidden), hidden, tuple(self._lengths), last)
        self._first += segment.token_count
        self._first_char = len(self.text)
        self._hidden = []
        self._lengths = []
        return segment

    def _decode(self, start: int, end: int) -> str:
        return self._tokenizer.decode(
            self._tokens[start:end], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def _decode_new(self) -> str:
        """Text of the tokens since the last whole character, "" while one is incomplete."""
        known = self._decode(self._context, self._read)
        longer = self._decode(self._context, len(self._tokens))
        if longer.endswith(INCOMPLETE):
            return ""
        self._context, self._read = self._read, len(self._tokens)
        return longer[len(known) :]

    def _decode_tail(self) -> str:
        """What `_decode_new` deferred, without the half character."""
        known = self._decode(self._context, self._read)
        return self._decode(self._context, len(self._tokens))[len(known) :].rstrip(INCOMPLETE)
