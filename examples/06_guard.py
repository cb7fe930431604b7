"""6. Guard: rules over what a model streams out. Nothing of a match leaves, also where it is spread over pieces."""

from collections.abc import Iterator

from decidable import Guard, GuardStopped, Rule

GUARD = Guard(
    [
        Rule.literal("DROP TABLE", ignore_case=True, name="sql"),
        Rule.regex(r"\b\d{3}-\d{2}-\d{4}\b", action="redact", name="ssn"),
    ]
)


def model() -> Iterator[str]:
    """Stands in for a model that streams its answer."""
    try:
        yield from ("Hers is 078-", "05-1120", ". To tidy up: dr", "op ta", "ble users; --", " done")
    finally:
        print("\n(the source is closed)")


stream = GUARD.stream(model())
for text in stream:
    print(text, end="")
assert stream.stopped is not None
print("stopped by rule", stream.stopped.rule, "at byte", stream.stopped.start)
print("replaced:", [match.rule for match in stream.matches])

# The same, as an exception at the end; its message tells a client nothing about the rules.
try:
    print(*GUARD.stream(model(), raise_on_stop=True))
except GuardStopped as error:
    print("GuardStopped:", error, "-", error.stopped.kind)
