"""The prompt and its ids; the tokenizer is the checkpoint's own `tokenizer.json`."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from moxin_vla.core.errors import CheckpointError
from moxin_vla.core.types import checked_instruction
from moxin_vla.policy.moxin.config import MoxinConfig

EMPTY_PIECE = "▁"
_SPECIAL = ("<unk>", "<s>", "</s>", "<PAD>")


def prompt(instruction: str) -> str:
    """Return the prompt that OpenVLA-OFT trains on (moojink/openvla-oft, `openvla_utils.py`)."""
    instruction = checked_instruction(instruction).lower()
    return f"In: What action should the robot take to {instruction}?\nOut:"


class PromptTokenizer:
    """Turns instructions into ids: BOS first, EMPTY last; results are cached by instruction.

    Args:
        tokenizer: A fast tokenizer.
        config: For BOS, the override of EMPTY and the longest prompt.

    Raises:
        CheckpointError: The tokenizer has no piece '▁' and no override is set, or it does not fit
            the trunk's vocabulary.
    """

    def __init__(self, tokenizer: Tokenizer, config: MoxinConfig) -> None:
        empty = config.empty_token_id
        self.empty_id = tokenizer.token_to_id(EMPTY_PIECE) if empty is None else empty
        if self.empty_id is None:
            raise CheckpointError(
                f"The tokenizer has no piece '{EMPTY_PIECE}'. Set empty_token_id in config.json."
            )
        if tokenizer.get_vocab_size() > config.text.vocab_size:
            raise CheckpointError(
                f"The tokenizer has {tokenizer.get_vocab_size()} pieces. "
                f"The trunk's vocabulary has room for {config.text.vocab_size}."
            )
        self._tokenizer, self._config = tokenizer, config
        self._cache: dict[str, tuple[int, ...]] = {}

    def ids(self, instruction: str) -> tuple[int, ...]:
        """Return the prompt's ids.

        Raises:
            InstructionError: The instruction is empty.
            CheckpointError: The prompt is longer than the model takes.
        """
        if instruction not in self._cache:
            self._cache[instruction] = self._encode(instruction)
        return self._cache[instruction]

    def _encode(self, instruction: str) -> tuple[int, ...]:
        encoded = self._tokenizer.encode(prompt(instruction), add_special_tokens=False).ids
        ids = [self._config.bos_token_id, *encoded]
        if ids[-1] != self.empty_id:
            ids.append(self.empty_id)
        if len(ids) > self._config.llm_max_length:
            raise CheckpointError(
                f"The prompt has {len(ids)} tokens. The model takes {self._config.llm_max_length}."
            )
        return tuple(ids)

    def padded(self, instructions: Sequence[str]) -> tuple[list[list[int]], list[list[bool]]]:
        """Return ids padded on the right and the mask of real tokens, both (B, L)."""
        rows = [self.ids(instruction) for instruction in instructions]
        longest = max(len(row) for row in rows)
        pad = self._config.pad_token_id
        ids = [[*row, *[pad] * (longest - len(row))] for row in rows]
        mask = [[True] * len(row) + [False] * (longest - len(row)) for row in rows]
        return ids, mask


def load_tokenizer(path: Path) -> Tokenizer:
    """Read `tokenizer.json`; raise CheckpointError if it is missing or no tokenizer."""
    if not path.is_file():
        raise CheckpointError(f"The checkpoint has no tokenizer: '{path}' is missing.")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(f"'{path}' is not a tokenizer: {error}") from None


def build_tokenizer(instructions: Iterable[str]) -> Tokenizer:
    """Make a small byte-pair tokenizer in Llama's style.

    Words of the prompts are whole pieces; everything else falls back to letters and bytes.
    """
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(EMPTY_PIECE, prepend_scheme="first")
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(EMPTY_PIECE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    pieces = [*_SPECIAL, *[f"<0x{byte:02X}>" for byte in range(256)]]
    trainer = trainers.BpeTrainer(
        vocab_size=640,
        special_tokens=pieces,
        initial_alphabet=list(EMPTY_PIECE + "abcdefghijklmnopqrstuvwxyzIOW?:,.\n"),
        show_progress=False,
    )
    tokenizer.train_from_iterator([prompt(text) for text in instructions] * 3, trainer)
    content = json.loads(tokenizer.to_str())
    # Byte pieces belong to the model only: as added tokens they would match the text '<0x41>'.
    content["added_tokens"] = [t for t in content["added_tokens"] if t["content"] in _SPECIAL]
    return Tokenizer.from_str(json.dumps(content, ensure_ascii=False))
