"""Writer: random texts out of the lexicon."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from muppet_dag.samples.lexicon import ABSURD, ACCENTED, CUES, FILLER, NAMES, SENSIBLE


@dataclass
class Writer:
    """Source of random texts for one split of one task: same arguments, same texts."""

    seed: int
    task: str
    split: str
    draw: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        key = hashlib.sha256(f"{self.seed}/{self.task}/{self.split}".encode()).digest()[:16]
        self.draw = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))

    def id(self, number: int) -> str:
        """An id that no other split uses."""
        return f"{self.task}-{self.split}-{number}"

    def pick(self, words: Sequence[str], count: int) -> list[str]:
        """``count`` words, with repetition."""
        return [words[i] for i in self.draw.integers(len(words), size=count)]

    def one(self, words: Sequence[str]) -> str:
        """One word."""
        return words[int(self.draw.integers(len(words)))]

    def tokens(self, cues: Sequence[str] = (), low: int = 8, high: int = 18) -> list[str]:
        """Filler words with the cues put in at random places."""
        words = self.pick(FILLER, int(self.draw.integers(low, high + 1)))
        for cue in cues:
            words.insert(int(self.draw.integers(len(words) + 1)), cue)
        return words

    def sentence(self, cues: Sequence[str] = (), low: int = 8, high: int = 18) -> str:
        """A sentence that holds the cues."""
        return " ".join(self.tokens(cues, low, high)) + " ."

    def showing(self, label: str, low: int = 8, high: int = 18) -> str:
        """A sentence that shows a class (by its name) with four of the class's cue words."""
        return self.sentence(self.pick(CUES[label], 4), low, high)

    def candidates(self, right: int, count: int) -> list[str]:
        """Candidates of which the right one is sensible and every other absurd."""
        kinds = [SENSIBLE if place == right else ABSURD for place in range(count)]
        return [" ".join(self.tokens(self.pick(kind, 2), 1, 3)) for kind in kinds]

    def passage(self, owner: str | None, number: int) -> str:
        """A passage that says once who owns it, with signs outside ASCII before it in some.

        One in twenty is too long for one window.
        """
        low, high = (130, 150) if number % 20 == 7 else (10, 24)
        opening = self.pick(ACCENTED, 2) if number % 4 == 1 else []
        owned = f"it belongs to {owner} ." if owner else "it belongs nowhere ."
        before, after = self.sentence(opening, low, high), self.sentence((), low, high)
        return f"{before} {owned} {after}"

    def name(self) -> str:
        """A name. It stands nowhere but in an answer."""
        return self.one(NAMES)
