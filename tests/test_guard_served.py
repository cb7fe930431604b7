"""A server that hands on a guarded body (docs/guard.md, *In a server*): a stop, and a client that has gone."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from decidable import Guard, Rule

httpx = pytest.importorskip("httpx", reason="the clients bring it")

GUARD = Guard([Rule.literal("DROP TABLE")])

Send = Callable[[dict[str, Any]], Awaitable[None]]


def event(content: str) -> bytes:
    """An event of a chat completion."""
    chunk = {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": None}]}
    return f"data: {json.dumps(chunk, separators=(',', ':'))}\n\n".encode()


class Body(httpx.AsyncByteStream):
    """What the model's server streams; at its end it goes on thinking."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece
        await asyncio.Event().wait()

    async def aclose(self) -> None:
        self.closed = True


async def respond(body: AsyncIterator[bytes], send: Send) -> None:
    """As `StreamingResponse` sends."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    async for piece in body:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def served(upstream: Body) -> Callable[[Send], Awaitable[None]]:
    """The endpoint."""
    client = httpx.AsyncClient(
        transport=httpx.MockTransport(lambda _: httpx.Response(200, stream=upstream)), base_url="http://model"
    )

    async def body() -> AsyncIterator[bytes]:
        async with client.stream("POST", "/v1/chat/completions", json={}) as response:
            response.raise_for_status()
            async with GUARD.astream(response.aiter_bytes(), sse=True) as guarded:
                async for piece in guarded:
                    yield piece

    async def app(send: Send) -> None:
        await respond(body(), send)

    return app


def test_a_stop_gives_up_the_request_to_the_model() -> None:
    """The client reads what stood before the match, and that it was stopped; nobody waits for what will not be used."""

    async def run() -> None:
        upstream = Body(event("first "), event("then DROP"), event(" TABLE users"))
        sent: list[bytes] = []

        async def send(message: dict[str, Any]) -> None:
            sent.append(message.get("body", b""))

        await asyncio.wait_for(served(upstream)(send), 60)
        assert upstream.closed
        out = b"".join(sent)
        assert out.startswith(event("first ") + event("then "))
        assert b'"finish_reason":"content_filter"' in out
        assert out.endswith(b"data: [DONE]\n\n")
        assert b"DROP" not in out

    asyncio.run(run())


@pytest.mark.parametrize("where", ["in the next piece", "in sending one"])
def test_a_client_that_has_gone_leaves_nothing_open(where: str) -> None:
    """Its task is cancelled: what that waits in is closed at once, what it left as soon as nothing holds it."""

    async def run() -> None:
        upstream = Body(event("first "), event("then DROP"))
        sent: list[bytes] = []
        waits = asyncio.Event()

        async def send(message: dict[str, Any]) -> None:
            sent.append(message.get("body", b""))
            if sent[-1] == event("then "):
                waits.set()
                if where == "in sending one":
                    await asyncio.Event().wait()

        task = asyncio.ensure_future(served(upstream)(send))
        await asyncio.wait_for(waits.wait(), 60)
        await asyncio.sleep(0.01)
        assert not upstream.closed
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        del task
        if where == "in sending one":
            gc.collect()
            for _ in range(20):
                await asyncio.sleep(0)
        assert upstream.closed
        assert b"DROP" not in b"".join(sent)

    asyncio.run(run())
