"""Tokenizers are read as they declare themselves."""

import json
from pathlib import Path

from duplex.model.llm import load_tokenizer
from duplex.train.tokenizer import make_tokenizer

LLM = Path(__file__).parent.parent / "data" / "fixtures" / "llm_tiny"


def test_a_sentencepiece_tokenizer_survives_a_qwen2_config_beside_it(tmp_path):
    make_tokenizer(tmp_path, 320, seed=1, dialogues=500)
    text = "what is seven plus five"
    before = load_tokenizer(tmp_path).encode(text, add_special_tokens=False)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.encode(text, add_special_tokens=False) == before
    assert tokenizer.decode(before) == text


def test_a_declared_class_is_used():
    assert type(load_tokenizer(LLM)).__name__.startswith("Qwen2")
