"""Turn text into token numbers of a fixed length."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from edgekit.core.errors import InputError, require_module
from edgekit.core.options import Meta, Options, path_option
from edgekit.data.fingerprint import existing
from edgekit.data.inputs import choose_input

if TYPE_CHECKING:
    from edgekit.data.contracts import Array

TokenOutput = Literal["input_ids", "attention_mask", "token_type_ids"]
_PAD_TOKENS = ("[PAD]", "<pad>", "<|endoftext|>")


class Tokenize(Options, frozen=True):
    """Replace a text input by `input_ids`, `attention_mask` and whatever else `outputs` names.

    Every row is cut and padded to `max_length`: compiled models have fixed shapes.
    """

    path: Annotated[str, path_option("a tokenizer.json, or the folder that holds it")]
    max_length: Annotated[int, Meta(ge=1, le=65536, description="tokens per row")] = 128
    outputs: Annotated[
        tuple[TokenOutput, ...], Meta(min_length=1, description="int64 inputs to produce, in order")
    ] = ("input_ids", "attention_mask")
    pad_token: Annotated[
        str | None, Meta(description="padding token; by default the tokenizer's, or a usual one")
    ] = None
    input: Annotated[str | None, Meta(description="the text input; the only one if unset")] = None

    def __post_init__(self) -> None:
        """Let a model's folder stand for the one file in it that matters here."""
        if Path(self.path).is_dir():
            path = str(Path(self.path) / "tokenizer.json")
            msgspec.structs.force_setattr(self, "path", path)

    def apply(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Turn one text input [batch] into int64 arrays [batch, max_length].

        Raises:
            InputError: the `tokenizers` package or the file is missing, the file is damaged, the
                input is not text, or no padding token is known.
        """
        import numpy as np

        chosen = choose_input(inputs, self.input, "tokenize")
        texts = inputs[chosen]
        if texts.dtype.kind not in "UT" or texts.ndim != 1:
            raise InputError(
                "preprocess 'tokenize'",
                found=f"'{chosen}' of type {texts.dtype}, shape {texts.shape}",
                expected="one string per sample",
            )
        rows = self._tokenizer().encode_batch([str(text) for text in texts])
        fields = {
            "input_ids": "ids",
            "attention_mask": "attention_mask",
            "token_type_ids": "type_ids",
        }
        tokens: dict[str, Array] = {
            name: np.array([getattr(row, fields[name]) for row in rows], np.int64).reshape(
                len(texts), self.max_length
            )
            for name in self.outputs
        }
        return {**{key: array for key, array in inputs.items() if key != chosen}, **tokens}

    def _tokenizer(self) -> Any:  # noqa: ANN401 - the package ships no types
        tokenizers = require_module("tokenizers", "hf")
        path = existing(Path(self.path), "preprocess 'tokenize'")
        try:
            tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the package raises bare Exception
            raise InputError(
                f"preprocess 'tokenize': reading {path}",
                found=str(error),
                expected="a tokenizer.json",
            ) from error
        token = self._pad_token(tokenizer)
        tokenizer.enable_truncation(max_length=self.max_length)
        tokenizer.enable_padding(
            length=self.max_length, pad_id=tokenizer.token_to_id(token), pad_token=token
        )
        return tokenizer

    def _pad_token(self, tokenizer: Any) -> str:  # noqa: ANN401 - the package ships no types
        own = (tokenizer.padding or {}).get("pad_token")
        wanted = (self.pad_token,) if self.pad_token is not None else (own, *_PAD_TOKENS)
        for token in wanted:
            if token is not None and tokenizer.token_to_id(token) is not None:
                return str(token)
        raise InputError(
            f"preprocess 'tokenize': {self.path} knows no padding token",
            found=f"none of {', '.join(token for token in wanted if token)}",
            hint="Set pad_token to a token of this tokenizer",
        )
