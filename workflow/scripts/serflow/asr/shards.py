"""Which job transcribes which utterance."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def shard_of(utterance_id: str, shards: int) -> int:
    """Shard of an utterance in 0 .. shards - 1, by its id alone.

    It does not move when other utterances come or go: adding one changes one shard.
    """
    digest = hashlib.sha256(utterance_id.encode()).digest()
    return int.from_bytes(digest[:8], "big") % shards


def select_shard(utterance_ids: Iterable[str], shard: int, shards: int) -> list[str]:
    """The utterances of one shard, in the given order."""
    return [name for name in utterance_ids if shard_of(name, shards) == shard]
