"""Fine-tuning a checkpoint on recorded episodes: all of it, its head, or by LoRA.

Resumable at any point: weights, optimiser, draws and chance are part of the state, so a run that
was killed goes on as if it had not been.
"""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from moxin_vla.core.errors import DependencyError, MoxinVlaError
from moxin_vla.core.journal import append_row, read_rows, write_rows
from moxin_vla.policy.moxin.training.arithmetic import bf16_pays
from moxin_vla.policy.moxin.training.objective import as_tensor
from moxin_vla.policy.moxin.training.ranks import Ranks
from moxin_vla.policy.moxin.training.recorded import Mixture, Samples
from moxin_vla.policy.moxin.training.trainable import CHANCES, Trainable
from moxin_vla.policy.moxin.training.tune_config import TuneConfig

_SAID = "training.json"  # in a checkpoint: how it was made
_HEADS = ("action_head", "proprio_projector", "noisy_action_projector", "action_prefix_projector")


class Tuner:
    """Owns a model, what of it learns, and their state in a folder.

    Args:
        base: Checkpoint directory to begin with.
        config: How to train.
        data: What to learn from.
        folder: Gets `state.pt`, `metrics.jsonl` and `checkpoint/`.
        ranks: Who trains together, and on which device.

    Raises:
        MoxinVlaError: The checkpoint can't be trained, or a batch not be shared by all processes.
    """

    def __init__(
        self,
        base: str,
        config: TuneConfig,
        data: Mixture,
        folder: Path,
        ranks: Ranks | None = None,
    ) -> None:
        torch.manual_seed(config.seed)
        self.ranks = ranks or Ranks()
        device = self.ranks.device
        self.config, self._data, self.folder, self._device = config, data, folder, device
        if config.batch_size % (config.accumulate * self.ranks.count):
            raise MoxinVlaError(
                f"batch_size {config.batch_size} can't be shared by {self.ranks.count} processes "
                f"in {config.accumulate} parts each."
            )
        self._trainable = Trainable(base, device, config.image_augmentation)
        self.model = self._trainable.model
        if config.fresh_head:
            for module in self.model.action_head.modules():
                if isinstance(module, nn.Linear | nn.LayerNorm):
                    module.reset_parameters()
        self._base = str(base)
        self._bf16 = bf16_pays(device) if config.bf16 == "auto" else bool(config.bf16)
        self._choose_weights()
        matrices = [p for p in self._learning if p.ndim >= 2]
        rest = [p for p in self._learning if p.ndim < 2]
        self._optimiser = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": config.weight_decay},
                {"params": rest, "weight_decay": 0.0},
            ],
            lr=config.learning_rate,
            betas=(0.9, 0.98),
        )
        self._average = [p.detach().clone() for p in self._learning] if config.average else []
        self.step_number = 0
        folder.mkdir(parents=True, exist_ok=True)

    def _choose_weights(self) -> None:
        """Freeze what does not learn."""
        learn = self.config.learn
        self.model.train()
        if learn == "lora":
            self._add_adapters()
        for name, parameter in self.model.named_parameters():
            head = name.startswith(_HEADS)
            parameter.requires_grad_(learn == "all" or head or "lora_" in name)
        self._learning = [p for p in self.model.parameters() if p.requires_grad]
        self._names = [n for n, p in self.model.named_parameters() if p.requires_grad]

    def _add_adapters(self) -> None:
        try:
            from peft import LoraConfig, inject_adapter_in_model
        except ImportError as error:
            raise DependencyError("LoRA needs peft: pip install peft") from error
        linear = [
            name
            for name, module in self.model.named_modules()
            if isinstance(module, nn.Linear) and not name.startswith(_HEADS)
        ]
        self._lora = LoraConfig(
            r=self.config.rank,
            lora_alpha=self.config.alpha,
            lora_dropout=0.0,
            init_lora_weights="gaussian",
            target_modules=linear,
        )
        inject_adapter_in_model(self._lora, self.model)

    @property
    def done(self) -> bool:
        """True once all steps are taken."""
        return self.step_number >= self.config.steps

    @property
    def learning(self) -> int:
        """How many values learn."""
        return sum(p.numel() for p in self._learning)

    def step(self) -> float:
        """Take a step; returns the loss.

        Raises:
            MoxinVlaError: The loss is not finite; says which rows it was computed from.
        """
        config = self.config
        samples = self._data.draw(config.batch_size)
        every = float(samples.counts.sum())
        summed = torch.zeros(1, device=self._device)
        # of the whole batch, so that parts and processes see what one would see
        chance = torch.rand(config.batch_size, CHANCES) if config.image_augmentation else None
        for part in self.ranks.share(config.batch_size, config.accumulate):
            loss = self._loss(samples, part, every, chance)
            loss.backward()
            summed += loss.detach()
        self.ranks.add([summed, *(p.grad for p in self._learning if p.grad is not None)])
        total = float(summed)
        if not math.isfinite(total):
            raise MoxinVlaError(
                f"The loss of step {self.step_number} is {total}. It came from: "
                + ", ".join(samples.where)
            )
        nn.utils.clip_grad_norm_(self._learning, config.clip)
        rate = self._rate()
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        self.step_number += 1
        self._note(total, rate)
        if self._average:
            window = min(config.average, 5 + 0.2 * self.step_number)
            with torch.no_grad():
                torch._foreach_lerp_(self._average, self._learning, 1.0 / window)
        return total

    def _loss(self, samples: Samples, part: slice, every: float, chance: Tensor | None) -> Tensor:
        """Return this part's share of the mean error of all steps that are learned from."""
        kind = "cuda" if self._device.startswith("cuda") else "cpu"
        with torch.autocast(kind, torch.bfloat16, enabled=self._bf16):
            errors = self._trainable.errors(
                samples.images[part],
                samples.proprio[part],
                samples.chunks[part],
                samples.texts[part],
                None if chance is None else chance[part],
            )  # (B, H)
        return (errors * as_tensor(samples.counts[part]).to(errors.device)).sum() / every

    def _rate(self) -> float:
        config = self.config
        if self.step_number < config.warmup_steps:
            return config.learning_rate * (self.step_number + 1) / config.warmup_steps
        fallen = self.step_number >= config.decay_at * config.steps
        return config.learning_rate * (0.1 if fallen else 1.0)

    def _note(self, loss: float, rate: float) -> None:
        if not self.ranks.first:
            return
        row = {"step": self.step_number, "loss": loss, "learning_rate": rate}
        append_row(self.folder / "metrics.jsonl", row)

    def save(self) -> Path:
        """Write the whole state and a checkpoint that any of our tools loads; returns its folder.

        A crash while writing leaves the last ones. Of several processes the first one writes.
        """
        if not self.ranks.first:
            return self.folder / "checkpoint"
        state = {
            "names": self._names,
            "base": self._trainable.fingerprint,
            "weights": [p.detach() for p in self._learning],
            "average": self._average,
            "optimiser": self._optimiser.state_dict(),
            "step": self.step_number,
            "draws": json.dumps(self._data.state),
            "chance": torch.get_rng_state(),
        }
        partial = self.folder / "state.part"
        torch.save(state, partial)
        partial.replace(self.folder / "state.pt")
        return self._export()

    def resume(self) -> bool:
        """Go on from the last state, if there is one; returns whether there was."""
        path = self.folder / "state.pt"
        if not path.is_file():
            self._forget_later_metrics()  # of a run that was killed before its first state
            return False
        state = torch.load(path, weights_only=True, map_location=self._device)
        if state["names"] != self._names:
            raise MoxinVlaError(f"'{path}' is of a run that trains other weights.")
        base = self._trainable.fingerprint
        if self.config.learn != "all" and state.get("base", base) != base:
            raise MoxinVlaError(f"'{path}' is of a run that began with another base.")
        with torch.no_grad():
            torch._foreach_copy_(self._learning, state["weights"])
            if self._average:
                torch._foreach_copy_(self._average, state["average"] or state["weights"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.step_number = state["step"]
        self._data.state = json.loads(state["draws"])
        torch.set_rng_state(state["chance"].cpu())
        self._forget_later_metrics()
        if self.ranks.first and self._exported_step() != self.step_number:
            self._export()  # it was killed between the state and the checkpoint
        return True

    def _exported_step(self) -> int:
        said = self.folder / "checkpoint" / _SAID
        return json.loads(said.read_text(encoding="utf-8"))["step"] if said.is_file() else -1

    def _forget_later_metrics(self) -> None:
        path = self.folder / "metrics.jsonl"
        if not self.ranks.first or not path.is_file():
            return
        write_rows(path, [row for row in read_rows(path) if row["step"] <= self.step_number])

    def _export(self) -> Path:
        """Write the (averaged, merged) model in the layout that the loader reads."""
        target = self.folder / "checkpoint"
        fresh, old = self.folder / "checkpoint.new", self.folder / "checkpoint.old"
        for left in (fresh, old):
            shutil.rmtree(left, ignore_errors=True)
        present = [p.detach().clone() for p in self._learning]
        with torch.no_grad():
            if self._average:
                torch._foreach_copy_(self._learning, self._average)
            self._trainable.save(fresh, self.merged())
            if self.config.learn == "lora":
                self._save_adapter(fresh / "adapter")
            said = {"step": self.step_number, "base": self._base, "tune": asdict(self.config)}
            (fresh / _SAID).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
            torch._foreach_copy_(self._learning, present)
        if target.exists():
            target.rename(old)
        fresh.rename(target)
        shutil.rmtree(old, ignore_errors=True)
        return target

    def merged(self) -> Any:
        """Return the model with its adapters merged in; the model itself if it has none."""
        if self.config.learn != "lora":
            return self.model
        from moxin_vla.policy.moxin.model import MoxinVLA

        plain = MoxinVLA(self.model.config)
        plain.load_state_dict(merged_state(self.model))
        return plain.eval()

    def _save_adapter(self, folder: Path) -> None:
        """Write the adapter alone as peft has it."""
        from peft import get_peft_model_state_dict
        from safetensors.torch import save_file

        folder.mkdir()
        state = get_peft_model_state_dict(self.model)
        tensors = {f"base_model.model.{k}": v.contiguous() for k, v in state.items()}
        save_file(tensors, folder / "adapter_model.safetensors")
        content = {
            "peft_type": "LORA",
            "r": self.config.rank,
            "lora_alpha": self.config.alpha,
            "target_modules": "all-linear",
            "base_model_name_or_path": self._base,
            "bias": "none",
        }
        text = json.dumps(content, indent=2)
        (folder / "adapter_config.json").write_text(text, encoding="utf-8")


def merged_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a model with LoRA layers as those of one without."""
    state: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if "lora_" in name:
            continue
        state[name.replace(".base_layer.", ".")] = tensor.detach().clone()
    for name, module in model.named_modules():
        if hasattr(module, "get_delta_weight"):
            state[f"{name}.weight"] += module.get_delta_weight("default").detach()
    return state


def train(
    tuner: Tuner,
    on_step: Callable[[int, float], None],
    on_checkpoint: Callable[[Path, int], None] = lambda path, step: None,
) -> Path:
    """Train to the end; returns the checkpoint.

    Args:
        tuner: What to train.
        on_step: Called with each step and its loss.
        on_checkpoint: Called with each checkpoint that was written, and its step.
    """
    checkpoint = tuner.folder / "checkpoint"
    while not tuner.done:
        on_step(tuner.step_number + 1, tuner.step())
        if tuner.done or tuner.step_number % tuner.config.save_every == 0:
            checkpoint = tuner.save()
            if tuner.ranks.first:
                on_checkpoint(checkpoint, tuner.step_number)
            tuner.ranks.wait()
    return checkpoint
