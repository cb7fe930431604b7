"""``make guard-leaks``: how much of a match other guards of streams let out, beside ours, and docs/guard.md held to it.

    python tests/leaks_of_peers.py

Each guard looks for the same texts and is given the same chunks, of one character and of three. Told is the longest
beginning of the match that came out with either; a cell of ``-`` is what a guard has no way for: it takes text alone,
or has one path only.

- LiteLLM's content filter: the texts as blocked words, by the hook that its proxy calls, and for a subclass by the
  proxy's own choice of hooks.
- NeMo Guardrails: the rail for regexes on the output, as it streams by default, and with ``stream_first`` off.
- guardrails-ai: a validator that looks for the texts in what it is given, with ``on_fail="exception"``.
"""

# The environment is set before the peers are imported.
# ruff: noqa: E402

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import sys
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# Neither prices nor traces go over the network.
os.environ |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "OTEL_SDK_DISABLED": "true", "LITELLM_LOG": "CRITICAL"}
warnings.simplefilter("ignore")

import guardrails
import litellm
from guardrails.validators import FailResult, PassResult, Validator, register_validator
from litellm.caching.caching import DualCache
from litellm.proxy._types import UserAPIKeyAuth
from litellm.proxy.guardrails.guardrail_hooks.litellm_content_filter.content_filter import ContentFilterGuardrail
from litellm.proxy.utils import ProxyLogging
from litellm.types.guardrails import BlockedWord
from litellm.types.utils import Delta, ModelResponseStream, StreamingChoices
from nemoguardrails import LLMRails, RailsConfig

from test_guard_leaks import BEFORE, CASES, LONG, SECRET, pieces

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "guard.md"
SIZES = [1, 3]
WORD = "geheimnis: größe"
FAULT = "fault"

Event = tuple[str, Any]
"""``content``, ``reasoning_content`` or ``arguments`` with a text, ``bytes``, ``finish``, or a ``fault``."""


def spoken(size: int, text: str, channel: str = "content", *, finish: bool = True) -> list[Event]:
    return [*((channel, each) for each in pieces(text, size)), *([("finish", None)] if finish else [])]


def wire(text: str) -> bytes:
    event = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
    return b"data: " + json.dumps(event).encode() + b"\n\n"


def octets(size: int, data: bytes) -> list[Event]:
    return [("bytes", data[at : at + size]) for at in range(0, len(data), size)]


def rows(size: int) -> dict[str, tuple[str, list[Event], str]]:
    """Of each row of the matrix: what is looked for, what the source gives, and how it is asked."""
    plain = spoken(size, BEFORE + SECRET)
    broken_off = [*spoken(size, BEFORE + SECRET[:-1], finish=False), (FAULT, None)]
    escaped = json.dumps({"text": BEFORE + SECRET}).replace("code", "\\u0063ode")
    over_the_wire = b"".join(map(wire, pieces(BEFORE + SECRET, size)))
    return {
        "a keyword of 400 characters over many chunks": (LONG, spoken(size, BEFORE + LONG + " tail"), ""),
        "an exception of the source in the middle of a match": (SECRET, broken_off, ""),
        "an exception inside, while a match is read": (SECRET, plain, "broken"),
        "bytes among objects": (SECRET, [("content", BEFORE), ("bytes", wire(SECRET))], ""),
        "server-sent events as bytes": (SECRET, octets(size, over_the_wire), ""),
        "subclasses of a chunk and of the guard": (SECRET, plain, "subclass"),
        "the synchronous path": (SECRET, plain, "synchronous"),
        "the asynchronous path": (SECRET, plain, "asynchronous"),
        "arguments of a tool, with escapes": (SECRET, spoken(size, escaped, "arguments"), ""),
        "the reasoning of a model": (SECRET, spoken(size, BEFORE + SECRET, "reasoning_content"), ""),
        "a code point that two chunks share": (WORD, octets(1, (BEFORE + WORD).encode()), ""),
        "invisible characters inside a word": (SECRET, spoken(size, BEFORE + "\u200b".join(SECRET)), ""),
        "a stream that ends without a finish": (SECRET, spoken(size, BEFORE + SECRET, finish=False), ""),
    }


WORDS = [SECRET, LONG, WORD]


def told_of(error: Exception) -> None:
    """Any exception but those by which the guards stop, refuse and pass on faults is one of this file."""
    if type(error).__name__ in ("HTTPException", "ConnectionError", "ValidationError"):
        return
    if not re.search("found|fault inside|expected str instance, bytes|not a string or ChatCompletion", str(error)):
        raise error


class Missing(Exception):
    """There is no such path in this guard."""


def source(chunks: list[Any]) -> Iterator[Any]:
    for chunk in chunks:
        if isinstance(chunk, str) and chunk == FAULT:
            raise ConnectionError
        yield chunk


async def asynchronous(chunks: list[Any]) -> AsyncIterator[Any]:
    for chunk in source(chunks):
        yield chunk


async def collected(stream: AsyncIterator[Any], came: list[Any]) -> None:
    # Each guard tells of a stop in its own way; what counts is what came out before.
    try:
        async for each in stream:
            came.append(each)  # noqa: PERF401 (what came before an exception counts)
    except Exception as error:
        told_of(error)


def shown(came: list[Any]) -> str:
    """All that a reader of these chunks can read, whichever way it came."""
    texts = []
    for each in came:
        if isinstance(each, str):
            texts.append(each)
        elif not isinstance(each, bytes):
            for choice in each.choices:
                calls = getattr(choice.delta, "tool_calls", None) or []
                texts += [choice.delta.content, getattr(choice.delta, "reasoning_content", None)]
                texts += [call.function.arguments for call in calls]
    octets = b"".join(each for each in came if isinstance(each, bytes)).decode(errors="replace")
    events = [json.loads(line) for line in re.findall(r"^data: (\{.*\})$", octets, re.MULTILINE)]
    texts += [event["choices"][0]["delta"]["content"] for event in events] if events else [octets]
    return "".join(each for each in texts if each).replace("\\u0063", "c").replace("\u200b", "")


def chunk(event: Event) -> Any:
    """As LiteLLM has it, which has the fields of OpenAI's."""
    kind, value = event
    if kind in ("bytes", FAULT):
        return FAULT if kind == FAULT else value
    call = {"index": 0, "id": "1", "type": "function", "function": {"name": "f", "arguments": value}}
    delta = {"arguments": {"tool_calls": [call]}, "finish": {}}.get(kind, {kind: value})
    finish = "stop" if kind == "finish" else None
    return ModelResponseStream(choices=[StreamingChoices(index=0, delta=Delta(**delta), finish_reason=finish)])


def text(event: Event) -> str | bytes:
    kind, value = event
    if kind in ("arguments", "reasoning_content"):
        raise Missing
    return {FAULT: FAULT, "finish": ""}.get(kind, value)


def fail(*_: Any, **__: Any) -> Any:
    raise RuntimeError("a fault inside")


class Subclass(ContentFilterGuardrail):
    pass


def of_litellm(events: list[Event], how: str) -> list[Any]:
    if how == "synchronous":
        raise Missing
    guard = (Subclass if how == "subclass" else ContentFilterGuardrail)(
        guardrail_name="leaks",
        blocked_words=[BlockedWord(keyword=word, action="BLOCK") for word in WORDS],
        event_hook="post_call",
        default_on=True,
    )
    if how == "broken":
        guard._filter_single_text = fail
    came: list[Any] = []
    response = asynchronous([chunk(event) for event in events])
    asked = {"user_api_key_dict": UserAPIKeyAuth(), "response": response, "request_data": {"metadata": {}}}
    if how == "subclass":
        litellm.callbacks = [guard]
        hook = ProxyLogging(user_api_key_cache=DualCache()).async_post_call_streaming_iterator_hook
    else:
        hook = guard.async_post_call_streaming_iterator_hook
    asyncio.run(collected(hook(**asked), came))
    return came


def of_nemo(events: list[Event], how: str, **streaming: Any) -> list[Any]:
    if how == "synchronous":
        raise Missing
    output = {"flows": ["regex check output"], "streaming": {"enabled": True, **streaming}}
    patterns = {"regex_detection": {"output": {"patterns": [re.escape(word) for word in WORDS]}}}
    config = RailsConfig.from_content(config={"models": [], "rails": {"config": patterns, "output": output}})
    rails = (type("Subclass", (LLMRails,), {}) if how == "subclass" else LLMRails)(config)
    if how == "broken":
        rails.register_action(fail, "detect_regex_pattern")
    came: list[Any] = []

    async def run() -> None:
        asked = [{"role": "user", "content": "?"}]
        generated = asynchronous([text(event) for event in events if event[0] != "finish"])
        await collected(rails.stream_async(messages=asked, generator=generated), came)

    asyncio.run(run())
    return came


def of_nemo_held(events: list[Event], how: str) -> list[Any]:
    return of_nemo(events, how, stream_first=False)


@register_validator(name="leaks/words", data_type="string")
class Words(Validator):
    def validate(self, value: Any, metadata: Any = None) -> Any:
        found = any(word in value for word in WORDS)
        return FailResult(error_message="found") if found else PassResult()


@register_validator(name="leaks/broken", data_type="string")
class Broken(Validator):
    def validate(self, value: Any, metadata: Any = None) -> Any:
        raise RuntimeError("a fault inside")


def of_guardrails(events: list[Event], how: str) -> list[Any]:
    for event in events:
        # Of a chunk it gives on the content alone.
        if event[0] in ("arguments", "reasoning_content"):
            raise Missing
    chunks = [chunk(event) for event in events]
    validator = (Broken if how == "broken" else Words)(on_fail="exception")
    asked = {"messages": [{"role": "user", "content": "?"}], "stream": True}
    came: list[Any] = []
    if how == "asynchronous":

        async def answer(*_: Any, **__: Any) -> Any:
            return SimpleNamespace(completion_stream=asynchronous(chunks))

        async def run() -> None:
            stream = await guardrails.AsyncGuard().use(validator)(answer, **asked)
            await collected((each.validated_output or "" async for each in stream), came)

        asyncio.run(run())
        return came
    kind = type("Subclass", (guardrails.Guard,), {}) if how == "subclass" else guardrails.Guard
    stream = kind().use(validator)(lambda *_, **__: source(chunks), **asked)
    try:
        came.extend(each.validated_output or "" for each in stream)
    except Exception as error:
        told_of(error)
    return came


PEERS = {
    f"LiteLLM {version('litellm')}": of_litellm,
    f"NeMo Guardrails {version('nemoguardrails')}": of_nemo,
    "the same, `stream_first` off": of_nemo_held,
    f"guardrails-ai {version('guardrails-ai')}": of_guardrails,
}


def leaked(came: str, match: str) -> int:
    """How long a beginning of a match came out. Two letters of it may stand in any text."""
    longest = max(length for length in range(len(match) + 1) if match[:length] in came)
    return longest if longest > 2 else 0


def told(lengths: list[int | None], match: str) -> str:
    """The worst of them."""
    longest = max((length for length in lengths if length is not None), default=None)
    if longest is None:
        return "-"
    return "all" if longest == len(match) else f"{longest} of {len(match)}" if longest else "nothing"


def of_peer(peer: Any, events: list[Event], how: str, match: str) -> int | None:
    try:
        return leaked(shown(peer(events, how)), match)
    except Missing:
        return None


def pass_the_harmless() -> None:
    """What comes out of none of them for another reason than a match would look as if nothing leaked."""
    for name, peer in PEERS.items():
        for how in ("", "subclass", "synchronous", "asynchronous"):
            with suppress(Missing):
                came = shown(peer(spoken(1, "The weather is fine. It is warm. So they " + "talk of it. " * 10), how))
                assert "The weather is fine." in came, (name, how, came)


def table() -> list[str]:
    lines = [f"| where | this one | {' | '.join(PEERS)} |", "| --- |" + " --- |" * (len(PEERS) + 1)]
    tried = [rows(size) for size in SIZES]
    for name, (match, *_) in tried[0].items():
        cells = [told([leaked(CASES[name](size), match) for size in SIZES], match)]
        cells += [told([of_peer(peer, *each[name][1:], match) for each in tried], match) for peer in PEERS.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Prints the table; fails where ours leaks, or the document has another."""
    logging.disable(logging.CRITICAL)
    assert list(rows(1)) == list(CASES)
    pass_the_harmless()
    lines = table()
    print("\n".join(lines))
    leaking = [line for line in lines[2:] if line.split(" | ")[1] != "nothing"]
    if leaking:
        sys.exit("ours leaks: " + "; ".join(leaking))
    if "\n".join(lines) not in DOCUMENT.read_text(encoding="utf-8"):
        sys.exit("docs/guard.md has another table")


if __name__ == "__main__":
    main()
