"""What vLLM streams: the outputs of a request, in pieces."""

from __future__ import annotations

from typing import Any, Final

from decidable.guard.channels import Channel, Channels
from decidable.guard.faults import unknown_chunk, wrong_kind
from decidable.guard.fields import changed, fields
from decidable.guard.parts import fields_of, number_of
from decidable.guard.services import WITHHELD, is_a_word, withheld

__all__ = ["OutputReader"]

ABOUT_A_REQUEST: Final = frozenset(
    {
        "request_id", "prompt", "prompt_token_ids", "prompt_logprobs", "prompt_token_id_logprobs", "finished",
        "metrics", "lora_request", "encoder_prompt", "encoder_prompt_token_ids", "num_cached_tokens",
        "num_cache_creation_tokens", "multi_modal_placeholders", "kv_transfer_params", "ec_transfer_params",
    }
)  # fmt: skip
ABOUT_AN_OUTPUT: Final = frozenset(
    {
        "index", "cumulative_logprob", "finish_reason", "stop_reason", "lora_request", "routed_experts",
        "spec_decode_metrics", "weight_versions",
    }
)  # fmt: skip
# Those of both that are a word or a number.
A_WORD: Final = frozenset({"request_id", "index", "cumulative_logprob", "finish_reason", "stop_reason"})
# What repeats the text in another form, here also which tokens each could have been.
LEFT_OUT: Final = WITHHELD | {"sampling_mask"}


class OutputReader:
    """Reads vLLM's ``RequestOutput`` with pieces of text (``RequestOutputKind.DELTA``)."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        self._last: dict[int, tuple[Any, Any]] = {}
        self._finished: set[int] = set()
        # The last text and tokens of each output and how many there were, while each begins with the one before.
        self._before: dict[int, tuple[str, list[Any], int] | None] = {}

    def take(self, chunk: Any) -> list[Any]:
        """What comes out for a chunk."""
        inside = fields(chunk)
        if inside is None or "outputs" not in inside:
            raise wrong_kind("an output of a request, as before", chunk)
        for name, value in inside.items():
            is_odd = name in A_WORD and not is_a_word(value)
            if name != "outputs" and (name not in ABOUT_A_REQUEST or is_odd) and value:
                raise unknown_chunk(name)
        if not isinstance(inside.get("finished", False), bool):
            raise unknown_chunk("finished", "is neither true nor false")
        if not isinstance(inside["outputs"], list):
            raise unknown_chunk("outputs", "is no list")
        outputs = [self._output(chunk, output) for output in inside["outputs"] if self._channels.stopped is None]
        changes: dict[str, Any] = {"outputs": outputs}
        if self._channels.stopped is not None:
            changes["finished"] = False
        return [changed(chunk, changes)]

    def finish(self) -> list[Any]:
        """The stream came to its end without saying so: what is pending is decided, and a chunk has the rest."""
        out = []
        for index in self._channels.choices:
            for _, rest in self._channels.close_all(index):
                if index is not None:
                    chunk, output = self._last[index]
                    out.append(changed(chunk, {"outputs": [_output_of(output, rest)]}))
        return out

    def end(self, notice: str) -> list[Any]:
        """What tells a client that the stream was stopped: every output that is not finished is aborted."""
        where = self._channels.stopped_in
        outputs = []
        chunk = None
        going_on = [index for index in self._last if index not in self._finished]
        # One that was at its end is ended again where none goes on, or a client would not see that it was stopped.
        for index in going_on or list(self._last)[-1:]:
            last, output = self._last[index]
            told = notice if where is not None and where.choice == index else ""
            outputs.append(changed(_output_of(output, told), {"finish_reason": "abort", "stop_reason": None}))
            chunk = last
        return [changed(chunk, {"outputs": outputs, "finished": True})] if outputs else []

    def _output(self, chunk: Any, output: Any) -> Any:
        inside = fields_of("outputs[]", output)
        index = number_of("outputs[].index", inside.get("index"))
        for name, value in inside.items():
            is_odd = name in A_WORD and not is_a_word(value)
            if name not in LEFT_OUT and name != "text" and (name not in ABOUT_AN_OUTPUT or is_odd) and value:
                raise unknown_chunk(f"outputs[].{name}")
        if index not in self._last:
            self._channels.refuse_many(len(self._last))
        self._last[index] = (chunk, output)
        text = inside.get("text") or ""
        changes = {name: withheld(value) for name, value in inside.items() if name in LEFT_OUT and value}
        if not isinstance(text, str):
            raise unknown_chunk("outputs[].text", "is no text")
        self._read_as_whole(index, text, list(inside.get("token_ids") or ()))
        released = self._channels.push(Channel(index, "text"), text)
        ends = inside.get("finish_reason") not in (None, "")
        if ends:
            released += "".join(rest for _, rest in self._channels.close_all(index))
        if self._channels.stopped is not None:
            changes |= {"finish_reason": None, "stop_reason": None}
        elif ends:
            self._finished.add(index)
        return changed(output, changes | {"text": released})

    def _read_as_whole(self, index: int, text: str, tokens: list[Any]) -> None:
        """An output with all of the text so far, which is vLLM's own setting, would be read as one more piece of it.

        A second piece may begin as the first by chance, as where a token comes again. It is then also read as all of
        the text, before it is read as a piece, and the third decides.
        """
        if index not in self._before:
            if text or tokens:
                self._before[index] = (text, tokens, 1)
            return
        known = self._before[index]
        if known is None or self._channels.stopped is not None:
            return
        before, of_before, count = known
        # Without tokens, which vLLM always has, the text alone tells one from the other.
        more = len(tokens) > len(of_before) and tokens[: len(of_before)] == of_before
        if not (text.startswith(before) and (more if of_before else before and not tokens)):
            self._before[index] = None
            return
        is_released = self._channels.read(Channel(index, "text", field="all"), text) == text
        if count > 1 or not (is_released or self._channels.stopped is not None):
            raise unknown_chunk("outputs[].text", "repeats what was before; it takes RequestOutputKind.DELTA")
        self._before[index] = (text, tokens, count + 1)


def _output_of(output: Any, text: str) -> Any:
    inside = fields(output) or {}
    changes: dict[str, Any] = {name: withheld(value) for name, value in inside.items() if name in LEFT_OUT and value}
    return changed(output, changes | {"text": text})
