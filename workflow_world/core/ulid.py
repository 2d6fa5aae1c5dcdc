"""ULIDs from their parts: 48 bits of milliseconds and 80 bits of anything, in Crockford base 32."""

from __future__ import annotations

from typing import Final

ULID_LENGTH: Final = 26
TIME_LENGTH: Final = 10
RANDOM_BITS: Final = 80
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS: Final = [high + low for high in _ALPHABET for low in _ALPHABET]
_LOW: Final = (1 << 70) - 1
_VALUES: Final = {character: value for value, character in enumerate(_ALPHABET)}


def encode_ulid(time_ms: int, tail: int) -> str:
    """26 characters; ``tail`` has 80 bits. Texts sort as (time, tail) does."""
    # Written out: an id is made for each event and each message.
    pairs, high, low = _PAIRS, time_ms << 10 | tail >> 70, tail & _LOW
    return (
        f"{pairs[high >> 50]}{pairs[high >> 40 & 1023]}{pairs[high >> 30 & 1023]}"
        f"{pairs[high >> 20 & 1023]}{pairs[high >> 10 & 1023]}{pairs[high & 1023]}"
        f"{pairs[low >> 60 & 1023]}{pairs[low >> 50 & 1023]}{pairs[low >> 40 & 1023]}"
        f"{pairs[low >> 30 & 1023]}{pairs[low >> 20 & 1023]}{pairs[low >> 10 & 1023]}"
        f"{pairs[low & 1023]}"
    )


def ulid_time(text: str) -> int | None:
    """The milliseconds in a ULID, or None when the text is not one."""
    if len(text) != ULID_LENGTH or any(character not in _VALUES for character in text):
        return None
    time = 0
    for character in text[:TIME_LENGTH]:
        time = time << 5 | _VALUES[character]
    return time
