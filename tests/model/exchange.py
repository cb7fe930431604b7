"""The JSON-lines log of docs/spec/formats.md: one entry a line, chained by hashes over the bytes as written."""

import hmac
import re
from hashlib import sha256

LINE = re.compile(
    rb'\{"sequence":([1-9][0-9]*),"previous_hash":"(genesis|[0-9a-f]{64})","entry_hash":"([0-9a-f]{64})","data":(.*)\}'
)


def entry_hash(previous: str, data: bytes, key: bytes | None) -> str:
    hashed = previous.encode("ascii") + data
    if key is None:
        return sha256(hashed).hexdigest()
    assert len(key) >= 32
    return hmac.new(key, hashed, sha256).hexdigest()


def line(sequence: int, previous: str, data: bytes, key: bytes | None) -> bytes:
    entry = entry_hash(previous, data, key)
    return b'{"sequence":%d,"previous_hash":"%s","entry_hash":"%s","data":%s}\n' % (
        sequence,
        previous.encode(),
        entry.encode(),
        data,
    )


def verify(log: bytes, key: bytes | None, anchor: dict | None = None) -> list[bytes]:
    """The data of every entry as written. Raises ValueError at the first line that does not belong."""
    previous = "genesis"
    found: list[bytes] = []
    if log and not log.endswith(b"\n"):
        raise ValueError("the last line is torn")
    for number, raw in enumerate(log.split(b"\n")[:-1], start=1):
        entry = LINE.fullmatch(raw)
        if entry is None or int(entry[1]) != number or entry[2].decode() != previous:
            raise ValueError(f"line {number} does not follow")
        if entry_hash(previous, entry[4], key) != entry[3].decode():
            raise ValueError(f"line {number} does not have its hash")
        previous = entry[3].decode()
        found.append(entry[4])
    if anchor is not None and anchor != {
        "schema_version": "calybris.wal-anchor.v1",
        "sequence": len(found),
        "last_hash": previous,
        "keyed": key is not None,
    }:
        raise ValueError("the log does not end at its anchor")
    return found
