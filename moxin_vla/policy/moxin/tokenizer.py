"""The prompt and its ids; the tokenizer is the checkpoint's own `tokenizer.json`."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from moxin_vla.core.errors import CheckpointError
from moxin_vla.core.types import checked_instruction
from moxin_vla.policy.moxin.config import PROMPT, MoxinConfig

EMPTY_PIECE = "▁"
_SPECIAL = ("<unk>", "<s>", "</s>", "<PAD>")
# Id of the empty piece in the 32,000-piece vocabularies of the trunks that were released.
_EMPTY_IDS = {"llama": 29871, "mistral": 28705}
_FULL_VOCABULARY = 32000


def prompt(instruction: str, template: str = PROMPT) -> str:
    """Return the prompt; by default the one that OpenVLA-OFT trains on (`openvla_utils.py`)."""
    return template.format(instruction=checked_instruction(instruction).lower())


class PromptTokenizer:
    """Turns instructions into ids: BOS first, EMPTY last; results are cached by instruction.

    Args:
        tokenizer: A fast tokenizer.
        config: For BOS, the override of EMPTY and the longest prompt.

    Raises:
        CheckpointError: The tokenizer has no piece '▁' and no override is set, or it is not the
            trunk's.
    """

    def __init__(self, tokenizer: Tokenizer, config: MoxinConfig) -> None:
        empty = config.empty_token_id
        self.empty_id = tokenizer.token_to_id(EMPTY_PIECE) if empty is None else empty
        if self.empty_id is None:
            raise CheckpointError(
                f"The tokenizer has no piece '{EMPTY_PIECE}'. Set empty_token_id in config.json."
            )
        _refuse_another_trunks(tokenizer, config)
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
        text = prompt(instruction, self._config.prompt)
        encoded = self._tokenizer.encode(text, add_special_tokens=False).ids
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


def _refuse_another_trunks(tokenizer: Tokenizer, config: MoxinConfig) -> None:
    """Refuse a tokenizer whose ids mean other pieces to the trunk: nothing else would notice."""
    for name, piece, expected in (
        ("bos_token_id", "<s>", config.bos_token_id),
        ("eos_token_id", "</s>", config.eos_token_id),
    ):
        found = tokenizer.token_to_id(piece)
        if found is not None and found != expected:
            raise CheckpointError(
                f"The tokenizer is not this checkpoint's: '{piece}' is {found}. "
                f"{name} says {expected}."
            )
    found = tokenizer.token_to_id(EMPTY_PIECE)
    expected = _EMPTY_IDS[config.text.model_type]
    full = tokenizer.get_vocab_size() >= _FULL_VOCABULARY
    if full and config.empty_token_id is None and found not in (None, expected):
        raise CheckpointError(
            f"The tokenizer is not a {config.text.model_type} one: '{EMPTY_PIECE}' is {found}. "
            f"Expected: {expected}. If the trunk was trained with it, set empty_token_id."
        )


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
