"""What the demo's speakers say and how: the plan of the synthetic corpus, before any sound.

Each emotion shows in the prosody (pitch, pitch range, rate, loudness, pauses, tremor) and in the
words. Prosody is often hardly marked, words are sometimes neutral or misleading, seldom both at once:
either alone is imperfect, and the two together are better. The training part is skewed as collected
speech is; dev and test are uniform.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from serflow.demo.espeak import Manner

EMOTIONS = ("angry", "happy", "sad", "fearful", "disgusted", "neutral")

# Utterances per split and emotion: the corpus module gates on these.
COUNTS: Mapping[str, Mapping[str, int]] = {
    "train": {
        "angry": 56,
        "happy": 40,
        "sad": 44,
        "fearful": 20,
        "disgusted": 26,
        "neutral": 120,
    },
    "dev": dict.fromkeys(EMOTIONS, 20),
    "test": dict.fromkeys(EMOTIONS, 48),
}


@dataclass(frozen=True)
class Speaker:
    """A synthetic speaker: an eSpeak voice with its own habitual rate and pitch."""

    name: str
    gender: str
    split: str
    voice: str
    rate: int
    pitch: int


SPEAKERS = (
    Speaker("f01", "female", "train", "en+f1", 214, 45),
    Speaker("f02", "female", "train", "en+f2", 232, 52),
    Speaker("f03", "female", "train", "en+f4", 219, 38),
    Speaker("f04", "female", "train", "en+Annie", 226, 48),
    Speaker("m01", "male", "train", "en+m1", 219, 48),
    Speaker("m02", "male", "train", "en+m3", 232, 40),
    Speaker("m03", "male", "train", "en+m7", 214, 44),
    Speaker("m04", "male", "train", "en+Andy", 226, 50),
    Speaker("f05", "female", "dev", "en+f5", 226, 46),
    Speaker("f08", "female", "dev", "en+steph", 220, 46),
    Speaker("m05", "male", "dev", "en+m2", 223, 46),
    Speaker("m08", "male", "dev", "en+adam", 218, 46),
    Speaker("f06", "female", "test", "en+f3", 223, 44),
    Speaker("f07", "female", "test", "en+linda", 218, 48),
    Speaker("m06", "male", "test", "en+m4", 228, 42),
    Speaker("m07", "male", "test", "en+m8", 220, 48),
)


class Prosody(NamedTuple):
    """Departure from the speaker's habit; also the size of random variation."""

    rate: float  # log ratio
    pitch: float  # eSpeak units
    pitch_range: float  # eSpeak units
    loudness: float  # dB
    word_gap: float  # units of 10 ms
    tremor: float  # depth, in [0, 1]


PROSODY: Mapping[str, Prosody] = {
    "angry": Prosody(0.14, 8, 30, 6, 0, 0),
    "happy": Prosody(0.08, 24, 45, 3, 0, 0),
    "sad": Prosody(-0.25, -12, -40, -10, 16, 0),
    "fearful": Prosody(0.2, 26, -30, -7, 0, 0.5),
    "disgusted": Prosody(-0.3, -16, 20, 3, 4, 0),
    "neutral": Prosody(0.0, 0, -5, -1, 0, 0),
}
VARIATION = Prosody(0.04, 4, 6, 1.0, 0.5, 0.1)
MARKED, UNMARKED = 1.0, 0.1

# Shares of utterances whose words carry the emotion, are neutral, or carry another emotion.
WORDING = {"own": 0.72, "neutral": 0.24, "misleading": 0.04}
# The many neutral utterances of the training part often mention what the rare emotions exclaim: a
# classifier that takes over the training prior then misses these emotions, and rebalancing helps.
NEUTRAL_WORDING = {"own": 0.8, "misleading": 0.2}
MENTIONED_CALMLY = ("fearful", "disgusted")
# Shares of utterances with marked prosody: what the words do not say, the voice tends to.
MARKED_SHARE = {"own": 0.5, "neutral": 0.95, "misleading": 0.95}

OPENINGS = (
    "do you remember",
    "the letter came today",
    "my brother called again",
    "they opened the door",
)
PHRASES: Mapping[str, tuple[str, ...]] = {
    "angry": ("how dare you", "stop it now", "i hate this"),
    "happy": ("i love it", "what great news", "this is wonderful"),
    "sad": ("i miss her", "all is lost", "i feel alone"),
    "fearful": ("please help me", "i am scared", "we must hide"),
    "disgusted": ("this smells rotten", "it makes me sick", "how disgusting"),
    "neutral": ("it is on the table", "nothing else happened", "that is all"),
}

# Attributes on the 1 to 7 scale of MSP-Podcast: arousal, valence, dominance.
ATTRIBUTES: Mapping[str, tuple[float, float, float]] = {
    "angry": (5.8, 2.0, 5.6),
    "happy": (5.4, 6.0, 4.8),
    "sad": (2.4, 2.2, 2.6),
    "fearful": (5.6, 2.4, 2.2),
    "disgusted": (3.8, 1.8, 4.6),
    "neutral": (3.6, 4.0, 4.0),
}
ATTRIBUTE_NOISE = 0.6


@dataclass(frozen=True)
class Planned:
    """One utterance of the corpus, yet unspoken."""

    utterance: str
    speaker: Speaker
    session: str
    style: str
    sentence_id: str
    text: str
    emotion: str
    arousal: float
    valence: float
    dominance: float
    manner: Manner


def _shares(rng: np.random.Generator, n: int, shares: Mapping[str, float]) -> list[str]:
    """`n` names in random order, each as often as its share says.

    Quotas rather than independent draws: the strength of the cues then hardly depends on the seed.
    """
    edges = np.round(np.cumsum([0.0, *shares.values()]) * n).astype(int)
    names = np.repeat(list(shares), np.diff(edges))
    return rng.permutation(names).tolist()


def _manner(rng: np.random.Generator, speaker: Speaker, emotion: str, marked: bool) -> Manner:
    share = MARKED if marked else UNMARKED
    mean, spread = np.array(PROSODY[emotion]), np.array(VARIATION)
    shown = Prosody(*(share * mean + spread * rng.standard_normal(len(spread))))
    return Manner(
        voice=speaker.voice,
        rate=round(float(speaker.rate * np.exp(shown.rate))),
        pitch=round(min(max(speaker.pitch + shown.pitch, 0), 99)),
        pitch_range=round(min(max(50 + shown.pitch_range, 0), 99)),
        volume=round(float(min(50 * 10 ** (shown.loudness / 20), 100))),
        word_gap=round(max(shown.word_gap, 0)),
        tremor=float(np.clip(shown.tremor, 0, 0.9)),
        noise_db=float(rng.normal(-52, 1)),
    )


def plan(seed: int) -> list[Planned]:
    """The whole corpus as a list, in order of split, emotion and number."""
    planned = []
    for part, (split, counts) in enumerate(COUNTS.items()):
        speakers = [speaker for speaker in SPEAKERS if speaker.split == split]
        for kind, (emotion, n) in enumerate(counts.items()):
            rng = np.random.default_rng([seed, part, kind])
            neutral = emotion == "neutral"
            wordings = _shares(rng, n, NEUTRAL_WORDING if neutral else WORDING)
            marked = rng.random(n) < [MARKED_SHARE[wording] for wording in wordings]
            first = int(rng.integers(len(speakers)))
            misled, said_so_far = 0, Counter()  # in turn, for the same reason as quotas
            others = [e for e in EMOTIONS if e not in (emotion, "neutral")]
            others = list(MENTIONED_CALMLY) if neutral else others
            for i, wording in enumerate(wordings):
                if wording == "misleading":
                    said = others[misled % len(others)]
                    misled += 1
                else:
                    said = emotion if wording == "own" else "neutral"
                phrase = said_so_far[said] % len(PHRASES[said])
                said_so_far[said] += 1
                opening = int(rng.integers(len(OPENINGS)))
                speaker = speakers[(first + i) % len(speakers)]
                av = np.clip(rng.normal(ATTRIBUTES[emotion], ATTRIBUTE_NOISE), 1, 7).round(2)
                session = int(rng.integers(2))
                planned.append(
                    Planned(
                        utterance=f"{split}_{emotion}_{i:03d}",
                        speaker=speaker,
                        session=f"{speaker.name}_{session + 1}",
                        style=str(rng.choice(["scripted", "improvised"])),
                        sentence_id=f"{opening}_{said}_{phrase}",
                        text=f"{OPENINGS[opening]} {PHRASES[said][phrase]}",
                        emotion=emotion,
                        arousal=float(av[0]),
                        valence=float(av[1]),
                        dominance=float(av[2]),
                        manner=_manner(rng, speaker, emotion, bool(marked[i])),
                    )
                )
    return planned
