"""``make test-runtimes``: what the guard takes of vLLM and llama-cpp-python, held to their own interfaces and types.

Neither is installed: of vLLM's wheel the modules that define them are loaded, beside stand-ins for what those import,
and of llama-cpp-python's source its types. DECIDABLE_RUNTIMES is the folder with both.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import importlib
import importlib.util
import inspect
import os
import sys
import tarfile
import typing
import zipfile
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import decidable as dc
from decidable import Guard, Rule
from decidable.guard.outputs import A_NUMBER, A_WORD

FOLDER = Path(os.environ["DECIDABLE_RUNTIMES"])
ITS_OWN = {
    "vllm.exceptions",
    "vllm.logprobs",
    "vllm.outputs",
    "vllm.v1.sample.logits_processor",
    "vllm.v1.sample.logits_processor.builtin",
    "vllm.v1.sample.logits_processor.interface",
    "vllm.v1.sample.logits_processor.state",
    "vllm.v1.worker.gpu.sample.logits_processor",
    "vllm.v1.worker.gpu.sample.logits_processor.interface",
    "vllm.v1.worker.gpu.sample.logits_processor.loader",
}
"""The modules of vLLM that are loaded; every other is a stand-in."""
BY_NAME = "decidable.guard.vllm:TokenStatistics"
GUARD = Guard([Rule.literal("drop table")])
VOCABULARY = 100


class StandIn(ModuleType):
    """A module that has a class of every name, but for the few that have to do something."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "init_logger":
            return lambda _: SimpleNamespace(debug=print, error=print, warning_once=print)
        if name == "guard_cuda_initialization":
            return contextlib.nullcontext
        kind = type(name, (), {})
        setattr(self, name, kind)
        return kind


class Finder:
    """Finds vLLM's own modules in its unpacked wheel, and stand-ins for the others."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name.split(".")[0] != "vllm":
            return None
        if name not in ITS_OWN:
            return ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]
        place = self._root.joinpath(*name.split("."))
        if place.is_dir():
            return importlib.util.spec_from_file_location(
                name, place / "__init__.py", submodule_search_locations=[str(place)]
            )
        return importlib.util.spec_from_file_location(name, place.with_suffix(".py"))

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("vllm")
    (wheel,) = FOLDER.glob("vllm-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(into, [name for name in archive.namelist() if name.endswith(".py")])
    return into


@pytest.fixture(scope="module")
def vllm(root: Path) -> Iterator[Any]:
    """The guard's module, beside vLLM's own."""
    before = set(sys.modules)
    finder = Finder(root)
    sys.meta_path.insert(0, finder)
    sys.modules.pop("decidable.guard.vllm", None)
    yield importlib.import_module("decidable.guard.vllm")
    sys.meta_path.remove(finder)
    for name in set(sys.modules) - before:
        if name.split(".")[0] == "vllm" or name == "decidable.guard.vllm":
            del sys.modules[name]


def members(root: Path, module: str, kind: str) -> dict[str, ast.stmt]:
    """What a class of a module defines, where the module itself cannot be loaded."""
    text = root.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
    (found,) = (each for each in ast.parse(text).body if isinstance(each, ast.ClassDef) and each.name == kind)
    names: dict[str, ast.stmt] = {}
    for each in found.body:
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
            names[each.target.id] = each
        elif isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef)):
            names[each.name] = each
    return names


def params(name: str | None = None) -> Any:
    return SimpleNamespace(extra_args=None if name is None else {"decidable_statistics": name}, n=1)


def expected(vllm: Any, row: Any) -> Any:
    row = row.numpy()
    stats = dc.logit_stats(row, int(row.argmax()))
    return vllm.Step(stats.entropy, stats.dominance, stats.top1, stats.selected_probability, stats.top2)


def taken(vllm: Any, name: str) -> Any:
    return vllm.steps_of([vllm.StatisticsWorker().take_decidable_statistics(name)])


# --- vLLM: the processor --------------------------------------------------------------------------------------------


def test_both_loaders_of_vllm_take_the_processor_by_its_name(vllm: Any) -> None:
    v1 = importlib.import_module("vllm.v1.sample.logits_processor")
    v2 = importlib.import_module("vllm.v1.worker.gpu.sample.logits_processor.loader")
    assert v1._load_logitsprocs_by_fqcns([BY_NAME]) == [vllm.TokenStatistics]
    assert v2._load_v2_logitsprocs_by_fqcns([BY_NAME]) == [vllm.TokenStatistics]
    # Both ask it before a request is taken, and say what it says.
    refused = importlib.import_module("vllm.exceptions").VLLMValidationError
    with pytest.raises(refused, match="decidable_statistics is a name"):
        v2.build_custom_logits_processors_params_validator([BY_NAME])(params(""))


def test_every_method_takes_what_both_interfaces_give_it(vllm: Any) -> None:
    for module in ("vllm.v1.sample.logits_processor.interface", "vllm.v1.worker.gpu.sample.logits_processor.interface"):
        for name, method in vars(importlib.import_module(module).LogitsProcessor).items():
            if not inspect.isfunction(method) and not isinstance(method, classmethod):
                continue
            theirs = list(inspect.signature(getattr(method, "__func__", method)).parameters.values())[1:]
            ours = inspect.signature(getattr(vllm.TokenStatistics, name))
            bound = () if isinstance(method, classmethod) else (None,)
            ours.bind(*bound, *theirs)


def test_a_batch_of_version_1(vllm: Any) -> None:
    v1 = importlib.import_module("vllm.v1.sample.logits_processor")
    state = importlib.import_module("vllm.v1.sample.logits_processor.state")
    processors = state.LogitsProcessors(
        [vllm.TokenStatistics(SimpleNamespace(speculative_config=None), torch.device("cpu"), False)]
    )
    # Those see the logits before the temperature, of greedy requests too.
    (processor,) = processors.non_argmax_invariant
    said: list[int] = []
    builder = state.BatchUpdateBuilder()
    builder.added.extend([(0, params(), None, []), (1, params("one"), [1, 2], said)])
    processor.update_state(builder.get_and_reset(2))
    first = torch.randn(2, VOCABULARY)
    assert torch.equal(processor.apply(first.clone()), first)
    said.append(7)
    builder.removed_append(0)
    builder.moved.append((1, 0, v1.MoveDirectionality.UNIDIRECTIONAL))
    processor.update_state(builder.get_and_reset(1))
    processor.update_state(builder.get_and_reset(1))
    second = torch.randn(1, VOCABULARY)
    processor.apply(second)
    said.append(8)
    builder.added.append((1, params("two"), [3], []))
    builder.moved.append((0, 1, v1.MoveDirectionality.SWAP))
    processor.update_state(builder.get_and_reset(2))
    third = torch.randn(2, VOCABULARY)
    processor.apply(third)
    assert taken(vllm, "one") == [expected(vllm, row) for row in (first[1], second[0], third[1])]
    assert taken(vllm, "two") == [expected(vllm, third[0])]


def test_a_batch_of_version_2(vllm: Any, root: Path) -> None:
    interface = importlib.import_module("vllm.v1.worker.gpu.sample.logits_processor.interface")
    lengths = {name: SimpleNamespace(np=np.array([3, 4, 0], dtype=np.int32)) for name in ("prompt_len", "prefill_len")}
    states = interface.LogitsProcRequestState.from_request_state(
        SimpleNamespace(
            device=torch.device("cpu"),
            max_num_reqs=3,
            vocab_size=VOCABULARY,
            all_token_ids=None,
            total_len=None,
            **lengths,
        )
    )
    # The lengths are such tensors, whose `np` the host reads.
    assert "self.np = " in ast.unparse(members(root, "vllm.v1.worker.gpu.buffer_utils", "UvaBackedTensor")["__init__"])
    processor = vllm.TokenStatistics(SimpleNamespace(speculative_config=None), states)
    assert processor.add_request(1, params("slots")) is True
    assert processor.add_request(0, params()) is False
    processor.apply_staged_writes()
    steps = []
    for length in (2, 4, 5):
        slots, visible = np.array([0, 1]), np.array([length, length])
        rows = torch.tensor(slots)
        context = interface.LogitsContext(
            expanded_idx_mapping=rows,
            idx_mapping=rows,
            idx_mapping_np=slots,
            expanded_local_pos=torch.zeros(2),
            input_ids=torch.zeros(2),
            pos=torch.tensor(visible - 1),
            seq_lens_upper_bound_np=visible,
        )
        logits = torch.randn(2, VOCABULARY)
        assert torch.equal(processor.apply(logits.clone(), context), logits)
        steps.append(logits[1])
    assert taken(vllm, "slots") == [expected(vllm, row) for row in steps[1:]]


def test_what_is_asked_of_vllm_besides(vllm: Any, root: Path) -> None:
    assert {"n", "extra_args", "logprobs"} <= members(root, "vllm.sampling_params", "SamplingParams").keys()
    assert "worker_extension_cls" in members(root, "vllm.config.parallel", "ParallelConfig")
    for module, kind in (("vllm.entrypoints.llm", "LLM"), ("vllm.v1.engine.async_llm", "AsyncLLM")):
        method = members(root, module, kind)["collective_rpc"]
        assert isinstance(method, (ast.FunctionDef, ast.AsyncFunctionDef))
        assert [each.arg for each in method.args.args] == ["self", "method", "timeout", "args", "kwargs"]
    # It goes over the wire as MessagePack does.
    answer = vllm._Kept()
    answer.put("a", 0, vllm._step(torch.randn(VOCABULARY).numpy()))
    ((number, *values),) = answer.take("a")
    assert [type(each) for each in (number, *values)] == [int, float, float, int, float, int]


# --- vLLM: what it streams ------------------------------------------------------------------------------------------


def test_every_field_of_an_output_is_known(vllm: Any) -> None:
    outputs = importlib.import_module("vllm.outputs")
    known = {"index", "text", "token_ids", "finish_reason"}
    others = {each.name for each in dataclasses.fields(outputs.CompletionOutput)} - known
    of_request = set(inspect.signature(outputs.RequestOutput).parameters) - {"outputs", "finished", "kwargs"}

    def said_of(name: str) -> Any:
        return "a word" if name in A_WORD else 7 if name in A_NUMBER else ["what it says"]

    def chunk(text: str, finish: str | None = None) -> Any:
        full = {name: said_of(name) for name in others}
        output = outputs.CompletionOutput(index=0, text=text, token_ids=[1, 2], finish_reason=finish, **full)
        about = {name: said_of(name) for name in of_request}
        return outputs.RequestOutput(outputs=[output], finished=finish is not None, **about)

    stream = GUARD.stream([chunk("I dr"), chunk("op it", "stop")])
    out = list(stream)
    assert [each.outputs[0].text for each in out] == ["I ", "drop it"]
    assert all(type(each) is outputs.RequestOutput for each in out)
    assert stream.stopped is None
    # What tells the tokens, or which there could have been, does not come out.
    left_out = ("token_ids", "logprobs", "sampling_mask")
    assert not any(getattr(each.outputs[0], name) for each in out for name in left_out)
    out = list(GUARD.stream([chunk("I drop"), chunk(" table", "stop")]))
    assert [each.outputs[0].text for each in out] == ["I ", "", ""]
    assert (out[-1].finished, out[-1].outputs[0].finish_reason) == (True, "abort")


def test_bounds_of_its_logprobs(vllm: Any) -> None:
    logprob = importlib.import_module("vllm.logprobs").Logprob
    values = torch.log_softmax(torch.randn(VOCABULARY), 0).tolist()
    order = sorted(range(VOCABULARY), key=lambda token: -values[token])
    for place, chosen in enumerate(order):
        position = {token: logprob(values[token], rank + 1) for rank, token in enumerate(order[:5])}
        position[chosen] = logprob(values[chosen], place + 1)
        bounds = vllm.logit_bounds(position, chosen, vocabulary_size=VOCABULARY)
        stats = dc.logit_stats(np.array(values, dtype=np.float32), chosen)
        assert bounds.entropy_lower - 1e-6 <= stats.entropy <= bounds.entropy_upper + 1e-6


# --- llama-cpp-python -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The module of its types."""
    (source,) = FOLDER.glob("llama_cpp_python-*.tar.gz")
    place = tmp_path_factory.mktemp("llama") / "llama_types.py"
    with tarfile.open(source) as archive:
        (member,) = (each for each in archive if each.name.endswith("/llama_cpp/llama_types.py"))
        text = archive.extractfile(member)
        assert text is not None
        place.write_bytes(text.read())
    spec = importlib.util.spec_from_file_location("llama_types", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["llama_types"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["llama_types"]


def made(kind: Any, **values: Any) -> Any:
    """A value of a type that has every key it may have; those of these names have these values."""
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if typing.is_typeddict(kind) or hasattr(kind, "__total__"):
        keys = typing.get_type_hints(kind)
        return {key: values[key] if key in values else made(of, **values) for key, of in keys.items()}
    if origin is typing.Union:
        return made(inside[0], **values)
    if origin is typing.Literal:
        return inside[0]
    if origin is list:
        return [made(inside[0], **values)]
    if origin is dict:
        return {"": made(inside[1], **values)}
    return {str: "", int: 0, float: 0.0}[kind]


def test_chunks_of_llama_cpp_python_are_read_as_its_types_have_them(llama: Any) -> None:
    chat = llama.CreateChatCompletionStreamResponse
    no_calls: dict[str, Any] = {"tool_calls": None, "function_call": None, "name": "", "arguments": ""}

    def chunk(content: str, finish: str | None = None, **others: Any) -> Any:
        return made(chat, **{**no_calls, "content": content, "finish_reason": finish, **others})

    stream = GUARD.stream([chunk("I dr"), chunk("op it", "stop")])
    out = list(stream)
    assert [each["choices"][0]["delta"]["content"] for each in out] == ["I ", "drop it"]
    assert stream.stopped is None
    assert not any(each["choices"][0]["logprobs"] for each in out)
    stream = GUARD.stream([chunk("I drop"), chunk(" table", "stop")])
    out = list(stream)
    assert out[-1]["choices"][0]["finish_reason"] == "content_filter"
    assert stream.stopped.channel == "text"
    # Arguments of calls, of both kinds.
    call = made(llama.ChatCompletionMessageToolCallChunk, name="f", arguments='{"a": "\\u0064rop table"}')
    function = made(llama.ChatCompletionStreamResponseDeltaFunctionCall, name="f", arguments='{"a": "drop table"}')
    for name, others in (
        ("tool_arguments[0]", {"tool_calls": [call]}),
        ("function_arguments", {"function_call": function}),
    ):
        stream = GUARD.stream([chunk("", **others)])
        out = list(stream)
        assert stream.stopped is not None
        assert stream.stopped.channel == name


def test_plain_completions_of_llama_cpp_python(llama: Any) -> None:
    def chunk(text: str, finish: str | None = None) -> Any:
        return made(llama.CreateCompletionStreamResponse, text=text, finish_reason=finish)

    assert [each["choices"][0]["text"] for each in GUARD.stream([chunk("I dr"), chunk("op it", "stop")])] == [
        "I ",
        "drop it",
    ]
    out = list(GUARD.stream([chunk("I drop"), chunk(" table", "stop")]))
    assert out[-1]["choices"][0]["finish_reason"] == "content_filter"
    assert not any(each["choices"][0]["logprobs"] for each in out)
