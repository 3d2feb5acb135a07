from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgekit.core.errors import InputError
from edgekit.data.fingerprint import content_digest
from edgekit.data.preprocess.tokenize import Tokenize

if TYPE_CHECKING:
    from tests.data.conftest import Resolve


pytest.importorskip("tokenizers")

Step = Callable[..., Tokenize]


def write_tokenizer(path: Path, vocabulary: list[str]) -> Path:
    content = {
        "version": "1.0",
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {
            "type": "WordLevel",
            "vocab": {word: number for number, word in enumerate(vocabulary)},
            "unk_token": "[UNK]",
        },
        "added_tokens": [],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    return write_tokenizer(tmp_path / "model" / "tokenizer.json", ["[UNK]", "[PAD]", "buy", "now"])


@pytest.fixture
def step(resolve: Resolve, tokenizer: Path) -> Step:
    return lambda **options: resolve(
        "preprocess", {"tokenize": {"path": str(tokenizer), "max_length": 3, **options}}
    )


def test_text_becomes_numbers_and_a_mask(step: Step) -> None:
    found = step().apply({"text": np.array(["buy", "now buy or now"])})
    assert list(found) == ["input_ids", "attention_mask"]
    np.testing.assert_array_equal(found["input_ids"], [[2, 1, 1], [3, 2, 0]])
    np.testing.assert_array_equal(found["attention_mask"], [[1, 0, 0], [1, 1, 1]])
    assert found["input_ids"].dtype == np.int64


def test_outputs_choose_the_model_inputs(step: Step) -> None:
    found = step(outputs=["token_type_ids", "input_ids"]).apply({"text": np.array(["buy"])})
    assert list(found) == ["token_type_ids", "input_ids"]


def test_other_inputs_pass_through(step: Step) -> None:
    found = step(input="text").apply({"text": np.array(["buy"]), "age": np.array([3])})
    assert set(found) == {"age", "input_ids", "attention_mask"}


def test_an_empty_batch_keeps_its_shape(step: Step) -> None:
    assert step().apply({"text": np.array([], dtype=str)})["input_ids"].shape == (0, 3)


def test_a_folder_stands_for_its_tokenizer(step: Step, tokenizer: Path) -> None:
    by_folder = step(path=str(tokenizer.parent))
    assert by_folder.path == str(tokenizer)
    assert content_digest(by_folder) == content_digest(step())


def test_the_vocabulary_is_in_the_digest(step: Step, tokenizer: Path) -> None:
    before = content_digest(step())
    write_tokenizer(tokenizer, ["[UNK]", "[PAD]", "now", "buy"])
    assert content_digest(step()) != before


def test_numbers_are_refused(step: Step) -> None:
    with pytest.raises(InputError, match=r"'x' of type float64.*expected one string per sample"):
        step().apply({"x": np.zeros(3)})


def test_a_missing_tokenizer_is_named(step: Step, tmp_path: Path) -> None:
    missing = step(path=str(tmp_path / "no.json"))
    with pytest.raises(InputError, match=r"no\.json does not exist"):
        missing.apply({"text": np.array(["a"])})
    with pytest.raises(InputError, match=r"no\.json does not exist"):
        content_digest(missing)


def test_a_damaged_tokenizer_is_refused(step: Step, tokenizer: Path) -> None:
    tokenizer.write_text("{}")
    with pytest.raises(InputError, match=r"tokenizer\.json: found .*, expected a tokenizer\.json"):
        step().apply({"text": np.array(["a"])})


def test_an_unknown_padding_token_is_refused(step: Step, tokenizer: Path) -> None:
    with pytest.raises(InputError, match=r"found none of \[NIX\]. Hint: Set pad_token"):
        step(pad_token="[NIX]").apply({"text": np.array(["a"])})
    write_tokenizer(tokenizer, ["[UNK]", "a"])
    with pytest.raises(InputError, match="knows no padding token"):
        step().apply({"text": np.array(["a"])})


def test_a_missing_package_says_how_to_get_it(step: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)  # what import sees when it is missing
    with pytest.raises(InputError, match=r"'tokenizers' is needed.*pip install 'edgekit\[hf\]'"):
        step().apply({"text": np.array(["a"])})
