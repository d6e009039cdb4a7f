"""Canonical settings and digests: equal for equal values, whatever their order."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical(value: Any) -> str:
    """JSON with sorted keys: equal settings give equal strings whatever their order in the YAML."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def digest(*parts: str | bytes) -> str:
    """First 16 hex digits of the SHA-256 of the parts, unambiguous about where each one ends."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        sha.update(len(data).to_bytes(8, "big") + data)
    return sha.hexdigest()[:16]
