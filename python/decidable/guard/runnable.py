"""A guard as a part of a LangChain chain. Only what is made here imports LangChain."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableGenerator

    from decidable.guard import Guard

__all__ = ["as_runnable"]


def as_runnable(guard: Guard, **options: Any) -> RunnableGenerator[Any, Any]:
    """What passes through it is guarded: texts, and messages in pieces or whole. Each run is a stream of its own."""
    from langchain_core.runnables import RunnableGenerator

    def transform(chunks: Iterator[Any]) -> Iterator[Any]:
        with closing(guard.stream(chunks, **options)) as stream:
            yield from stream

    async def atransform(chunks: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async with aclosing(guard.astream(chunks, **options)) as stream:
            async for chunk in stream:
                yield chunk

    return RunnableGenerator(transform, atransform, name="guard")
