"""``make test-transformers``: generations of a tiny random model under random rules, none of which leaks.

The model and its tokenizer are made here, without a download. For each seed the same generation runs without a guard;
what a guarded one writes must be exactly what a plain search of that text lets out of it (plain.py), so nothing of a
match that stops is in it. The seed is printed; ``DECIDABLE_SEED=… make test-transformers`` repeats a run.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import decidable as dc
from decidable import Guard, Rule
from decidable.guard.transformers import Session
from plain import PATTERNS, Sought, released

RUNS = 200
TOKENS = 80
MOST_OF_A_STEP = 0.01
CORPUS = [
    "Drop the table, said the naïve user; the café is closed and the key is 078-05-1120.",
    "Zürich, Łódź, 東京 and Ελλάδα are places. The secret is a secret is a secret.",
    "DROP TABLE users; SELECT name FROM accounts WHERE balance > 100",
]


@pytest.fixture(scope="module")
def made() -> tuple[Any, Any]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(CORPUS * 20, trainer)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    return LlamaForCausalLM(config).eval(), fast


def generate(model: Any, seed: int, **options: Any) -> Any:
    torch.manual_seed(seed)
    prompt = torch.tensor([[0, 5, 9]])
    mask = torch.ones_like(prompt)
    return model.generate(
        input_ids=prompt,
        attention_mask=mask,
        max_new_tokens=TOKENS,
        do_sample=True,
        temperature=0.9,
        top_k=50,
        **options,
    )


def sought_in(random: Random, text: str) -> list[Sought]:
    """Rules most of which match what the model says: parts of it, and patterns."""
    sought = []
    for number in range(random.randrange(1, 5)):
        name, action = str(number), random.choice(["stop", "stop", "redact", "record"])
        if random.random() < 0.7 and len(text) > 4:
            start = random.randrange(len(text) - 3)
            part = text[start : start + random.randrange(1, 12)]
            if part.strip() and "\ufffd" not in part and part.isprintable():
                sought.append(Sought(name, action, re.escape(part), literal=part))
                continue
        sought.append(Sought(name, action, *random.choice(PATTERNS)))
    return sought


def test_nothing_leaks_from_generations(made: tuple[Any, Any]) -> None:
    model, tokenizer = made
    first = int(os.environ.get("DECIDABLE_SEED", secrets.randbelow(10**9)))
    print(f"DECIDABLE_SEED={first}")
    stopped = redacted = 0
    for seed in range(first, first + RUNS):
        ids = generate(model, seed)[0, 3:].tolist()
        text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        sought = sought_in(Random(seed), text)
        guard = Guard([each.rule for each in sought])
        # Not by the guard: a search of the whole text.
        expected, reason = released(sought, text)
        written: list[str] = []
        with Session(guard, tokenizer, write=written.append) as session:
            generate(model, seed, **session.options())
        assert session.fault is None, seed
        assert (session.stopped is None) == (reason is None), seed
        if reason is not None and session.stopped is not None:
            assert (session.stopped.rule, session.stopped.start) == (reason[0], len(text[: reason[1]].encode())), seed
            stopped += 1
        assert "".join(written) == session.text == expected, seed
        redacted += "[redacted]" in expected
    print(f"{RUNS} generations, {stopped} stopped, {redacted} redacted, 0 leaks")
    assert stopped > RUNS // 4
    assert redacted > RUNS // 20


def test_an_audit_has_every_token_and_its_statistics_cost_little(made: tuple[Any, Any], tmp_path: Path) -> None:
    model, tokenizer = made
    path = tmp_path / "answer.audit"
    with Session(Guard([]), tokenizer, stats=True, audit=path, model="tiny") as session:
        ids = generate(model, 7, **session.options())[0, 3:].tolist()
    report = dc.verify_audit(path)
    assert [frame.token_id for frame in report.frames][: len(ids)] == ids
    assert report.ending == "finished"
    scores = torch.randn(1, len(tokenizer))
    shares = []
    # Other work on a machine makes a share larger or smaller: the best of three counts.
    for _ in range(3):
        started = time.perf_counter()
        for _ in range(1_000):
            # As the session takes them, with the copy of the logits.
            dc.logit_stats(scores[0].detach().to("cpu", copy=True).float().numpy(), 3)
        each = (time.perf_counter() - started) / 1_000
        started = time.perf_counter()
        generate(model, 7)
        step = (time.perf_counter() - started) / len(ids)
        print(f"logit_stats: {each * 1e6:.1f} us of a step's {step * 1e6:.0f} us ({100 * each / step:.2f} %)")
        shares.append(each / step)
    assert min(shares) < MOST_OF_A_STEP


def test_a_model_that_is_unsure_is_stopped(made: tuple[Any, Any]) -> None:
    model, tokenizer = made
    with Session(Guard([]), tokenizer, most_entropy=(0.1, 3)) as session:
        generate(model, 3, **session.options())
    assert session.stopped is not None
    assert session.stopped.kind == "uncertain"


@pytest.mark.parametrize("options", [{"num_return_sequences": 2}, {"num_beams": 2}])
def test_several_sequences_at_once_are_refused(made: tuple[Any, Any], options: dict[str, Any]) -> None:
    model, tokenizer = made
    with Session(Guard([]), tokenizer) as session, pytest.raises((dc.InvalidInput, ValueError)):
        generate(model, 3, **session.options(), **options)
    assert session.text == ""


def test_a_fault_of_the_model_releases_nothing_that_was_held(made: tuple[Any, Any]) -> None:
    model, tokenizer = made
    seen = 0

    def fail(input_ids: Any, scores: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen == 20:
            raise RuntimeError("out of memory")
        return scores

    session = Session(Guard([Rule.regex("[a-zA-Z ]{1,9}9{4}")]), tokenizer)
    options = session.options()
    options["logits_processor"].append(fail)
    with pytest.raises(RuntimeError), session:
        generate(model, 11, **options)
    assert session.stopped is not None
    assert session.stopped.kind == "failed"
