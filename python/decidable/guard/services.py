"""What services call what they stream: which fields have no text, and which names are their own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

__all__ = [
    "COMMANDS", "KNOWN", "NAMES", "OF_AN_ERROR", "OF_BEDROCK", "READ_AS_JSON", "READ_WHOLE", "REASONS", "REPEATS",
    "SEALS", "WITHHELD", "are_numbers", "is_a_word", "is_an_error", "is_of_the_service", "withheld",
]  # fmt: skip

# They repeat the text in another form (what else could have been said included), and nobody reads them here.
WITHHELD: Final = frozenset({"logprobs", "token_ids", "output_ids", "reasoning_details"})

# What repeats the text in another form, or may come in pieces that nobody puts together, does not come out.
REPEATS: Final = WITHHELD | {
    "executed_tools", "hidden_states", "prompt_logprobs", "provider_specific_fields", "raw_output", "reasoning_steps",
    "thinking_blocks", "token_id",
}  # fmt: skip
# What comes whole and has text, of the model or of those whom it asked, is read: what was found, cited, or failed, and
# what LiteLLM's client keeps of a call.
READ_WHOLE: Final = frozenset(
    {
        "_hidden_params", "annotations", "base_resp", "citations", "context", "end_turn", "error", "extra_content",
        "moderation", "perf_metrics", "related_questions", "search_info", "search_results", "usage_breakdown", "videos",
        "web_search", "x_groq",
    }
)  # fmt: skip
# What says why a choice or a message is at its end, as services call it.
REASONS: Final = (
    "finish_reason", "native_finish_reason", "stop_reason", "matched_stop", "done_reason", "finishReason", "stopReason",
    "status",
)  # fmt: skip
# What Bedrock says with the last of a stream: what was used, and what its own filter did.
OF_BEDROCK: Final = frozenset(
    {"amazon-bedrock-guardrailAction", "amazon-bedrock-invocationMetrics", "amazon-bedrock-trace"}
)
# What a service seals of a part.
SEALS: Final = frozenset({"signature", "encrypted_content", "id"})

# Names and seals that a service makes, not a model.
OPAQUE: Final = frozenset(
    {
        "id", "object", "model", "role", "caller", "created_by", "signature", "encrypted_content", "encrypted_index",
        "fingerprint", "server_label", "execution", "usage", "finish_reason", "stop_reason", "file_type", "obfuscation",
        "approval_request_id", "call_id", "completion_id", "container_id", "conversation_id", "file_id",
        "generation_id", "item_id", "message_id", "parent_id", "previous_response_id", "request_id", "response_id",
        "run_id", "session_id", "span_id", "thread_id", "tool_call_id", "tool_use_id", "trace_id", "vector_store_id",
    }
)  # fmt: skip
# Words that a service chooses from, by the field. Another one is a text like any other.
WORDS: Final = {
    "type": re.compile(r"[a-z][a-z0-9_.-]{0,63}"),
    "status": re.compile(
        "in_progress|completed|incomplete|failed|searching|calling|interpreting|generating|queued|cancelled|success|error"
    ),
    "phase": re.compile("commentary|final_answer"),
    "detail": re.compile("auto|low|high|original"),
}
# What a service counts and times, where it is a number.
COUNTED: Final = ("_at", "_duration", "_index", "_line", "_ms", "_number", "_time", "_tokens", "created", "index")
# A time in milliseconds is the largest of them; longer ones could be the number of a card.
LARGEST_COUNT: Final = 2 * 10**12

# The names of those that count what was used.
OF_USAGE: Final = frozenset(
    {
        "accepted_prediction_tokens", "audio_tokens", "cache_creation", "cache_creation_input_tokens", "cache_read",
        "cache_read_input_tokens", "cached_tokens", "completion_time", "completion_tokens",
        "completion_tokens_details", "cost", "cost_details", "image_tokens", "input_token_details", "input_tokens",
        "input_tokens_details", "output_token_details", "output_tokens", "output_tokens_details", "prompt_time",
        "prompt_tokens", "prompt_tokens_details", "queue_time", "reasoning_tokens", "rejected_prediction_tokens",
        "text_tokens", "total_time", "total_tokens",
    }
)  # fmt: skip
# Names of fields that services have. What else an object of JSON calls its parts may be the words of a model.
NAMES: Final = frozenset(
    {
        "action", "actions", "additional_kwargs", "annotation", "annotations", "args", "arguments", "attributes",
        "audio", "base_resp", "block", "caller", "categories", "category", "choices", "citation", "citations",
        "cited_text", "code", "command", "commands", "container", "content", "context", "count", "created",
        "custom", "data", "delta", "description", "detail", "details", "diff", "display", "document_index",
        "document_title", "domain", "duration", "edits", "end", "end_block_index", "end_char_index", "end_index",
        "end_page_number", "end_turn", "env", "error", "error_code", "error_message", "exit_code", "expires_at",
        "explanation", "extra_content", "extras", "failed_generation", "favicon", "file_id", "file_url", "filename",
        "finish", "flagged", "format", "from", "function", "function_call", "group", "height", "host", "icon", "id",
        "image", "image_url", "index", "input", "input_schema", "is_error", "item", "key", "keys", "kind",
        "language", "level", "lines", "link", "links", "location", "logprobs", "logs", "message", "metadata",
        "metrics", "model", "model_name", "model_provider", "moderation", "name", "names", "namespace", "new_lines",
        "new_start", "number", "object", "offset", "old_lines", "old_start", "operation", "outcome", "output",
        "outputs", "page", "page_age", "param", "parameters", "parsed", "part", "path", "pattern", "phase",
        "position", "provider", "provider_name", "published_date", "publisher", "queries", "query", "quote", "raw",
        "reason", "reasoning", "reasoning_content", "refusal", "related_questions", "response", "result", "results",
        "retrieved_at", "return_code", "role", "safety", "score", "search_info", "search_results", "segments",
        "server_label", "server_name", "signature", "site", "site_name", "size", "snippet", "source", "sources",
        "span", "start", "start_block_index", "start_char_index", "start_index", "start_page_number", "status",
        "stderr", "stdout", "stop_reason", "stop_sequence", "summary", "svg", "syntax", "system_fingerprint",
        "text", "thinking", "thought", "time", "title", "token_usage", "tool", "tool_calls", "tool_name", "tools",
        "transcript", "type", "url", "url_citation", "usage", "user", "value", "version", "video", "videos",
        "web_search", "width", "words", "x", "x_groq", "y",
    }
) | OF_USAGE  # fmt: skip

# Those that are there though nobody has anything under them.
OFTEN_EMPTY: Final = frozenset(
    {
        "access_programs", "content_block", "content_filters", "context_window", "created_at", "debug_output",
        "diagnostics", "finish_details", "function_call_id", "images", "input_messages", "input_transformations",
        "kv_transfer_params", "matched_token", "meta_info", "output_messages", "padding", "partial", "prefix",
        "prompt_cache_diagnostics", "prompt_routed_experts", "reasoning_opaque", "reasoning_text", "routed_experts",
        "search_parameters", "stream", "strict", "suffix", "thinking_signature", "thought_signature", "tool_responses",
        "tool_usage", "top_k", "trace_headers",
    }
)  # fmt: skip

# What a model wrote as JSON. Where a service has read it the names are the model's, too; a text is what it wrote.
READ_AS_JSON: Final = frozenset({"input", "arguments", "parsed_arguments", "args", "env", "partial_json"})


# All of these, which say nothing of a text where they are empty.
KNOWN: Final = NAMES | OFTEN_EMPTY | REPEATS | READ_WHOLE | READ_AS_JSON | OPAQUE | WORDS.keys()

# What the error of a service consists of: none of it is put together with what another event says.
OF_AN_ERROR: Final = frozenset(
    {"type", "error", "message", "code", "param", "status", "status_code", "object", "details", "detail", "request_id"}
)

# What a command is called that is told as a list of its words.
COMMANDS: Final = frozenset({"command", "cmd", "argv", "args"})


def withheld(value: Any) -> Any:
    """What stands in the place of something that does not come out."""
    return type(value)() if type(value) in (list, tuple) else [] if isinstance(value, list) else None


def is_a_word(value: Any) -> bool:
    """Whether it is a name, a count or a word. What has parts is none, and may have a text."""
    return value is None or isinstance(value, (str, int, float))


def are_numbers(value: Any) -> bool:
    """Whether it is a list of numbers, such as of the tokens of a prompt, which are many."""
    return isinstance(value, list) and all(type(each) is int for each in value)


def is_an_error(inside: Mapping[str, Any]) -> bool:
    """Whether a service says with it what went wrong, and nothing else."""
    return bool(inside.get("error") or inside.get("object") == "error") and inside.keys() <= OF_AN_ERROR


def is_of_the_service(name: str, value: Any) -> bool:
    """Whether it is what a service says of a text, and no text."""
    if name in WORDS:
        return isinstance(value, str) and WORDS[name].fullmatch(value) is not None
    if isinstance(value, (int, float)) and name.endswith(COUNTED) and abs(value) < LARGEST_COUNT:
        return True
    return name in OPAQUE and is_a_word(value)
