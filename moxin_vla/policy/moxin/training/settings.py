"""What a training run is told."""

from dataclasses import dataclass, field

from moxin_vla.policy.moxin.training.objective import LossWeights


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How to train.

    Attributes:
        total_samples: Samples over the whole run; the learning rate falls to its end by then.
        batch_size: Samples per step.
        learning_rate: Peak.
        final_rate: Share of the peak at the end (cosine).
        warmup_samples: Samples of linear warm-up.
        weight_decay: On matrices only.
        ema_samples: Time constant of the average of the weights, in samples.
        clip: Largest gradient norm.
        seed: Of initialisation and sampling.
        prefix_steps: Longest committed prefix d that is shown to the model; 0 for none.
        prefix_share: Share of samples with a prefix of 1 to `prefix_steps` steps.
        prefix_deviation: Standard deviation of the prefix from the expert's chunk, normalised.
        weights: Of the auxiliary terms.
    """

    total_samples: int = 600_000
    batch_size: int = 64
    learning_rate: float = 1.0e-3
    final_rate: float = 0.02
    warmup_samples: int = 12_800
    weight_decay: float = 0.02
    ema_samples: int = 25_000
    clip: float = 1.0
    seed: int = 0
    prefix_steps: int = 0
    prefix_share: float = 0.6
    prefix_deviation: float = 0.02
    weights: LossWeights = field(default_factory=LossWeights)
