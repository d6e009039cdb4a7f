"""The one exception for faults that a user can mend."""

from __future__ import annotations

import os


class UserError(Exception):
    """A fault in the user's data, configuration or environment.

    The message says what was found, what was expected, where, and what to do next. Jobs print it
    without a traceback; every other exception is a bug and keeps its traceback.
    """


def name_some(items, limit: int = 5) -> str:
    """Join the first `limit` items for a message, and say how many more there are."""
    items = [str(item) for item in items]
    rest = len(items) - limit
    return ", ".join(items[:limit]) + (f" and {rest} more" if rest > 0 else "")


def without_token(text: str) -> str:
    """A message of others, without the hub's access token: messages end in logs."""
    token = os.environ.get("HF_TOKEN", "").strip()
    return text.replace(token, "(HF_TOKEN)") if token else text
