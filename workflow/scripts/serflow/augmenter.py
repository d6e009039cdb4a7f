"""Random augmentation of training examples, a function of (seed, epoch, position, batch) alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from serflow import augmentation
from serflow.augmentation import Samples
from serflow.batching import Draw, count_batches
from serflow.config.families.augmentation import AugmentationSettings
from serflow.digests import digest
from serflow.sounds import Sounds

# Last number of each kind's generator [seed, epoch, position, kind]: apart from each other and from
# the crops' [seed, epoch, position], so that no setting changes what another draws. Not 0: numpy
# takes [1, 2, 3, 0] for [1, 2, 3].
SPEED, STRETCH, PITCH, RIR, NOISE, WHITE_NOISE = range(1, 7)
# In the place of the position, for what a batch shares.
BATCHES = 1_000_000_009


class Augmenter:
    """Augmentation as the settings say; every probability is of its own.

    Parameters
    ----------
    settings : AugmentationSettings
    sounds : mapping of str to Sounds
        The corpora that the settings name.
    seed : int

    References
    ----------
    TalTech, Odyssey 2024, section 3.1: point-source noises, simulated room impulse responses, and
    "speed perturbation was applied to half of the training batches". HuBERT with parameter-efficient
    fine-tuning: "pitch shifting, time stretching, and noise addition". Neither says at what levels.
    """

    def __init__(
        self, settings: AugmentationSettings, sounds: Mapping[str, Sounds], seed: int
    ) -> None:
        if settings.time_stretch or settings.pitch_shift:
            import librosa.effects  # noqa: F401 - once, before loader workers are forked
        self._settings = settings
        self._seed = seed
        self._sounds = {name: sounds[name] for name in settings.corpora()}
        noises, rirs = settings.noises, settings.rirs
        self._noises = self._sounds[noises.corpus].names(noises.categories) if noises else []
        self._rirs = self._sounds[rirs.corpus].names(rirs.categories) if rirs else []

    def __call__(self, samples: Samples, draw: Draw) -> Samples:
        """Augment one example, shape (n,) to (length(n, draw),)."""
        its = self._settings
        if (factor := self._speed(draw)) != 1:
            samples = augmentation.change_speed(samples, factor)
        if (rate := self._rate(draw)) != 1:
            samples = augmentation.stretch(samples, rate)
        if rng := self._chosen(draw, PITCH, its.pitch_shift):
            samples = augmentation.shift_pitch(samples, rng.uniform(*its.pitch_shift.semitones))
        if rng := self._chosen(draw, RIR, its.rirs):
            rir = self._rirs[rng.integers(len(self._rirs))]
            samples = augmentation.reverberate(samples, self._sounds[its.rirs.corpus].samples(rir))
        if rng := self._chosen(draw, NOISE, its.noises):
            noise = self._sounds[its.noises.corpus].samples(
                self._noises[rng.integers(len(self._noises))]
            )
            snr_db = rng.uniform(*its.noises.snr_db)
            repeat = its.noises.kind == "background"
            noise = augmentation.place(noise, len(samples), rng.random(), repeat)
            samples = augmentation.mix(samples, noise, snr_db)
        if rng := self._chosen(draw, WHITE_NOISE, its.white_noise):
            snr_db = rng.uniform(*its.white_noise.snr_db)
            noise = rng.standard_normal(len(samples), dtype=np.float32)
            samples = augmentation.mix(samples, noise, snr_db)
        return augmentation.limit(samples)

    def length(self, n: int, draw: Draw) -> int:
        """Samples that an example of `n` samples has afterwards.

        Speed that a whole batch shares counts once the example is in a batch: before, it would tell
        nothing about who fits with whom.
        """
        n = augmentation.changed_length(n, self._speed(draw))
        return augmentation.changed_length(n, self._rate(draw))

    def digest(self) -> str:
        """Digest of the settings and of all sounds."""
        sounds = [self._sounds[name].digest() for name in self._sounds]
        return digest(self._settings.model_dump_json(), *sounds)

    def facts(self, examples: int, batch_size: int, epochs: int) -> dict[str, Any]:
        """How often each kind is drawn in a whole training, and from how many sounds."""
        its = self._settings
        kinds = {
            "time_stretch": STRETCH,
            "pitch_shift": PITCH,
            "rirs": RIR,
            "noises": NOISE,
            "white_noise": WHITE_NOISE,
        }
        facts: dict[str, Any] = {"examples": epochs * examples}
        if its.speed and its.speed.per == "utterance":
            kinds = {"speed": SPEED} | kinds
        elif its.speed:
            batches = range(count_batches(examples, batch_size))
            facts["speed_batches"] = sum(
                self._perturbed(e, batch) for e in range(epochs) for batch in batches
            )
            facts["batches"] = epochs * len(batches)
        for name, kind in kinds.items():
            if settings := getattr(its, name):
                facts[name] = sum(
                    self._chosen(Draw(e, i, i), kind, settings) is not None
                    for e in range(epochs)
                    for i in range(examples)
                )
        sizes = {"noise_pool": len(self._noises), "rir_pool": len(self._rirs)}
        return facts | {name: size for name, size in sizes.items() if size}

    def _chosen(self, draw: Draw, kind: int, settings: Any) -> np.random.Generator | None:
        """The generator of a kind's parameters, where the kind is on and this example's turn."""
        if settings is None:
            return None
        rng = np.random.default_rng([self._seed, draw.epoch, draw.position, kind])
        return rng if rng.random() < settings.probability else None

    def _rate(self, draw: Draw) -> float:
        rng = self._chosen(draw, STRETCH, self._settings.time_stretch)
        return rng.uniform(*self._settings.time_stretch.rates) if rng else 1.0

    def _speed(self, draw: Draw) -> float:
        speed = self._settings.speed
        if speed is None:
            return 1.0
        if speed.per == "utterance":
            rng = self._chosen(draw, SPEED, speed)
        elif draw.batch is None or not self._perturbed(draw.epoch, draw.batch):
            rng = None
        else:
            rng = np.random.default_rng([self._seed, draw.epoch, BATCHES, 1 + draw.batch])
        return speed.factors[rng.integers(len(speed.factors))] if rng else 1.0

    def _perturbed(self, epoch: int, batch: int) -> bool:
        """Whether a batch is perturbed: systematic sampling, so that an epoch has its share exactly.

        Batches come in random order, so that every other one is a random half.
        """
        share = self._settings.speed.probability
        start = np.random.default_rng([self._seed, epoch, BATCHES]).random()
        return math.floor((batch + 1) * share + start) > math.floor(batch * share + start)
