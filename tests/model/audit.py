"""Rules and audits as bytes, in plain Python from docs/spec/audit.md alone."""

from __future__ import annotations

import hashlib
import hmac
import struct
from typing import Any

ACTIONS = ("stop", "redact", "record", "ignore")
SEVERITIES = ("low", "medium", "high")
CHECKS = (None, "luhn", "iban")
READS = ("visible", "exact", "folded")
ENDINGS = ("finished", "matched", "held_too_much", "too_many_attempts", "failed", "uncertain")


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def string(text: str) -> bytes:
    return struct.pack("<I", len(text.encode())) + text.encode()


def option(data: bytes | None) -> bytes:
    return b"\0" if data is None else b"\1" + data


def rules(listed: list[dict[str, Any]]) -> bytes:
    """The layout of rules; its digest is the SHA-256 of it."""
    out = b"dcdrul0\0" + struct.pack("<I", len(listed))
    for rule in listed:
        out += string(rule["name"])
        if "literal" in rule:
            out += b"\0" + string(rule["literal"]) + bytes([rule["ignore_case"]])
        else:
            out += b"\1" + string(rule["regex"])
        out += bytes([ACTIONS.index(rule["action"])]) + string(rule["replacement"])
        out += bytes([SEVERITIES.index(rule["severity"]), CHECKS.index(rule.get("check")), READS.index(rule["reads"])])
    return out


class Audit:
    """The bytes of an audit, frame by frame."""

    def __init__(self, head: dict[str, Any], key: bytes | None = None) -> None:
        self.key, self.id, self.tokens, self.matches = key, head["id"], 0, 0
        decision = head["decision"]
        body = b"dcdaud0\0" + bytes([key is not None]) + head["id"] + option(head["boot_id"])
        body += struct.pack("<q", head["created_ns"]) + head["rules"]
        body += option(None if decision is None else struct.pack("<Q", decision[0]) + decision[1])
        body += string(head["model"])
        body += bytes(16) if key is None else hmac.digest(key, b"dcdkey0\0" + body, "sha256")[:16]
        self.chain = sha(body)
        self.data = body + self.chain

    def frame(self, body: bytes) -> None:
        self.chain = sha(b"dcdafr0\0" + body + self.chain)
        self.data += body + self.chain

    def token(self, token_id: int, timestamp_ns: int) -> None:
        self.tokens += 1
        self.frame(struct.pack("<BQIq", 1, self.tokens, token_id, timestamp_ns))

    def match(self, rule: int, start: int, end: int, text_digest: bytes | None = None) -> None:
        self.matches += 1
        self.frame(struct.pack("<BIQQ", 2, rule, start, end) + (text_digest or bytes(32)))

    def end(self, ending: str, timestamp_ns: int, taken: int, released: int) -> None:
        totals = (self.tokens, self.matches, taken, released)
        self.frame(struct.pack("<BBqQQQQ", 4, ENDINGS.index(ending), timestamp_ns, *totals))
        if self.key is not None:
            self.data += hmac.digest(self.key, b"dcdase0\0" + self.id + self.chain, "sha256")


def text_digest(salt: bytes, text: bytes) -> bytes:
    return sha(b"dcdamt0\0" + salt + text)
