"""Text segments: the pieces of a reply that are spoken one after another."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Segment:
    """A piece of a reply. `text` as written; `first_token`, `token_count`: its place in the reply's tokens;
    `hidden` [token_count, llm_dim]: the hidden states that predicted those tokens (fixture quirk 9)."""

    text: str
    first_token: int
    token_count: int
    hidden: torch.Tensor
    last: bool = False
