"""``make guard-leaks``: how much of a match other guards of streams let out, beside ours, and docs/guard.md held to it.

    python tests/leaks_of_peers.py

Each guard looks for the same texts and is given the same chunks, of one character and of three. Told is the longest
beginning of the match that came out with either; a cell of ``-`` is what a guard has no way for: it takes text alone,
or has one path only. Where nothing came out, the same chunks are tried with another text in the match's place: what
lets that out neither is ``refused``, and says nothing of what is looked for.

In the row of an exception inside, the check of each is one that raises.

- This one: a rule for each text; bytes and nothing else are told to be events (``sse=True``).
- LiteLLM's content filter: the texts as blocked words, by the hook that its proxy calls, and for a subclass by the
  proxy's own choice of hooks.
- NeMo Guardrails: the rail for regexes on the output, as it streams by default, and with ``stream_first`` off.
- guardrails-ai: a validator that looks for the texts in what it is given, with ``on_fail="exception"``.
"""

# The environment is set before the peers are imported.
# ruff: noqa: E402

from __future__ import annotations

import asyncio
import logging
import os
import re
import sys
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# Neither prices nor traces go over the network.
os.environ |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "OTEL_SDK_DISABLED": "true", "LITELLM_LOG": "CRITICAL"}
warnings.simplefilter("ignore")

import guardrails
import litellm
from fastapi import HTTPException
from guardrails.errors import ValidationError
from guardrails.validators import FailResult, PassResult, Validator, register_validator
from litellm.caching.caching import DualCache
from litellm.proxy._types import UserAPIKeyAuth
from litellm.proxy.guardrails.guardrail_hooks.litellm_content_filter.content_filter import ContentFilterGuardrail
from litellm.proxy.utils import ProxyLogging
from litellm.types.guardrails import BlockedWord
from litellm.types.utils import Delta, ModelResponseStream, StreamingChoices
from nemoguardrails import LLMRails, RailsConfig

from test_guard_leaks import BROKEN, CASES, HARMLESS, WORDS, Event, Fault, as_read, cell, out_of_ours, rows

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "guard.md"
FAULT = "fault"
LISTED = "a text of the list was said"
REFUSALS = (
    r"sequence item \d+: expected str instance, bytes found",
    r"Chunk is not a string or ChatCompletionChunk\. .*",
)
"""What two of them say of bytes."""


def told_of(error: Exception) -> None:
    """Any exception but those by which the guards stop, refuse and pass on faults is one of this file, and goes on."""
    known = (
        isinstance(error, Fault)
        or (isinstance(error, HTTPException) and "Content blocked: keyword" in str(error.detail))
        or (isinstance(error, ValidationError) and str(error).endswith(f": {LISTED}"))
        or (isinstance(error, RuntimeError) and str(error) == BROKEN)
        or (isinstance(error, TypeError | ValueError) and any(re.fullmatch(each, str(error)) for each in REFUSALS))
    )
    if not known:
        raise error


class Missing(Exception):
    """There is no such path in this guard."""


def source(chunks: list[Any]) -> Iterator[Any]:
    for chunk in chunks:
        if isinstance(chunk, str) and chunk == FAULT:
            raise Fault
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
    return as_read(texts, [each for each in came if isinstance(each, bytes)])


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
    raise RuntimeError(BROKEN)


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
        return FailResult(error_message=LISTED) if found else PassResult()


@register_validator(name="leaks/broken", data_type="string")
class Broken(Validator):
    def validate(self, value: Any, metadata: Any = None) -> Any:
        raise RuntimeError(BROKEN)


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


def out_of_peer(peer: Any) -> Callable[[list[Event], str], str | None]:
    def out_of(events: list[Event], how: str) -> str | None:
        try:
            return shown(peer(events, how))
        except Missing:
            return None

    return out_of


def table() -> list[str]:
    lines = [f"| where | this one | {' | '.join(PEERS)} |", "| --- |" + " --- |" * (len(PEERS) + 1)]
    for name, (match, *_) in rows(1).items():
        cells = [cell(out_of, name, match) for out_of in (out_of_ours, *map(out_of_peer, PEERS.values()))]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Prints the table; fails where ours leaks, or the document has another."""
    logging.disable(logging.CRITICAL)
    assert list(rows(1)) == list(CASES)
    assert [len(each) for each in HARMLESS] == [len(each) for each in WORDS]
    lines = table()
    print("\n".join(lines))
    leaking = [line for line in lines[2:] if line.split(" | ")[1] not in ("nothing", "refused")]
    if leaking:
        sys.exit("ours leaks: " + "; ".join(leaking))
    if "\n".join(lines) not in DOCUMENT.read_text(encoding="utf-8"):
        sys.exit("docs/guard.md has another table")


if __name__ == "__main__":
    main()
