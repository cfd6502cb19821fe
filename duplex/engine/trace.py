"""Recording of intermediate tensors, for debugging a new checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from duplex.core.types import TurnDecision
from duplex.model.caches import StreamCaches
from duplex.model.chat import ChatFormat

REFERENCE_STATES = {  # "cl", "ss", "el" of the fixtures' meta.json
    TurnDecision.CONTINUE: 2,
    TurnDecision.RESPOND: 4,
    TurnDecision.IGNORE: 3,
}


class Trace:
    """Tensors by name, in the order they were computed."""

    def __init__(self) -> None:
        self._rows: dict[str, list[Tensor]] = {}

    def add(self, name: str, value: Tensor | int) -> None:
        """Record one more row of `name`."""
        row = torch.as_tensor(value).detach().cpu()
        self._rows.setdefault(name, []).append(row.float() if row.is_floating_point() else row)

    def conversation_format(self, chat: ChatFormat, prompt_embeddings: Tensor, suffix: Tensor) -> None:
        """What stands around a user's turn; suffix [n, llm_dim]."""
        self.add("prefix_token_ids!", torch.tensor(chat.prefix))
        self.add("prompt_embeds!", prompt_embeddings)
        self.add("suffix_token_ids!", torch.tensor(chat.suffix))
        self.add("suffix_llm_in!", suffix)

    def listened(self, features: Tensor, encoded: Tensor, adapted: Tensor, row: Tensor) -> None:
        """One chunk from features to the LLM's input."""
        self.add("fbank", features)
        self.add("enc", encoded)
        self.add("adapter", adapted)
        self.add("listen_llm_in+", row)

    def decided(self, hidden: Tensor, logits: Tensor, probs: Tensor, decision: TurnDecision) -> None:
        """One chunk from the LLM's last hidden state to the decision."""
        self.add("listen_llm_out_last", hidden)
        self.add("state_logits", logits)
        self.add("state_prob", probs)
        self.add("stat_out", REFERENCE_STATES[decision])

    def written(self, hidden: Tensor, logits: Tensor, length: int, token: int) -> None:
        """One token of a reply and what it was chosen by; `length`: positions in the LLM's KV-cache."""
        self.add("reply_llm_out_last", hidden)
        self.add("reply_logits", logits)
        self.add("reply_kv_len", length)
        self.add("reply_tokens", token)

    def caches(self, length: int, stream: StreamCaches) -> None:
        """What is carried to the next chunk; `length`: positions in the LLM's KV-cache."""
        self.add("kv_len", length)
        self.add("pe_index_out", stream.pe_index)
        self.add("enc_cache_shape", torch.tensor([list(k.shape) for k in stream.encoder_k]))
        self.add("adapter_cache_shape", torch.tensor([list(c.shape) for c in stream.adapter]))
        for block, (k, v) in enumerate(zip(stream.encoder_k, stream.encoder_v, strict=True)):
            self.add(f"enc_cache_final.{block}.k!", k)
            self.add(f"enc_cache_final.{block}.v!", v)
        for entry, context in enumerate(stream.adapter):
            self.add(f"adapter_cache_final.{entry}!", context)

    def tensors(self) -> dict[str, Tensor]:
        """Rows stacked on a new first axis; rows of different lengths are joined and their lengths given as
        `name_len`; a single row recorded under a name that ends in "!" stands alone.
        """
        out: dict[str, Tensor] = {}
        for name, rows in self._rows.items():
            if name.endswith("!"):
                out[name[:-1]] = rows[-1].contiguous()
            elif name.endswith("+"):
                out[name[:-1]] = torch.cat(rows).contiguous()
                out[f"{name[:-1]}_len"] = torch.tensor([len(row) for row in rows])
            else:
                out[name] = torch.stack(rows).contiguous()
        return out

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        from safetensors.torch import save_file

        save_file(self.tensors(), str(path))
