"""What vLLM streams: the outputs of a request, in pieces."""

from __future__ import annotations

from collections.abc import Set
from typing import Any, Final

from decidable.guard.channels import Channel, Channels
from decidable.guard.faults import unknown_chunk, wrong_kind
from decidable.guard.fields import changed, fields, is_empty
from decidable.guard.parts import fields_of, number_of, refuse_many
from decidable.guard.services import WITHHELD, are_numbers, is_a_word, withheld

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
# What repeats what was asked for.
OF_THE_REQUEST: Final = frozenset(
    {"prompt_token_ids", "encoder_prompt_token_ids", "multi_modal_placeholders", "lora_request"}
)
# Those of both that are a word or a number; what else an engine says is read, as far as it can have a text.
A_WORD: Final = frozenset(
    {"request_id", "index", "finish_reason", "stop_reason", "finished", "prompt", "encoder_prompt"}
)
A_NUMBER: Final = frozenset({"cumulative_logprob", "num_cached_tokens", "num_cache_creation_tokens"})
# What repeats the text in another form, here also which tokens each could have been.
LEFT_OUT: Final = WITHHELD | {"sampling_mask", "prompt_logprobs", "prompt_token_id_logprobs"}


class OutputReader:
    """Reads vLLM's ``RequestOutput`` with pieces of text (``RequestOutputKind.DELTA``)."""

    is_waiting = False

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
        changes = self._about(None, "", chunk, "outputs", ABOUT_A_REQUEST)
        if not isinstance(inside.get("finished", False), bool):
            raise unknown_chunk("finished", "is neither true nor false")
        if not isinstance(inside["outputs"], list):
            raise unknown_chunk("outputs", "is no list")
        outputs = [self._output(chunk, output) for output in inside["outputs"] if self._channels.stopped is None]
        changes["outputs"] = outputs
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
                    out.append(_chunk_of(chunk, [_output_of(output, rest)]))
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
        return [changed(_chunk_of(chunk, outputs), {"finished": True})] if outputs else []

    def _output(self, chunk: Any, output: Any) -> Any:
        inside = fields_of("outputs[]", output)
        index = number_of("outputs[].index", inside.get("index"))
        changes = self._about(index, f"outputs[{index}].", output, "text", ABOUT_AN_OUTPUT)
        if index not in self._last:
            refuse_many(len(self._last))
        self._last[index] = (chunk, output)
        text = inside.get("text") or ""
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

    def _about(self, choice: int | None, place: str, of: Any, but: str, known: Set[str]) -> dict[str, Any]:
        """Reads what an engine says beside one field, and says what of it comes out otherwise."""
        changes: dict[str, Any] = {}
        for name, value in (fields(of) or {}).items():
            if name == but or name in OF_THE_REQUEST or (name in A_WORD and is_a_word(value)):
                continue
            if value is None and name in known:
                continue
            if name in A_NUMBER and isinstance(value, (int, float)):
                continue
            if name in LEFT_OUT:
                changes[name] = withheld(value)
            elif name not in known or name in A_WORD:
                if not (is_empty(value) if name in known else self._channels.says_nothing(of, name, value)):
                    raise unknown_chunk(f"{place}{name}")
            elif not are_numbers(value) and (fields(value) is not None or isinstance(value, (str, list, tuple))):
                # Arrays, and what else nobody can list, are its own.
                new = self._channels.read_all(choice, f"{place}{name}", value)
                if new is not value:
                    changes[name] = new
        return changes

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


def _chunk_of(like: Any, outputs: list[Any]) -> Any:
    known = {"outputs", *A_WORD, *OF_THE_REQUEST}
    # What it said besides was said, or was not to come out.
    changes = {name: withheld(value) for name, value in (fields(like) or {}).items() if name not in known}
    return changed(like, changes | {"outputs": outputs})


def _output_of(output: Any, text: str) -> Any:
    inside = fields(output) or {}
    # What it said besides was said.
    changes: dict[str, Any] = {name: withheld(value) for name, value in inside.items() if name not in ("text", *A_WORD)}
    return changed(output, changes | {"text": text})
