"""What is transcribed together, and what happens when a batch fails."""

from __future__ import annotations

from collections.abc import Sequence

from serflow.asr.engine import Transcriber
from serflow.asr.segments import Samples
from serflow.audio import SAMPLE_RATE

Outcome = str | Exception


class Batches:
    """Feeds an engine in batches of limited padded length.

    Parameters
    ----------
    engine : Transcriber
    seconds : float
        Most padded seconds of a batch; one longer input is a batch of its own.

    Attributes
    ----------
    seconds : float
        As found: an engine that runs out of memory halves it for all that follows.
    """

    def __init__(self, engine: Transcriber, seconds: float) -> None:
        self._engine = engine
        self.seconds = seconds

    def transcribe(self, inputs: Sequence[Samples], language: str) -> list[Outcome]:
        """One text for each input; an input that fails by itself gives its exception.

        Parameters
        ----------
        inputs : sequence of ndarray of float32
            Best of like length, longest first.
        language : str

        Raises
        ------
        RuntimeError
            CUDA has failed for good: nothing that follows in this process would run.
        """
        outcomes: list[Outcome] = []
        while len(outcomes) < len(inputs):
            rest = inputs[len(outcomes) :]
            outcomes += self._attempt(rest[: fitting(rest, self.seconds)], language)
        return outcomes

    def _attempt(self, batch: Sequence[Samples], language: str) -> list[Outcome]:
        try:
            texts = self._engine.transcribe(batch, language)
            if len(texts) != len(batch):
                raise RuntimeError(f"{len(batch)} inputs gave {len(texts)} texts")
            return list(texts)
        except Exception as error:
            if "CUDA error" in str(error):
                raise
            failure = error.with_traceback(None)  # its frames hold the tensors of the failed batch
        if len(batch) == 1:
            return [failure]
        if _out_of_memory(failure):
            self.seconds = padded_seconds(batch) / 2
            print(f"out of memory; batches of {self.seconds:.0f} padded seconds from here on")
            return self.transcribe(batch, language)
        # One bad input: halved until it is alone, so that it costs nobody else.
        half = len(batch) // 2
        return self._attempt(batch[:half], language) + self._attempt(batch[half:], language)


def padded_seconds(batch: Sequence[Samples]) -> float:
    """Seconds of a batch as the model sees it, all of them as long as the longest."""
    return len(batch) * max(map(len, batch)) / SAMPLE_RATE


def fitting(inputs: Sequence[Samples], seconds: float) -> int:
    """How many of the first inputs fit into so many padded seconds; at least one."""
    longest = 0
    for number, samples in enumerate(inputs):
        longest = max(longest, len(samples))
        if number and (number + 1) * longest > seconds * SAMPLE_RATE:
            return number
    return len(inputs)


def _out_of_memory(error: Exception) -> bool:
    # By name: torch is the engines' own affair.
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
