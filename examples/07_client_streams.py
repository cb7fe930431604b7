"""7. Client streams: the chunks of a chat completion under rules, here as dictionaries. Objects come out as objects."""

from collections.abc import Iterator
from typing import Any

from decidable import Guard, Rule, StopReason

GUARD = Guard(
    [
        Rule.literal("DROP TABLE", ignore_case=True, name="sql"),
        Rule.regex(r"\b\d{3}-\d{2}-\d{4}\b", action="redact", name="ssn"),
    ]
)


def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    """A chunk of one choice."""
    return {
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    }


def completion() -> Iterator[dict[str, Any]]:
    """Stands in for `client.chat.completions.create(..., stream=True)`."""
    try:
        yield chunk({"role": "assistant", "content": "Hers is 078-"})
        yield chunk({"content": "05-1120. Tidying up"})
        yield chunk({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "query", "arguments": '{"sql": "'}}]})
        yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": r"\u0044ROP"}}]})
        yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": ' TABLE users"}'}}]})
        yield chunk({}, "tool_calls")
    finally:
        print("(the source is closed)")


stream = GUARD.stream(completion())
for piece in stream:
    choice = piece["choices"][0]
    print(choice["delta"], choice["finish_reason"])
assert stream.stopped is not None
print("stopped by", stream.stopped.rule, "in", stream.stopped.channel, "of choice", stream.stopped.choice)
print("replaced:", [(match.rule, match.channel) for match in stream.matches])


def told(why: StopReason) -> str:
    """What a client may know of it."""
    return "That cannot be done here." if why.kind == "matched" else ""


# The same over the wire, as server-sent events, with a word to the client.
body = (b'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n' % text for text in (b"Then: dro", b"p table"))
for event in GUARD.stream(body, sse=True, notice=told):
    print(event.decode().strip())
