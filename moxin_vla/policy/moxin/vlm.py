"""Moxin-VLM: a question about an image in, text out; the same towers, projector and trunk."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn

from moxin_vla.core.errors import CheckpointError, InstructionError, PolicyError
from moxin_vla.policy.moxin.architecture import TextConfig, VisionTowerConfig
from moxin_vla.policy.moxin.backbone import VisionBackbone
from moxin_vla.policy.moxin.cache import KeyValueCache
from moxin_vla.policy.moxin.generation import Sampling, generate
from moxin_vla.policy.moxin.pixels import bicubic_resize
from moxin_vla.policy.moxin.projector import VisionProjector
from moxin_vla.policy.moxin.trunk import LanguageModel

PROMPT = "In: {question}\nOut:"
_UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # what half of a character decodes to


@dataclass(frozen=True, slots=True)
class VlmConfig:
    """A vision-language model without actions.

    Attributes:
        name: Shown to the user.
        towers: One or two vision towers.
        text: The trunk.
        prompt: Template; `{question}` is replaced.
        bos_token_id: Begins every prompt.
        eos_token_id: Ends every answer.
        llm_max_length: Longest sequence, image included, in tokens.
    """

    name: str
    towers: tuple[VisionTowerConfig, ...]
    text: TextConfig
    prompt: str = PROMPT
    bos_token_id: int = 1
    eos_token_id: int = 2
    llm_max_length: int = 2048

    @property
    def vision_width(self) -> int:
        """Channels of the fused towers."""
        return sum(tower.width for tower in self.towers)


class MoxinVLM(nn.Module):
    """Sequence [BOS | vision | prompt 2..L], causal. Parameter names are the released ones."""

    def __init__(self, config: VlmConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_backbone = VisionBackbone(config.towers)
        self.projector = VisionProjector(
            config.vision_width, config.text.hidden_size, len(config.towers) == 2
        )
        self.language_model = LanguageModel(config.text, lm_head=True)

    def prefill(self, pixel_values: Tensor, ids: Tensor, cache: KeyValueCache) -> Tensor:
        """Run image and prompt.

        Args:
            pixel_values: Shape (1, towers * 3, h, w).
            ids: Prompt ids with BOS first, shape (1, L).
            cache: Empty; filled.

        Returns:
            Hidden state of the last token, shape (1, 1, D).
        """
        text = self.language_model.model.embed_tokens(ids)
        vision = self.projector(self.vision_backbone(pixel_values)).flatten(1, 2)
        sequence = torch.cat([text[:, :1], vision.to(text.dtype), text[:, 1:]], dim=1)
        positions = torch.arange(sequence.shape[1], device=ids.device)
        last = slice(sequence.shape[1] - 1, sequence.shape[1])
        return self.language_model.model(sequence, positions, causal=True, cache=cache, rows=last)

    def sequence_length(self, prompt_length: int) -> int:
        """Return the tokens of image and prompt."""
        return prompt_length + self.config.towers[0].num_patches


class Vlm:
    """Answers questions. One thread at a time.

    Args:
        model: In evaluation mode, on its device.
        tokenizer: The trunk's.
        mean: Channel means of every tower, shape (3 * towers,).
        std: Channel deviations, same shape.
    """

    def __init__(
        self, model: MoxinVLM, tokenizer: Tokenizer, mean: list[float], std: list[float]
    ) -> None:
        self._model, self._tokenizer = model, tokenizer
        weight = model.language_model.model.embed_tokens.weight
        self._device, self._dtype = weight.device, weight.dtype
        self._mean, self._std = (
            torch.tensor(values, device=self._device).view(1, -1, 1, 1) for values in (mean, std)
        )
        if tokenizer.get_vocab_size() > model.config.text.vocab_size:
            raise CheckpointError(
                f"The tokenizer has {tokenizer.get_vocab_size()} pieces. "
                f"The trunk's vocabulary has room for {model.config.text.vocab_size}."
            )

    @property
    def config(self) -> VlmConfig:
        """What it runs."""
        return self._model.config

    def ask(
        self, image: NDArray[np.uint8], question: str, sampling: Sampling | None = None
    ) -> Iterator[str]:
        """Yield the answer piece by piece, as it is made.

        Args:
            image: RGB, uint8, shape (h, w, 3); any size.
            question: Text.
            sampling: How; greedy by default.

        Raises:
            InstructionError: The question is empty.
            PolicyError: The question is too long, or the image is none.
        """
        return self._pieces(self._pixels(image), self._ids(question), sampling or Sampling())

    def _pieces(self, pixels: Tensor, ids: Tensor, sampling: Sampling) -> Iterator[str]:
        model, given = self._model, ids.shape[1]
        length = model.sequence_length(given)
        capacity = min(self.config.llm_max_length, length + sampling.max_new_tokens)
        cache = KeyValueCache(
            self.config.text, 1, capacity, model.language_model.model.embed_tokens.weight
        )
        with torch.inference_mode():
            hidden = model.prefill(pixels, ids, cache)
            tokens = generate(
                model.language_model, hidden, cache, sampling, self.config.eos_token_id
            )
            yield from self._text(tokens)

    def _text(self, tokens: Iterator[int]) -> Iterator[str]:
        """Decode what is known so far at each token, and yield what is new and whole."""
        ids: list[int] = []
        shown = ""
        for token in tokens:
            ids.append(token)
            text = self._tokenizer.decode(ids)
            if text.startswith(shown) and len(text) > len(shown) and text[-1] != _UNFINISHED:
                yield text[len(shown) :]
                shown = text

    def _ids(self, question: str) -> Tensor:
        if not question.strip():
            raise InstructionError("The question is empty.")
        text = self.config.prompt.format(question=question.strip())
        ids = [
            self.config.bos_token_id,
            *self._tokenizer.encode(text, add_special_tokens=False).ids,
        ]
        room = self.config.llm_max_length - self._model.sequence_length(0)
        if len(ids) >= room:
            raise PolicyError(
                f"The question has {len(ids)} tokens. Beside the image there is room for {room}."
            )
        return torch.tensor([ids], device=self._device)

    def _pixels(self, image: NDArray[np.uint8]) -> Tensor:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise PolicyError(
                f"An image must be uint8 RGB of shape (h, w, 3). Got: {image.dtype} {image.shape}"
            )
        square = bicubic_resize(image, self.config.towers[0].image_size)
        pixels = torch.from_numpy(square).to(self._device).permute(2, 0, 1)[None].float() / 255
        stacked = torch.cat([pixels] * len(self.config.towers), dim=1)
        return ((stacked - self._mean) / self._std).to(self._dtype)


def vlm_config(content: Mapping[str, Any], name: str) -> VlmConfig:
    """Build the config from a Prismatic config.json, released or native."""
    from moxin_vla.policy.moxin.released import architecture

    towers, text = architecture(content)
    model = content.get("model")
    length = (model if isinstance(model, Mapping) else content).get("llm_max_length", 2048)
    return VlmConfig(name, towers, text, llm_max_length=length)


def is_vlm(directory: Path, content: Mapping[str, Any]) -> bool:
    """True if a checkpoint has no actions: a Prismatic model, released or native."""
    native = isinstance(content.get("model"), Mapping)
    actions = content.get("norm_stats") or (directory / "dataset_statistics.json").is_file()
    return content.get("model_type") == "prismatic" or (native and not actions)
