"""What leaves this machine for a tracker: plain values, with secrets replaced."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from typing import Any

REDACTED = "[redacted]"
#: Words of a key that mark a secret. "tokens" is not among them: recipes count tokens. A number
#: under the words of ``_COUNTED`` is a length or a budget.
_SECRET = {"token", "key", "apikey", "keys", "credential", "credentials", "auth"}
_SECRET |= {"secret", "secrets", "password", "passwords", "passwd"}
_COUNTED = {"token", "key", "keys"}
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
#: Values that are secrets whatever they are called: known prefixes, and a login inside a URL.
_TELLTALE = re.compile(
    r"\b(hf_|gh[pousr]_|github_pat_|wandb_v\d_|sk-|AKIA)[\w-]{12,}|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
)


def clean(config: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a config as JSON values, with secrets replaced by "[redacted]".

    A secret is what stands under a key with a word such as token, key, secret or password (but
    numbers of tokens or keys stay); text that looks like an access token or a URL's login; and
    the value, from 16 characters on, of any environment variable with such a name.
    """
    held = {v for k, v in os.environ.items() if _is_secret(k) and len(v) >= 16}
    return {str(k): _clean(str(k), v, held) for k, v in config.items()}


def _clean(key: str, value: Any, held: set[str]) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if _is_secret(key, _SECRET if number(value) is None else _SECRET - _COUNTED):
        return REDACTED
    if (plain := number(value)) is not None:
        return plain
    if isinstance(value, Mapping):
        return {str(k): _clean(str(k), v, held) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(key, item, held) for item in value]
    text = _TELLTALE.sub(REDACTED, str(value))
    for secret in held:
        text = text.replace(secret, REDACTED)
    return text


def _is_secret(key: str, secret: set[str] = _SECRET) -> bool:
    return any(word.lower() in secret for word in _WORDS.findall(key))


def number(value: Any) -> int | float | None:
    """A finite Python number, also from a numpy or torch scalar; else None."""
    try:
        value = value.item() if hasattr(value, "item") else value
    except (ValueError, RuntimeError, TypeError):
        return None  # an array of several values
    if isinstance(value, bool):
        return int(value)
    return value if isinstance(value, int | float) and math.isfinite(value) else None
