"""Text of a reply: hidden states, logits, tokens, and where it is cut into segments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from duplex.core.types import SamplingParams
from duplex.model.checkpoint import DuplexModel
from duplex.model.sampling import CodeSampler, TextSampler, distribution
from duplex.model.segmenter import SERVER_RULES, Segment, TextSegmenter, post_process
from tests.model.conftest import Tensors, assert_near


def test_reply_tokens_and_logits(model: DuplexModel, listen: Tensors) -> None:
    llm = model.llm
    pool = llm.new_pool(slots=1, max_length=256)
    branch = pool.acquire()
    heard = torch.cat([listen["system_llm_in"], listen["listen_llm_in"]])
    llm.forward(pool, [branch], [heard])
    assert branch.length == listen["kv_len"][-1]
    sampler = TextSampler(SamplingParams(top_k=1))
    rows = llm.embed(model.chat.suffix)
    assert_near(rows, listen["suffix_llm_in"])
    tokens: list[int] = []
    for index, expected in enumerate(listen["reply_tokens"].tolist()):
        last = llm.forward(pool, [branch], [rows])[0][-1]
        assert_near(last, listen["reply_llm_out_last"][index])
        logits = llm.logits(last)
        assert_near(logits, listen["reply_logits"][index])
        assert branch.length == listen["reply_kv_len"][index]
        token = sampler.sample(logits)
        assert token == expected
        tokens.append(token)
        rows = llm.embed([token])
    assert tokens[-1] == model.chat.end_of_turn


def test_tokenizer(model: DuplexModel, meta: dict[str, Any]) -> None:
    for text, ids in meta["units"]["tokenize"]:
        assert model.llm.encode(text) == ids
    assert model.chat.end_of_turn == meta["units"]["eod_id"]


def test_sampling_distribution(units: Tensors, meta: dict[str, Any]) -> None:
    for index, (temperature, top_k, top_p) in enumerate(meta["units"]["sampling_combos_temperature_topk_topp"]):
        probs = distribution(units["sampling.logits"], temperature, top_k, top_p)
        torch.testing.assert_close(probs, units["sampling.probs"][index], rtol=1e-5, atol=1e-6)
        assert torch.equal(probs > 0, units["sampling.probs"][index] > 0)


def test_top_p_drops_the_token_that_crosses_the_threshold() -> None:
    logits = torch.tensor([[0.5, 0.4, 0.1]]).log()
    assert distribution(logits, 1.0, 0, 0.8)[0].tolist() == [1.0, 0.0, 0.0]


def test_temperature_must_be_positive() -> None:
    with pytest.raises(ValueError, match="temperature"):
        distribution(torch.zeros(1, 3), 0.0, 0, 0.0)


def test_equal_seeds_give_equal_text_whatever_runs_beside() -> None:
    logits = torch.randn(40, 50, generator=torch.Generator().manual_seed(2))
    params = SamplingParams(temperature=1.2, top_k=0, seed=7)

    def drawn() -> list[int]:
        sampler = TextSampler(params)
        return [sampler.sample(row) for row in logits]

    first = drawn()
    torch.rand(100)
    assert drawn() == first
    assert first != [int(row.argmax()) for row in logits]


def test_codes_outside_the_codebook_are_barred() -> None:
    logits = torch.tensor([0.0, 1.0, 50.0, 40.0, 0.5, 30.0])  # 2 codes, bos, sos, eos, pad
    sampler = CodeSampler(0, 1.1, -1, 3, barred=(2, 3, 5))
    assert {sampler.sample(logits, []) for _ in range(60)} == {0, 1, 4}


def test_penalty_lowers_both_signs_unless_the_reference_form_is_asked_for() -> None:
    logits = torch.tensor([2.0, -2.0, 1.0])
    history = [2, 0, 1, 0]
    correct = CodeSampler(1, 2.0, 3, 0).adjusted(logits, history)
    assert correct.tolist() == [0.5, -4.0, 1.0]  # compounded per repeat; the 2 is outside the window
    reference = CodeSampler(1, 2.0, 3, 0, reference_penalty=True).adjusted(logits, history)
    assert reference.tolist() == [0.5, -1.0, 1.0]
    assert CodeSampler(1, 2.0, -1, 0).adjusted(logits, history).tolist() == logits.tolist()


def segments_of(model: DuplexModel, text: str, *, offline: bool = False, spoken: bool = False) -> list[str]:
    segmenter = TextSegmenter(model.llm.tokenizer, offline=offline)
    segmenter.spoken = spoken
    found: list[Segment] = []
    tokens = model.llm.encode(text)
    for index, token in enumerate(tokens):
        segment = segmenter.push(token, torch.full((2,), float(index)))
        found += [segment] if segment else []
    rest = segmenter.flush()
    found += [rest] if rest else []
    assert segmenter.text == text
    expected_first = 0
    for segment in found:
        assert segment.first_token == expected_first
        assert segment.hidden[:, 0].tolist() == list(range(expected_first, expected_first + segment.token_count))
        assert len(segment.token_lengths) == segment.token_count
        expected_first += segment.token_count
    return [segment.text for segment in found]


def test_offline_segments(model: DuplexModel, listen: Tensors, pieces: Tensors, meta: dict[str, Any]) -> None:
    segmenter = TextSegmenter(model.llm.tokenizer, offline=True)
    found: list[Segment] = []
    for index, token in enumerate(listen["reply_tokens"].tolist()[:-1]):
        segment = segmenter.push(token, listen["reply_hidden"][index])
        assert segmenter.text == meta["q2"]["reply_text_steps"][index]
        found += [segment] if segment else []
    assert segmenter.flush() is None
    assert len(found) == len(meta["q2"]["e2e_segments"])
    for index, (segment, stated) in enumerate(zip(found, meta["q2"]["e2e_segments"], strict=True)):
        processed = post_process(segment.text)
        assert (segment.text, segment.token_count) == (stated["text"], stated["n_hidden"])
        assert processed == stated["processed"]
        assert model.llm.encode(processed) == stated["token_ids"]
        split = model.speech_decoder.split
        assert_near(split(segment.hidden)[None], pieces[f"seg{index}.prefix"])
        assert_near(split(model.llm.embed(stated["token_ids"]))[None], pieces[f"seg{index}.embeds"])


def test_post_process(meta: dict[str, Any]) -> None:
    for written, spoken in meta["units"]["post_process"]:
        assert post_process(written) == spoken
    assert post_process(meta["q2"]["full"]["text"]) == meta["q2"]["full"]["processed"]


@pytest.mark.parametrize(
    ("text", "before_audio", "while_speaking"),
    [
        (
            "Hello, how are you, today? I am fine. Bye bye now",
            ["Hello, how are you,", " today? I am fine.", " Bye bye now"],
            ["Hello, how are you, today?", " I am fine.", " Bye bye now"],
        ),
        ("It is 12.5 and 3. ok", ["It is 12.5 and 3. ok"], ["It is 12.5 and 3. ok"]),
        ("Hi!", ["Hi!"], ["Hi!"]),
        ("你好，世界！你好", ["你好，世界！", "你好"], ["你好，世界！", "你好"]),
        (".", ["."], ["."]),
        ("x.", ["x."], ["x."]),
        ("", [], []),
        ("****", [], []),
        ("\n\n\n\n\nHi there you", ["\n\n\n\n\nHi there you"], ["\n\n\n\n\nHi there you"]),
    ],
)
def test_live_segments(model: DuplexModel, text: str, before_audio: list[str], while_speaking: list[str]) -> None:
    assert segments_of(model, text) == before_audio
    assert segments_of(model, text, spoken=True) == while_speaking


def test_a_comma_ends_a_long_segment_while_speaking(model: DuplexModel) -> None:
    short, long = "abc def, ghi.", "abcdefghi jklmnopq rstuvw xyzzy, and then some."
    assert len(model.llm.encode(long.split(",")[0])) >= 20
    assert segments_of(model, short, spoken=True) == [short]
    assert segments_of(model, long, spoken=True) == [long.split(",")[0] + ",", " and then some."]
    assert segments_of(model, long, offline=True) == [long]


def test_half_a_character_is_deferred_and_never_spoken(model: DuplexModel) -> None:
    tokens = model.llm.encode("ok 😀")
    segmenter = TextSegmenter(model.llm.tokenizer)
    texts = []
    for token in tokens[:-1]:
        segmenter.push(token, torch.zeros(2))
        texts.append(segmenter.text)
    assert "\ufffd" not in "".join(texts)
    rest = segmenter.flush()
    assert rest is not None
    assert (rest.text, rest.token_count, rest.last) == ("ok ", len(tokens) - 1, True)


def test_special_tokens_other_than_the_end_are_not_spoken(model: DuplexModel) -> None:
    tokens = model.llm.encode("one<|im_start|>two.")
    segmenter = TextSegmenter(model.llm.tokenizer)
    found = [segmenter.push(token, torch.zeros(2)) for token in tokens]
    assert found[-1] is not None
    assert found[-1].text == "onetwo."
    assert found[-1].token_count == len(tokens)


def test_text_without_marks_is_cut_between_words() -> None:
    words = [f" word{number}" if number % 3 else "s" for number in range(1, 200)]
    segmenter = TextSegmenter(Silent())
    found = [segmenter.push(0, torch.zeros(1), word) for word in words]
    cut = [segment for segment in (*found, segmenter.flush()) if segment]
    limit = SERVER_RULES.max_hidden
    assert limit is not None
    assert "".join(segment.text for segment in cut) == segmenter.text == "".join(words)
    assert all(limit <= segment.token_count < limit + 3 for segment in cut[:-1])
    assert all(segment.text.startswith(" ") for segment in cut[1:]), "no word is cut in two"
    assert [segment.first_token for segment in cut] == [0, *np.cumsum([s.token_count for s in cut])[:-1]]


def test_text_without_gaps_is_cut_in_the_end() -> None:
    segmenter = TextSegmenter(Silent())
    found = [segmenter.push(0, torch.zeros(1), "a") for _ in range(300)]
    assert SERVER_RULES.max_hidden is not None
    assert [s.token_count for s in found if s] == [2 * SERVER_RULES.max_hidden] * 2


class Silent:
    """Knows no text: it comes with the tokens."""

    def decode(self, token_ids: list[int], **options: bool) -> str:
        assert not token_ids
        return ""


def test_segments_with_a_sentencepiece_like_tokenizer() -> None:
    class Pieces:
        """Drops the space before the first piece it is given, as SentencePiece decoders do."""

        words = ("▁The", "▁sea", ".", "▁It", "▁is", "▁blue", ".")

        def decode(self, token_ids: list[int], **options: bool) -> str:
            return "".join(self.words[i] for i in token_ids).replace("▁", " ").removeprefix(" ")

    segmenter = TextSegmenter(Pieces())
    found = [segmenter.push(token, torch.zeros(1)) for token in range(7)]
    assert segmenter.text == "The sea. It is blue."
    assert [piece.text for piece in found if piece] == ["The sea. It is blue."]  # three tokens are too short alone
