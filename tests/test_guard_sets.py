"""The sets of rules that ship, rules held to their examples, what is held back, and rules of others."""

from __future__ import annotations

import itertools
import json
import random
import re
import subprocess
import sys
import time
import tracemalloc
import types
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

import codes
import decidable as dc
from decidable import Guard, Rule
from decidable._native import Automaton
from decidable.guard import from_gitleaks, from_litellm_patterns, imports, rule_set
from decidable.guard.files import MOST_FILE_BYTES, read_written
from decidable.guard.sets import EVERYDAY, SETS, Failed, Held, Measure, failing, held, set_file
from model.random_cases import seeds

DOCUMENT = (Path(__file__).parent.parent / "docs" / "guard-sets.md").read_text(encoding="utf-8")


def refused(code: str, call: Callable[[], object]) -> dc.DecidableError:
    with pytest.raises(dc.InvalidInput) as caught:
        call()
    assert caught.value.code == code
    return caught.value


def command(*arguments: str, cwd: Path, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "decidable.cli", "guard", *arguments],
        cwd=cwd, input=given, capture_output=True, text=True, encoding="utf-8", check=False,
    )  # fmt: skip


# --- the sets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETS)
def test_every_rule_of_a_set_keeps_its_examples(name: str) -> None:
    """Each has some that match and some that do not."""
    failed, often = failing(set_file(name))
    assert failed == []
    for written in read_written(set_file(name)):
        assert often[written.rule.name] >= 2
        assert written.matches, written.rule.name
        assert written.passes, written.rule.name


@pytest.mark.parametrize("name", SETS)
def test_an_example_is_found_wherever_it_is_cut_and_no_byte_of_it_leaves(name: str) -> None:
    """All rules of a set together, code point by code point, within other text."""
    guard = Guard(rule_set(name, action="stop"))
    for written in read_written(set_file(name)):
        for pieces in written.matches:
            text = "".join(pieces)
            whole = guard.check(f"so: {text}\nthen")
            stream = guard.stream(f"so: {text}\nthen")
            released = "".join(stream)
            assert stream.stopped is not None, text
            assert stream.stopped == whole[1]
            # In the example, and not in what stands around it but for what a rule wants behind.
            assert 4 <= stream.stopped.start < stream.stopped.end <= len(f"so: {text}\n".encode())
            assert released == f"so: {text}\nthen".encode()[: stream.stopped.start].decode()


def test_the_sets_are_compiled_together_and_with_rules_of_ones_own() -> None:
    """Their names differ; the action is the caller's where one is given."""
    rules = rule_set(*SETS)
    guard = Guard([*rules, Rule.literal("internal only")])
    assert len(guard.rules) == len({rule.name for rule in guard.rules}) == len(rules) + 1
    assert guard.check("card 4111 1111 1111 1111, ada@example.com")[0] == "card [redacted], [redacted]"
    stopped = guard.check("first; rm -rf / ")[1]
    assert stopped is not None
    assert stopped.rule == "shell-chained-command"
    assert {rule.action for rule in rule_set("shell", "email", action="record")} == {"record"}
    assert {name: {rule.action for rule in rule_set(name)} for name in SETS} == {
        name: {"stop" if name in ("shell", "sql") else "redact"} for name in SETS
    }


def test_a_set_that_is_not_there_is_refused() -> None:
    """With those that are like it, and never as a path."""
    error = refused("guard.unknown_set", lambda: rule_set("secret"))
    assert "did you mean secrets?" in error.message
    refused("guard.unknown_set", lambda: rule_set("../sets/secrets"))
    for given in (5, b"sql", None):
        assert refused("input.wrong_type", lambda given=given: rule_set(given)).field == "names"  # type: ignore[arg-type, misc]
    refused("guard.unknown_action", lambda: rule_set("secrets", action="stopp"))
    refused("guard.unknown_reading", lambda: rule_set("secrets", reads="fold"))
    for call in (rule_set, lambda: rule_set(action="stop", reads="folded")):
        assert "no set is named; the sets are cards, email" in refused("guard.unknown_set", call).message


def test_the_sets_read_as_they_are_told() -> None:
    """What looks like ASCII passes, as docs/guard-sets.md says, but for rules that read folded."""
    assert {rule.reads for rule in rule_set(*SETS)} == {"visible"}
    seen, folded = Guard(rule_set("cards", "ssn", "email")), Guard(rule_set("cards", "ssn", "email", reads="folded"))
    assert {rule.reads for rule in folded.rules} == {"folded"}
    for text in (
        "\uff14" + "\uff11" * 15,
        "\uff10\uff17\uff18-\uff10\uff15-\uff11\uff11\uff12\uff10",
        "ada\uff20example.com",
    ):
        assert f"`{text}`" in DOCUMENT
        assert seen.check(f"so: {text}.") == (f"so: {text}.", None, [])
        assert folded.check(f"so: {text}.")[0] == "so: [redacted]."
        assert "".join(folded.stream(list(f"so: {text}."))) == "so: [redacted]."
    address = "\u0438\u0432\u0430\u043d@\u043f\u043e\u0447\u0442\u0430.\u0440\u0444"
    assert f"`email` does not find `{address}`" in " ".join(DOCUMENT.split())
    assert (seen.check(address)[0], folded.check(address)[0]) == ("[redacted]", address)
    # All of what the sets have of examples is found so but for this one.
    for name in SETS:
        for written, rule in zip(
            read_written(set_file(name)), rule_set(name, action="stop", reads="folded"), strict=True
        ):
            guard = Guard([rule])
            missed = [text for text in map("".join, written.matches) if guard.check(text)[1] is None]
            assert missed == ([address] if name == "email" else [])
    assert {(rule.action, rule.reads) for rule in rule_set("sql", action="record", reads="exact")} == {
        ("record", "exact")
    }


def test_social_security_numbers_are_those_that_can_be() -> None:
    """Every area, beside what the rule says of them."""
    guard = Guard(rule_set("ssn", action="stop"))
    for area in range(1000):
        possible = area not in (0, 666) and area < 900
        assert (guard.check(f"{area:03}-01-0001")[1] is not None) == possible, area


def test_a_date_with_a_time_is_no_card_and_few_identifiers_are() -> None:
    """The shares that docs/guard-sets.md tells: of times none, of random numbers those that look like one."""
    guard = Guard(rule_set("cards", action="stop"))
    drawn = random.Random(1)

    def share(texts: list[str]) -> float:
        return round(100 * sum(guard.check(text)[1] is not None for text in texts) / len(texts), 1)

    begin = datetime(2000, 1, 1)
    times = [begin + timedelta(seconds=drawn.getrandbits(64) % (40 * 365 * 86_400)) for _ in range(20_000)]
    for behind in ("", "%f"):
        assert share([when.strftime("%Y%m%d%H%M%S" + behind)[:17] for when in times]) == 0
    for digits, expected in ((14, 0.4), (16, 3.4), (18, 0.5)):
        least = 10 ** (digits - 1)
        found = share([str(least + drawn.getrandbits(80) % (9 * least)) for _ in range(100_000)])
        assert abs(found - expected) <= 0.1, digits
    told = "of random numbers of 14, 16 and 18 digits 0.4%, 3.4% and 0.5%"
    assert told in " ".join(section("What they hold back").split())


def test_lists_of_numbers_between_0_and_1_have_no_card() -> None:
    """As text and as arguments of a tool; a `0.` that is the end of something else hides none."""
    assert "In lists of numbers between 0 and 1 it finds none" in " ".join(section("What they hold back").split())
    guard = Guard(rule_set("cards"))
    drawn = random.Random(1)
    for most in (10, 50, 200):
        for _ in range(100):
            text = json.dumps({"scores": [drawn.random() * drawn.choice((1, -1)) for _ in range(most)]})
            assert guard.check(text) == (text, None, [])
            cursor = guard.cursor(json=True)
            assert cursor.push(text) + cursor.finish() == text
            rows = json.dumps("\n".join(map(str, json.loads(text)["scores"])))
            assert guard.check(rows) == (rows, None, [])
    for before in ("1.", "10.", "a0.", "_0.", "1.0.", "..", "0..", "0. ", "0,", ".", "", "0.-", "0._"):
        assert guard.check(before + "4221165755827173")[0] == before + "[redacted]", before
    # Whatever separates the groups.
    for between in " -._":
        assert guard.check("0." + between.join(["4221", "1657", "5582", "7173"]))[0] == "0.[redacted]", between


KEY = "MIIBOgIBAAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf9Cnzj4p4WGeKLs1Pt8Qu"
"""One line of what a private key consists of."""

ENCRYPTED = ["Proc-Type: 4,ENCRYPTED", "DEK-Info: AES-256-CBC,00112233445566778899AABBCCDDEEFF", ""]


@pytest.mark.parametrize("headers", [[], ENCRYPTED, ["Version: GnuPG v2 (x)", 'Comment: "my key"', ""]])
@pytest.mark.parametrize("end", [True, False])
@pytest.mark.parametrize(
    ("before", "between"),
    [("", "\n"), ("", "\r\n"), ("> ", "\n"), ("    ", "\n"), ("# ", "\n"), ("", "\\n")],
)
def test_a_private_key_is_redacted_to_its_end(headers: list[str], end: bool, before: str, between: str) -> None:
    """With headers, quoted and written with escapes; also where it breaks off. What stands behind the end stays."""
    key = [f"{'-' * 5}BEGIN RSA PRIVATE KEY{'-' * 5}", *headers, KEY, KEY, "Zm9vYmE="]
    if end:
        key.append(f"{'-' * 5}END RSA PRIVATE KEY{'-' * 5}")
    written = between.join(before + line for line in key)
    guard = Guard(rule_set("secrets"))
    for text in (f"so: {written}\n(then)", f"so: {written}"):
        released = "".join(guard.stream(text))
        assert guard.check(text)[0] == released
        assert released.startswith(f"so: {before}[redacted]")
        assert KEY[:8] not in released
        # A last line that is short, quoted, and has no end behind it may be anything.
        assert end or before.strip() or "Zm9v" not in released
        assert not end or "Zm9v" not in released
        assert released.endswith("(then)") == text.endswith("(then)")


@pytest.mark.parametrize(
    ("before", "behind"),
    [
        ('"', '",'),
        ("'", "\\n'"),
        ('"', '\\n" +'),
        ("7 | ", ""),
        ("-", ""),
        ("+", ""),
        ("", "<br>"),
        ("k.pem:7: ", ""),
        ("│ ", ""),
    ],
)
def test_a_private_key_with_an_end_is_redacted_whatever_is_between_its_lines(before: str, behind: str) -> None:
    """Pieces of a program's text, numbers of lines, differences, marks."""
    for name, lines in (
        ("RSA PRIVATE KEY", ENCRYPTED),
        ("PGP PRIVATE KEY BLOCK", ["Version: 1", ""]),
        ("PRIVATE KEY", []),
    ):
        key = [f"{'-' * 5}BEGIN {name}{'-' * 5}", *lines, KEY, "Zm9vYmE=", f"{'-' * 5}END {name}{'-' * 5}"]
        text = "\n".join(before + line + behind for line in key)
        assert Guard(rule_set("secrets")).check(text)[0] == f"{before}[redacted]{behind}"


def test_the_head_of_a_private_key_alone_holds_what_follows_and_lets_it_out() -> None:
    """As docs/guard-sets.md says: until an end can no longer come; in a document in JSON, too."""
    assert "holds what follows" in " ".join(section("What they hold back").split())
    head = f"{'-' * 5}BEGIN PRIVATE KEY{'-' * 5}"
    guard = Guard(rule_set("secrets"))
    cursor = guard.cursor()
    assert cursor.push(f"`{head}` begins a key - or not. ") == "`"
    assert cursor.push("-----") == ""
    assert cursor.push(" so") == f"{head}` begins a key - or not. ----- so"
    written = f'{{"note": "{head}", "x": "some words, 12"}}'
    cursor = guard.cursor(json=True)
    released = cursor.push(written) + cursor.finish()
    assert (released, cursor.stopped) == (written, None)
    stopped = guard.check(head + "." * (64 << 10))[1]
    assert stopped is not None
    assert stopped.kind == "held_too_much"


@pytest.mark.parametrize("header", ["", ENCRYPTED[0] + "\n" + ENCRYPTED[1] + "\n\n"])
def test_a_private_key_without_an_end_is_one_line_of_it_at_least(header: str) -> None:
    """What only mentions the head comes out whole, as docs/guard-sets.md says; so does what has its headers alone."""
    assert "So a text that only mentions the head comes out late but whole" in DOCUMENT
    guard = Guard(rule_set("secrets"))
    head = f"{'-' * 5}BEGIN PRIVATE KEY{'-' * 5}\n{header}"
    for text in (
        head, f"It starts with {head} and so on.", f"/// {head}/// ```\n/// more text\n", f"{head}abc\n",
        f"{head}authentication failed", f'"{head}", see the manual', f"{head}{KEY[:11]}\n{KEY[:11]}",
    ):  # fmt: skip
        assert guard.check(text) == (text, None, [])
        assert "".join(guard.stream(list(text))) == text
    for before in ("", "// ", "> ", "\\n", "\\u000a", "+", "* "):
        for text in (f"{head}{before}{KEY[:12]}", f"{head}{before}{KEY}\n{before}{KEY}\nZm9v"):
            released = "".join(guard.stream(list(text)))
            assert released == guard.check(text)[0]
            assert released.startswith("[redacted]")
            assert KEY[:8] not in released
    slashed = KEY.replace("k", "\\/").replace("N", "\\u002B")
    assert guard.check(f'"{head}\\n{slashed}\\n{slashed}"')[0] == '"[redacted]"'


def test_an_address_ends_where_another_script_begins() -> None:
    """As docs/guard-sets.md says: a sentence without spaces is not taken with the address that it names."""
    guard = Guard(rule_set("email"))
    for text, released in (
        ("你的邮箱是ada@example.com吗", "你的邮箱是[redacted]吗"),
        ("ada@example.comです。", "[redacted]です。"),
        ("ada@example.com、bob@example.org", "[redacted]、[redacted]"),
        ("schreib jürgen.müller@öl-und-gas.example!", "schreib [redacted]!"),
        ("пиши на иван@почта.рф, ладно", "пиши на [redacted], ладно"),
        ("用户@例子.广告", "用户@例子.广告"),
    ):
        assert guard.check(text)[0] == released
        assert "".join(guard.stream(text)) == released
    assert "and `用户@例子.广告` stays" in DOCUMENT


def test_an_address_has_the_apostrophe_of_a_name_and_not_the_quote_of_a_string() -> None:
    """As docs/guard-sets.md says: what is left of code has its quotes in pairs."""
    guard = Guard(rule_set("email"))
    for text, released in (
        ("O'Brien@example.com", "[redacted]"),
        ("to sean.o'brien@example.com, first&last@example.com", "to [redacted], [redacted]"),
        ("['ada@example.com','bob@example.org']", "['[redacted]','[redacted]']"),
        ("f'ada@example.com' + Rb'ada@example.com'", "f'[redacted]' + Rb'[redacted]'"),
        ("VALUES (N'ada@example.com')", "VALUES (N'[redacted]')"),
        ("GRANT ALL TO 'ada'@'example.com'", "GRANT ALL TO 'ada'@'example.com'"),
        ("&lt;ada@example.com&gt;", "&lt;[redacted]&gt;"),
        *((f"a{each}ada@example.com{each}", f"a{each}[redacted]{each}") for each in "!#$*/=?^`{|}~"),
    ):
        assert guard.check(text)[0] == released
        assert "".join(guard.stream(list(text))) == released
    assert "Of ``!#$*/=?^`{|}~``, which may stand" in DOCUMENT


def test_prose_behind_the_name_of_a_command_is_let_go_after_two_words() -> None:
    """As docs/guard-sets.md says; where an argument has come the line is held."""
    assert "prose is let go after two words" in " ".join(DOCUMENT.split())
    prose = "the list of orders from the server and show them in a table, sorted by date; then it asks which to keep. "
    for name in ("fetch", "curl", "wget", "nc", "netcat"):
        cursor = Guard(rule_set("shell")).cursor()
        most = 0
        for each in f"The browser will {name} {prose}" * 3:
            cursor.push(each)
            most = max(most, cursor.held)
        assert 0 < most <= len(f"{name} the list of")
        cursor = Guard(rule_set("shell")).cursor()
        assert cursor.push(f"so: {name} the a.example {prose.replace(';', ',')}") == "so: "


def test_a_password_in_a_url_is_found_behind_any_scheme() -> None:
    """And the scheme stays; what is no password but its place stays, too."""
    assert "passwords in URLs of any scheme" in section("The sets")
    guard = Guard(rule_set("secrets"))
    for scheme in (
        "https",
        "mssql+pyodbc",
        "clickhouse",
        "smtp",
        "nats",
        "snowflake",
        "kafka",
        "socks5",
        "imaps",
        "x.y-z",
    ):
        for password in ("hunter2", "1234", "P@ss", "$ecret9"):
            assert guard.check(f"at {scheme}://app:{password}@db/x")[0] == f"at {scheme}://[redacted]db/x"
        for password in ("$PASSWORD", "${PASSWORD}", "{password}"):
            text = f"{scheme}://app:{password}@db/x"
            assert guard.check(text) == (text, None, [])


def test_bank_accounts_in_lower_case_are_no_words_of_a_sentence() -> None:
    """Every number that passes the check does so in lower case too, but not spread over the words of a text."""
    guard = Guard(rule_set("iban"))
    for number in ("GB82 WEST 1234 5698 7654 32", "DE89370400440532013000", "FR14 2004 1010 0505 0001 3M02 606"):
        for text in (number, number.lower(), number.lower().replace(" ", "-"), number.title()):
            assert guard.check(f"to {text}.")[0] == "to [redacted]."
    # With these spaces only capitals are a number.
    spread = "GB82 WES T12 3456 9876 5432"
    assert guard.check(spread)[0] == "[redacted]"
    assert guard.check(spread.lower())[0] == spread.lower()


def test_what_follows_a_hyphen_hides_no_social_security_number() -> None:
    assert "what follows a hyphen must not hide one" in " ".join(DOCUMENT.split())
    guard = Guard(rule_set("ssn"))
    for text, released in (
        ("part no. 078-05-1120-9", "part no. [redacted]-9"),
        ("078-05-1120-smith.pdf", "[redacted]-smith.pdf"),
        ("078-05-1120-219-09-9998", "[redacted]-[redacted]"),
        ("078-05-11209", "078-05-11209"),
    ):
        assert guard.check(text)[0] == released
        assert "".join(guard.stream(list(text))) == released


def test_a_statement_begins_a_value_or_stands_behind_a_semicolon() -> None:
    """Where its words alone are too few, and only as SQL is written; as docs/guard-sets.md says."""
    assert "`TRUNCATE users` and `DELETE users WHERE …` are found" in " ".join(DOCUMENT.split())
    guard = Guard(rule_set("sql"))
    for text in (
        "TRUNCATE users",
        " TRUNCATE a.b;",
        "x; TRUNCATE users",
        "DELETE users WHERE 1=1",
        "x; DELETE a WHERE b",
        "1;\nexec('y')",
    ):
        assert guard.check(text)[1] is not None, text
        cursor = guard.cursor(json=True)
        cursor.push(json.dumps({"a": text}))
        assert cursor.stopped is not None, text
    for text in ("we TRUNCATE users", "truncate users", "TRUNCATE users of old", "delete users where they are old"):
        assert guard.check(text) == (text, None, []), text


def test_the_lists_of_a_package_manager_are_removed_and_nothing_else_is() -> None:
    """Whatever stands behind the usual target and is one as well stops, as text and as an argument of a tool."""
    guard = Guard(rule_set("shell"))
    usual = "RUN apt-get update && apt-get install -y curl \\\n && rm -rf /var/lib/apt/lists/*"
    for behind in ("", " ", "\n", " \\\n && make\n", ";x", " && x", " || x", " | x", "\r\nRUN x", ")", "&& x"):
        assert guard.check(usual + behind)[1] is None, behind
        cursor = guard.cursor(json=True)
        cursor.push(json.dumps({"run": usual + behind}))
        cursor.finish()
        assert cursor.stopped is None, behind
    for behind in (
        " /etc", "/../../../../etc", "x", "'' /etc", '"" /etc', '"}" /etc', '","/../../etc', " \\\n/etc",
        "\\\n/etc", "{,/../../etc}", "(/../../etc)", "`x`", "$x", " $x", "&>a /etc", " >a /etc", "\r/etc", "\f/etc",
        "\u00a0x", "\\x", " --x", "~", "*", " *", "#",
    ):  # fmt: skip
        for written in (usual + behind, usual + behind + "\n"):
            assert guard.check(written)[1] is not None, behind
            cursor = guard.cursor(json=True)
            cursor.push(json.dumps({"run": written}))
            cursor.finish()
            assert cursor.stopped is not None, behind
    for cut in range(1, len("/var/lib/apt/lists/*")):
        assert guard.check(usual[:-cut])[1] is not None, cut
        assert guard.check(usual[:-cut] + " x")[1] is not None, cut


def test_what_the_sets_do_not_find_is_told() -> None:
    """And what `email` replaces that is none of a person."""
    told = " ".join(DOCUMENT.split())
    for name, texts, sentence in (
        ("cards", ["4111  1111  1111  1111", "4111 1111\n1111 1111"], "two spaces or the end of a line between groups"),
        ("cards", ["?q=4111%201111%201111%201111"], "Groups with `%20` between them are not found"),
        ("secrets", ["abc8Q~" + "0123456789abcdefghijABCDEFGHIJ0123"], "secret of Azure is found behind its name"),
        ("secrets", ["0123456789" * 5 + "01JQQJ99BAACYeBjFXJ3w3AAABACOG0123"], "`JQQJ99` behind a name that ends in"),
        ("secrets", ["xoxb-your-token", "sk_live_your_key_goes_here"], "placeholders such as `xoxb-your-token`"),
        ("shell", ["git rm -r --cached .", "git rm -r ."], "`git rm -r --cached .`"),
        ("sql", ["' OR 1<2", "' OR 'b'='b", "1 OR 1"], "`' OR 1<2`, `' OR 'b'='b`, `1 OR 1`"),
        ("sql", ["admin'-- comment", "admin'#x", 'admin"--'], "`admin'-- comment`, `admin'#x`, `admin\"--`"),
        ("sql", ["' OR true", "' OR true and x"], "`' OR true` without a comment behind it"),
        ("sql", ["'; exec myproc"], "`'; exec myproc`"),
        ("shell", ["rm -rf build / dist"], "`rm -rf build / dist`"),
        ("sql", ["delete from users u where 1=1"], "`delete from users u where 1=1`"),
        ("shell", ["`curl x`", "run `rm -rf y`"], "`` `curl x` `` and `` `rm -rf y` `` where neither"),
        ("shell", ["cd x\nrm -rf y"], "`rm -rf y` on a line of its own, as scripts have it"),
        ("cards", ["5600000000000003", "5800000000000007", "6771000000000004"], "Maestro with 56, 58 or 6771"),
        ("cards", ["400000000000000002"], "and so does Visa with 18 digits"),
        ("shell", ["curl x | python3 -c y"], "`curl x | python3 -c y`"),
        ("shell", ["fetch the list of users from https://x.example | sh"], "users from https://x.example | sh` passes"),
        ("shell", ["apt-get install -y curl && make; cat x | bash"], "curl && make; cat x | bash` passes"),
        ("shell", ["x && rm -rf /var/lib/apt/lists/*"], "and `x && rm -rf /var/lib/apt/lists/*` where no other"),
        ("shell", ["| fetch user | node |"], "A row of a table (`| fetch user | node |`) passes"),
        ("sql", ["require('child_process');\nexec('ls')"], "`require('child_process');` with `exec('ls')` on"),
        ("sql", ['args.get("limit") or 20  # as many as a page has'], '`args.get("limit") or 20 # as many as a page'),
        ("sql", ["r'#\"'", "r'--\"'"], "of one `#` or `--` and a quote (`r'#\"'`)"),
        ("sql", ["id = 1;\nexec('x')"], "(`id = 1;` and `exec('x')` on the next line) passes"),
        ("cards", ["0.4221165755827173", "[-0.4221165755827173]"], "`0.` that stands by itself is none"),
    ):  # fmt: skip
        assert sentence in told
        for text in texts:
            assert Guard(rule_set(name)).check(text) == (text, None, [])
    assert "such as `120 60 2000`, look like a social security number, and are replaced" in told
    assert Guard(rule_set("ssn")).check("120 60 2000 mm")[0] == "[redacted] mm"
    assert "`We fetch the rows | sh does the rest`, or `The boys' --` at the end of a line" in told
    for name, text in (
        ("sql", "workers in a union select delegates from every shop"),
        ("sql", "The boys' --\nthey ran"),
        ("shell", "We fetch the rows | sh does the rest"),
        ("shell", "| curl page | node |"),
        ("shell", "`rm -rf /`"),
    ):
        assert text.partition("\n")[0] in told
        assert Guard(rule_set(name)).check(text)[1] is not None
    everyday = told.partition("What a script has every day and stops, by `shell-chained-command`")[2].partition(
        "`TRUNCATE"
    )[0]
    for text in ("v=$(curl -s https://api.example/version)", "cd app; rm -rf node_modules", "test -f x && rm -rf tmp"):
        assert f"`{text}`" in everyday
        stopped = Guard(rule_set("shell")).check(text)[1]
        assert stopped is not None
        assert stopped.rule == "shell-chained-command"
    assert "`git@github.com:org/repo.git` becomes `[redacted]:org/repo.git`" in told
    # What may be a secret is replaced, though it need not be one.
    for name, text, released, sentence in (
        ("cards", "1.4221165755827173", "1.[redacted]", "behind another number it may have the form of one"),
        ("cards", "0.4111 1111 1111 1111", "0.[redacted]", "and so are groups (`0.4111 1111 1111 1111`)"),
        ("cards", "1.4111 1111 1111 1111", "1.[redacted]", "and is replaced"),
        ("email", "getty@tty1.service", "[redacted]", "a service (`getty@tty1.service`)"),
        ("email", "q@k.transpose(-2)", "[redacted](-2)", "a product of matrices (`q@k.transpose`)"),
        ("email", "this@MainActivity.applicationContext", "[redacted]", "(`this@MainActivity.applicationContext`,"),
        ("email", "super@Outer.close()", "[redacted]()", "`super@Outer.close()`)"),
        ("email", "vue@3.js", "[redacted]", "a version (`vue@3.js`"),
        ("email", "eslint@9.0.0-alpha.next", "[redacted]", "`eslint@9.0.0-alpha.next`)"),
        ("secrets", "http://localhost:8080?next=@me", "http://[redacted]me", "A port with a query that has an `@`"),
        ("secrets", "http://a:80,b@c", "http://[redacted]c", "an address behind it (`http://a:80,b@c`)"),
        ("secrets", "redis://u:12#4@host", "redis://[redacted]host", "from `://` up to the last `@`"),
    ):
        assert sentence in told
        assert Guard(rule_set(name)).check(text)[0] == released
    address = "git@github.com:org/repo.git"
    assert Guard(rule_set("email")).check(address)[0] == "[redacted]:org/repo.git"


# --- examples -----------------------------------------------------------------------------------------------------


def test_a_rule_that_does_not_keep_its_examples_is_named(tmp_path: Path) -> None:
    """Also one that is switched off; the command ends with 1."""
    file = tmp_path / "rules.toml"
    file.write_text(
        """
[[rules]]
name = "number"
regex = '\\d{3}'
action = "redact"
replacement = "#"
matches = ["123", ["1", "2"]]
passes = ["12", "1234"]
[[rules]]
name = "off"
literal = "x"
action = "ignore"
matches = ["axb"]
""",
        encoding="utf-8",
    )
    failed, often = failing(file)
    assert failed == [Failed("number", "12", True), Failed("number", "1234", False)]
    assert often == {"number": 4, "off": 1}
    assert [rule.action for rule in Guard.load(file).rules] == ["redact", "ignore"]
    done = command("rules.toml", "--test", cwd=tmp_path)
    assert (done.returncode, done.stdout.splitlines()) == (
        1,
        ["number: does not match '12'", "number: matches '1234'", "5 examples of 2 rules"],
    )
    told = json.loads(command("rules.toml", "--test", "--json", cwd=tmp_path).stdout)
    assert told["failed"][0] == {"rule": "number", "text": "12", "should_match": True}
    kept = command("--set", "sql", "--set", "shell", "--test", cwd=tmp_path)
    assert kept.returncode == 0
    assert kept.stdout.endswith("rules, all kept\n")


@pytest.mark.parametrize("written", ['"text"', "[1]", '[["a", 1]]'])
def test_examples_are_texts_or_lists_of_pieces(written: str, tmp_path: Path) -> None:
    """Anything else is a fault with its place."""
    file = tmp_path / "rules.toml"
    file.write_text(f'[[rules]]\nliteral = "x"\npasses = {written}\n', encoding="utf-8")
    assert "rule 1: passes must be" in refused("guard.unreadable", lambda: Guard.load(file)).message


# --- what is held back --------------------------------------------------------------------------------------------


def test_what_is_held_is_counted_in_code_points() -> None:
    """After each of them; after a stop the rest is a new stream."""
    rules = [Rule.literal("éab"), Rule.literal("xy", action="redact")]
    assert held(rules, "zé-éabxyéa") == Held(positions=10, p50=1, p99=2, most=2, holding=6, matches=2)
    noted = [Rule.literal("x", action="record"), Rule.literal("ab")]
    assert held(noted, "xxab-x").matches == 4
    assert held(rules, "") == Held(positions=0, p50=0, p99=0, most=0, holding=0, matches=0)
    assert held([Rule.literal("aaaa")], "aaa") == Held(positions=3, p50=2, p99=3, most=3, holding=3, matches=0)


def held_by_definition(rules: list[Rule], text: str, max_hold: int) -> Held:
    """Each position by itself: the code points of which a byte is among the last that are held."""
    automaton = Automaton(rules)
    cursor, matches, waiting = automaton.cursor(max_hold, False, True), 0, list[int]()
    for place, point in enumerate(text):
        cursor.push(point)
        if cursor.stopped is not None:
            matches += (cursor.stopped.kind == "matched") + len(cursor.matches())
            cursor = automaton.cursor(max_hold, False, True)
        octets, points = cursor.held, 0
        while octets > 0:
            octets -= len(text[place - points].encode())
            points += 1
        waiting.append(points)
    cursor.finish()
    ordered = sorted(waiting)
    return Held(
        positions=len(text),
        p50=ordered[-(-len(text) * 50 // 100) - 1] if text else 0,
        p99=ordered[-(-len(text) * 99 // 100) - 1] if text else 0,
        most=max(waiting, default=0),
        holding=sum(map(bool, waiting)),
        matches=matches + len(cursor.matches()) + (cursor.stopped is not None),
    )


@pytest.mark.parametrize("seed", list(seeds(40)))
def test_what_is_held_is_counted_whatever_pieces_it_is_read_in(seed: int) -> None:
    """As each position has it by itself, and nothing of the pieces is kept but how long what is held is."""
    rng = random.Random(seed)
    points = "abé€😀"
    rules = [
        Rule.literal("".join(rng.choices(points, k=rng.randint(2, 5))), action=rng.choice(("stop", "redact", "record")))
        for _ in range(3)
    ]
    text, max_hold = "".join(rng.choices(points, k=rng.randint(0, 300))), rng.choice((2, 6, 65_536))
    measure, rest = Measure(rules, max_hold=max_hold), text
    while rest:
        length = rng.randint(1, 40)
        measure.push(rest[:length])
        rest = rest[length:]
    assert measure.finish() == held(rules, text, max_hold=max_hold) == held_by_definition(rules, text, max_hold)


@pytest.mark.skipif(sys.platform != "linux", reason="peaks of memory as Linux tells them")
def test_what_is_measured_is_not_kept(tmp_path: Path) -> None:
    """Memory does not grow with the text, whatever stands in it."""
    (tmp_path / "rules.toml").write_text('[[rules]]\nliteral = "ab"\naction = "redact"', encoding="utf-8")
    # That of the process alone: what `getrusage` says begins with that of whoever started it.
    program = (
        "import re, sys; from pathlib import Path; from decidable.cli import main; main(); "
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', Path('/proc/self/status').read_text())[1], file=sys.stderr)"
    )
    told = []
    for name, text in (
        ("short", b"\0" * 10),
        ("long", b"\0" * 5_000_000 + "é€".encode() * 100_000 + b"\xff" * 100_000),
    ):
        (tmp_path / name).write_bytes(text)
        done = subprocess.run(
            [sys.executable, "-c", program, "guard", "rules.toml", name, "--held", "--json"],
            cwd=tmp_path, capture_output=True, check=True,
        )  # fmt: skip
        assert json.loads(done.stdout)["code_points"] == len(text.decode("utf-8", "replace"))
        told.append(int(done.stderr))
    assert told[1] - told[0] < 4_000


def test_the_command_names_the_file_of_a_pattern_that_cannot_be_used(tmp_path: Path) -> None:
    """Whatever it is to do with the rules."""
    (tmp_path / "r.toml").write_text("[[rules]]\nregex = '(?=a)'", encoding="utf-8")
    for option in ([], ["--costs"], ["--test"], ["--held"]):
        run = command("r.toml", *option, cwd=tmp_path)
        assert run.returncode == 2
        assert run.stderr == 'decidable guard: r.toml: rule "(?=a)": look-around at byte 0 is not supported\n'


def test_a_word_that_never_ends_stops_a_stream_under_email() -> None:
    """As docs/guard-sets.md says: 64 KiB of what an address may begin with is held, and no more."""
    assert "`email` holds all of them" in DOCUMENT
    guard = Guard(rule_set("email"))
    most = 64 << 10
    assert guard.check("a" * most) == ("a" * most, None, [])
    released, stopped, _ = guard.check("a" * (most + 1))
    assert released == ""
    assert stopped is not None
    assert stopped.kind == "held_too_much"


def test_options_stand_anywhere(tmp_path: Path) -> None:
    """Before what is named, between, and behind; what is not known is told as before."""
    (tmp_path / "r.toml").write_text("[[rules]]\nliteral = 'no'\naction = 'redact'", encoding="utf-8")
    for file in ("f.txt", "-f.txt"):
        (tmp_path / file).write_text("yes, no", encoding="utf-8")
    for option in ("--json", "--held"):
        shown = command(option, "r.toml", "f.txt", cwd=tmp_path)
        assert shown.returncode == 0
        assert command("r.toml", option, "f.txt", cwd=tmp_path).stdout == shown.stdout
        assert command("r.toml", "f.txt", option, cwd=tmp_path).stdout == shown.stdout
    for arguments in (["--", "r.toml", "-f.txt"], ["r.toml", "--", "-f.txt"]):
        assert command(*arguments, cwd=tmp_path).stdout == "yes, [redacted]"
    for given in (["r.toml", "--json", "f.txt", "more"], ["r.toml", "more", "--nothing", "f.txt"]):
        told = command(*given, cwd=tmp_path)
        assert told.returncode == 2
        assert "unknown arguments: " in told.stderr


def test_an_example_that_holds_too_much_has_not_matched(tmp_path: Path) -> None:
    """Nothing was found in it, and it would be passed over in the file's place."""
    file = tmp_path / "rules.toml"
    long = "a" + "b" * 70_000
    for examples, should_match in ((f"matches = ['{long}']", True), (f"passes = ['{long}']", False)):
        file.write_text(f"[[rules]]\nname = 'far'\nregex = 'a[^c]*c'\n{examples}", encoding="utf-8")
        failed, _ = failing(file)
        assert [(each.rule, each.should_match) for each in failed] == ([("far", True)] if should_match else [])


def test_rules_without_examples_are_told_of(tmp_path: Path) -> None:
    """Where none has any, nothing was tested, and the command says so."""
    (tmp_path / "some.toml").write_text(
        "[[rules]]\nname = 'a'\nliteral = 'a'\n[[rules]]\nliteral = 'b'\nmatches = ['b']", encoding="utf-8"
    )
    done = command("some.toml", "--test", cwd=tmp_path)
    assert (done.returncode, done.stdout.splitlines()) == (
        0,
        ["a: has no examples", "1 example of 1 rule, all kept"],
    )
    told = json.loads(command("some.toml", "--test", "--json", cwd=tmp_path).stdout)
    assert told == {"examples": 1, "without_examples": ["a"], "failed": []}
    for rules, code in (("[[rules]]\nliteral = 'a'", "cli.no_examples"), ("rules = []", "guard.unreadable")):
        (tmp_path / "none.toml").write_text(rules, encoding="utf-8")
        done = command("none.toml", "--test", "--json", cwd=tmp_path)
        assert done.returncode == 2
        assert json.loads(done.stdout)["error"]["code"] == code
    codes.note("cli.no_examples")


def test_a_file_of_rules_beside_a_set_is_not_what_is_read(tmp_path: Path) -> None:
    """It would come out in place of what was to be guarded. As standard input it may be."""
    (tmp_path / "quiet.TOML").write_text("[[rules]]\nliteral = 'no'", encoding="utf-8")
    for option in ([], ["--held"], ["--costs"], ["--test"]):
        done = command("quiet.TOML", "--set", "email", *option, cwd=tmp_path, given="ada@example.com")
        assert (done.returncode, done.stdout) == (2, "")
        assert "rules come from a file or from --set, not both" in done.stderr
    assert command("-", "--set", "email", cwd=tmp_path, given="ada@example.com").stdout == "[redacted]"


@pytest.mark.parametrize("option", ["--costs", "--test"])
def test_what_is_not_read_is_not_named(option: str, tmp_path: Path) -> None:
    """Beside a file of rules and beside a set."""
    (tmp_path / "r.toml").write_text("[[rules]]\nliteral = 'no'\npasses = ['yes']", encoding="utf-8")
    (tmp_path / "f.txt").write_text("yes", encoding="utf-8")
    for given in (["r.toml", option, "f.txt"], ["r.toml", "f.txt", option], ["--set", "sql", option, "f.txt"]):
        run = command(*given, cwd=tmp_path)
        assert run.returncode == 2
        assert f"{option} reads no FILE" in run.stderr
    assert command("r.toml", option, cwd=tmp_path).returncode == 0


def test_the_command_reports_what_is_held(tmp_path: Path) -> None:
    """Of a file of rules, of sets, of every set; of a file or of Python's help."""
    (tmp_path / "rules.toml").write_text('[[rules]]\nliteral = "ab"\n', encoding="utf-8")
    (tmp_path / "text").write_bytes(b"xa-ab\xff")
    told = json.loads(command("rules.toml", "text", "--held", "--json", cwd=tmp_path).stdout)
    assert told == {
        "code_points": 6,
        "sets": {"rules.toml": {"positions": 6, "p50": 0, "p99": 1, "most": 1, "holding": 2, "matches": 1}},
    }
    assert "33.3%" in command("rules.toml", "-", "--held", cwd=tmp_path, given="xa-ab.").stdout
    told = json.loads(command("--held", "text", "--set", "cards", "--json", cwd=tmp_path).stdout)
    assert told["sets"].keys() == {"cards"}
    told = json.loads(command("--held", "--json", cwd=tmp_path).stdout)
    assert told["sets"].keys() == set(SETS)
    assert all(each["positions"] == told["code_points"] > 100_000 for each in told["sets"].values())
    assert told["everyday"]["sets"].keys() == set(SETS)
    assert all(each["positions"] == told["everyday"]["code_points"] for each in told["everyday"]["sets"].values())
    shown = command("--held", "--set", "ssn", cwd=tmp_path).stdout
    assert shown.splitlines()[2].split()[-2:] == ["matches", "everyday"]
    assert "everyday" not in command("--held", "text", "--set", "ssn", cwd=tmp_path).stdout


def section(title: str) -> str:
    return DOCUMENT.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_the_document_tells_of_every_set_what_there_is() -> None:
    """How many rules, what they do, and what all of them cost together."""
    listed = re.findall(r"^\| `(\w+)` \| (\d+) \| .* \| (\w+) \|$", section("The sets"), re.MULTILINE)
    assert listed == [(name, str(len(rule_set(name))), rule_set(name)[0].action) for name in SETS]
    rules = rule_set(*SETS)
    states, octets = Guard(rules).size
    told = f"The {len(rules)} rules of all sets together take {states:,} states and {octets / 1e6:.1f} MB."
    assert told in section("Rules are held to examples")


def test_the_document_shows_what_every_set_holds_back() -> None:
    """The figures are those of one version of Python, whose help is the text; elsewhere the sets are compared."""
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", section("What they hold back"), re.MULTILINE)
    assert [name for name, _ in rows] == list(SETS)
    everyday = EVERYDAY.read_text(encoding="utf-8")
    for name, shown in rows:
        assert shown.split(" | ")[-1] == str(held(rule_set(name), everyday).matches)
    if sys.version_info[:3] == (3, 11, 7):
        from pydoc_data.topics import topics

        text = "\n".join(topics[name] for name in sorted(topics))
        for name, shown in rows:
            found = held(rule_set(name), text)
            tenths = found.holding * 1000 // found.positions
            share = f"{tenths // 10}.{tenths % 10}%"
            told = f"{found.p50} | {found.p99} | {found.most} | {share} | {found.matches}"
            assert shown.rpartition(" | ")[0] == told


def test_the_command_takes_sets_in_place_of_a_file(tmp_path: Path) -> None:
    """Beside them only what is read is named."""
    (tmp_path / "text").write_text("ada@example.com, 4111111111111111", encoding="utf-8")
    assert command("--set", "email", "--set", "cards", "text", cwd=tmp_path).stdout == "[redacted], [redacted]"
    assert command("--set", "email", cwd=tmp_path, given="ada@example.com").stdout == "[redacted]"
    costs = json.loads(command("--set", "cards", "--costs", "--json", cwd=tmp_path).stdout)
    assert [each["rule"] for each in costs["rules"]] == ["payment-card", "payment-card-in-groups"]
    for arguments, code in (
        (("--set", "email", "text", "text"), "cli.usage"),
        ((), "cli.usage"),
        (("--set", "nothing"), "guard.unknown_set"),
    ):
        done = command(*arguments, "--json", cwd=tmp_path)
        found = json.loads(done.stderr)["code"] if done.stderr.startswith("{") else done.stdout + done.stderr
        assert done.returncode == 2
        assert code in found, done
        codes.note(code)


def test_a_set_that_is_named_twice_counts_once(tmp_path: Path) -> None:
    """As beside the option, where each has one of its own, which is told where several stand in one."""
    assert rule_set("ssn", "iban", "ssn") == rule_set("ssn", "iban")
    assert Guard(rule_set("ssn", "ssn")).check("ssn 078-05-1120")[1:] != (None, [])
    refused("input.wrong_type", lambda: rule_set("ssn", ["ssn"]))  # type: ignore[arg-type]
    told = command("--set", "ssn,cards", cwd=tmp_path)
    assert (told.returncode, told.stderr.rstrip().endswith("; --set NAME is repeated, once for each set")) == (2, True)
    assert "repeated" not in command("--set", "card", cwd=tmp_path).stderr
    given = "so 078-05-1120"
    twice = command("--set", "ssn", "--set", "ssn", cwd=tmp_path, given=given)
    once = command("--set", "ssn", cwd=tmp_path, given=given)
    assert (twice.returncode, twice.stdout) == (once.returncode, once.stdout)


# --- rules of others ----------------------------------------------------------------------------------------------

GITLEAKS = r"""
title = "sample"
[allowlist]
regexes = ['x']
[[rules]]
id = "plain"
regex = '''\bkey_([a-z0-9]{8})(?:[\x60'"\s;]|\\[nr]|$)'''
[[rules]]
id = "more"
description = "d"
regex = '''(?i)[\w.-]{0,50}?(?:acme)(?:[ \t]{0,20})=([a-z]{4})'''
entropy = 3.5
keywords = ["acme"]
secretGroup = 1
path = '''\.ya?ml$'''
tags = ["t"]
[[rules.allowlists]]
regexes = ['''EXAMPLE''']
[[rules]]
id = "path-only"
path = '''\.p12$'''
[[rules]]
id = "composite"
regex = '''abc'''
[[rules.required]]
id = "plain"
[[rules]]
id = "large"
regex = '''(?i)begin[a-z]{0,400}mid[a-z]{0,400}end'''
[[rules]]
id = "looks"
regex = '''a(?=b)'''
[[rules]]
id = "plain"
regex = '''other'''
"""


def test_what_others_wrote_is_told_as_it_is(tmp_path: Path) -> None:
    """A pattern that is no text is none that is not there, a file without any is refused, and a mark is no text."""
    file = tmp_path / "others"
    file.write_text("\ufeff[[rules]]\nid = 'five'\nregex = 5\n", encoding="utf-8")
    assert from_gitleaks(file).refused[0].why == "its regex is no text, but int"
    file.write_text("rules = []", encoding="utf-8")
    assert "has no [[rules]]" in str(refused("guard.unreadable", lambda: from_gitleaks(file)))
    file.write_text('{"patterns": []}', encoding="utf-8")
    assert "has no patterns" in str(refused("guard.unreadable", lambda: from_litellm_patterns(file)))


def test_a_file_of_rules_may_begin_with_a_mark(tmp_path: Path) -> None:
    """And a name that looks like `rules` is told of."""
    file = tmp_path / "rules.toml"
    file.write_text("\ufeff[[rules]]\nliteral = 'no'", encoding="utf-8")
    assert repr(Guard.load(file)) == "<Guard of 1 rule>"
    file.write_text("[[rule]]\nliteral = 'no'", encoding="utf-8")
    said = str(refused("guard.unreadable", lambda: Guard.load(file)))
    assert said.endswith("and nothing else; rule is something else; did you mean rules?")


def test_patterns_of_a_file_have_pieces_by_name(tmp_path: Path) -> None:
    """As a group, with the flags of where it stands; behind a backslash stands none."""
    file = tmp_path / "rules.toml"
    rules = r"""
    [define]
    digit = '[0-9]|one'
    digits = '(?&digit){2}'
    [[rules]]
    regex = '(?i:no (?&digits))(?&digit)'
    [[rules]]
    regex = '\(\?&digit\)|\\(?&digit)'
    """
    file.write_text(rules, encoding="utf-8")
    first, second = Guard.load(file).rules
    assert first.pattern == "(?i:no (?:(?:[0-9]|one){2}))(?:[0-9]|one)"
    assert second.pattern == r"\(\?&digit\)|\\(?:[0-9]|one)"
    assert Guard.load(file).check("NO 1ONE1")[1] is not None
    assert Guard.load(file).check("NO 1ONEONE")[1] is None


def test_what_is_not_defined_is_refused(tmp_path: Path) -> None:
    """With the name, the rule, and how much it may be."""
    file = tmp_path / "rules.toml"
    long = "x" * 9_000
    most = "a pattern takes at most 16384 bytes, with what is defined in its place"
    for define, regex, why in (
        ("digit = '[0-9]'", "(?&digits)", "rule 1: (?&digits) is not defined; did you mean digit?"),
        ("", "(?&)", "rule 1: (?&) is not defined"),
        ("a = '(?&a)'", "a", ", a: (?&a) is not defined"),
        ("a = '(?&b)'\nb = 'x'", "a", ", a: (?&b) is not defined"),
        ("a = 5", "a", ", a: what is defined must be a table of patterns"),
        ("'\u00e9' = 'x'", "a", ", \\xe9: a name in [define] consists of letters, digits and _"),
        ("'a b' = 'x'", "a", ", a b: a name in [define] consists of letters, digits and _"),
        ('"a\\n" = "x"', "a", ", a\\n: a name in [define] consists of letters, digits and _"),
        (f"a = '{long}'", "(?&a)(?&a)", f"rule 1: {most}"),
        (f"a = '{long}{long}'", "a", f", a: {most}"),
        ("a = 'x'", "[b(?&a)]", "rule 1: (?&a) stands in a class, where it is a list of characters"),
        ("a = 'x'", "[[:alpha:]^(?&a)]", "rule 1: (?&a) stands in a class, where it is a list of characters"),
        ("a = 'x'", "[](?&a)]", "rule 1: (?&a) stands in a class, where it is a list of characters"),
        ("a = ')x('", "a", ", a: a definition must have its brackets in pairs"),
        ("a = '(x'", "a", ", a: a definition must have its brackets in pairs"),
        ("a = '[x'", "a", ", a: a definition must have its brackets in pairs"),
        ("a = '(?P<b[>x))|((?<c]>y)'", "a", ", a: a definition must have its brackets in pairs"),
        ("a = '[(?<b](?x:y)>)'", "a", ", or hide one of others"),
        ("a = '[(?P<b])x(>]'", "a", ", a: a definition must have its brackets in pairs"),
        ("a = '(?P<b[>x)(?x:y)'", "a", ", or hide one of others"),
    ):
        file.write_text(f"[define]\n{define}\n[[rules]]\nregex = '{regex}'\n", encoding="utf-8")
        said = str(refused("guard.unreadable", lambda: Guard.load(file)))
        assert said.endswith(why)
        assert said.count(str(file)) == 1
    for regex, why in (("(?&\u00e9)", "unrecognized flag"), ("a" * 16_385, most)):
        file.write_text(f"[define]\na = 'x'\n[[rules]]\nregex = '{regex}'\n", encoding="utf-8")
        with pytest.raises(dc.InvalidInput, match=why):
            Guard.load(file)
    rules = "[define]\na = '[(\\]]'\nb = '\\(|[^]a]'\n[[rules]]\nregex = '[a-z[)]](?&a)(?&b)[]]'\n"
    file.write_text(rules, encoding="utf-8")
    assert [rule.pattern for rule in Guard.load(file).rules] == ["[a-z[)]](?:[(\\]])(?:\\(|[^]a])[]]"]
    file.write_text("define = 'x'\n[[rules]]\nregex = 'a'\n", encoding="utf-8")
    assert "what is defined must be a table" in str(refused("guard.unreadable", lambda: Guard.load(file)))


def test_a_definition_and_comments_do_not_meet(tmp_path: Path) -> None:
    """A comment may hide a bracket, or a definition: the flag that allows them is refused, in whatever spelling."""
    file = tmp_path / "rules.toml"
    no_definition = "what has a flag x has no definitions, because a comment may hide them, or a bracket of theirs"
    no_flag = "a definition has no flag x, because a comment may have a bracket of its own, or hide one of others"
    for flag in ("(?x)", "(?ix)", "(?xi-s)", "(?x:", "(?sx-i:", "(?:(?x)"):
        for comment in (" # the [first part\n", " # three (of them\n", " # )|.*(\n", " "):
            ends = ")" * (flag.count("(") - flag.count(")"))
            rule = f"[[rules]]\nname = 'r'\nregex = '''{flag}a{comment}(?&d)\n{ends}'''\n"
            file.write_text(f"[define]\nd = '\\d{{3}}'\n{rule}", encoding="utf-8")
            said = str(refused("guard.unreadable", lambda: Guard.load(file)))
            assert said.endswith(f'rule 1 "r": {no_definition}')
            for define in (f"'''{flag}\\d{{3}}{comment}{ends}'''", f"'''{flag}\\d{{3}}{comment.rstrip()}'''"):
                file.write_text(f"[define]\nd = {define}\n[[rules]]\nregex = 'a'\n", encoding="utf-8")
                assert str(refused("guard.unreadable", lambda: Guard.load(file))).endswith(f", d: {no_flag}")
    # What is no such flag, and what has no definition.
    for regex in (
        "(?-x:a)(?&d)",
        "(?i-x)a(?&d)",
        "[(?x)]a(?&d)",
        "\\(?x\\)a(?&d)",
        "(?P<x>a)(?&d)",
        "(?P<a[>a)(?&d)",
        "(?i)a(?&d)",
    ):
        file.write_text(f"[define]\nd = '\\d|(?-x:z)|[(?x)]'\n[[rules]]\nregex = '{regex}'\n", encoding="utf-8")
        assert repr(Guard.load(file)) == "<Guard of 1 rule>"
    file.write_text("[[rules]]\nregex = '''(?x) a # the [first\n b # two (of them\n'''\n", encoding="utf-8")
    assert Guard.load(file).check("-ab-")[1] is not None


def test_a_definition_is_compiled_by_itself(tmp_path: Path) -> None:
    """Whether a rule has it or not; what may match the empty text, or is an end, is no fault of it."""
    file = tmp_path / "rules.toml"
    for define, why in (
        ("*", "repetition operator missing expression, at byte 0"),
        ("ab[z-a]", "invalid character class range, the start must be <= the end, at byte 3"),
        ("(?<=a)b", "look-around at byte 0 is not supported"),
        ("ab(?!c)", "look-around at byte 2 is not supported"),
        ("(a)\\1", "a back-reference at byte 3 is not supported"),
    ):
        for regex in ("a", "(?&d)"):
            file.write_text(f"[define]\nd = '{define}'\n[[rules]]\nregex = '{regex}'\n", encoding="utf-8")
            assert str(refused("guard.unreadable", lambda: Guard.load(file))).endswith(f", d: {why}")
    for define in ("", r"\s*", r"^|\b", "$a", "\u200b", "a{0,3}", "[^a]*a[^b]{90}"):
        file.write_text(f"[define]\nd = '{define}'\n[[rules]]\nregex = 'a'\n", encoding="utf-8")
        assert repr(Guard.load(file)) == "<Guard of 1 rule>"
    guide = (Path(__file__).parent.parent / "docs" / "guard.md").read_text(encoding="utf-8")
    assert "Look-around cannot stand in a definition" in guide


def test_a_definition_has_no_named_group(tmp_path: Path) -> None:
    """A rule that has it twice would have the name twice, and be told so at a place that no file has."""
    file = tmp_path / "rules.toml"
    why = (
        "names a group, of which a pattern that has the definition twice would have two; "
        "leave the name of the group out"
    )
    for define, group in (
        ("(?P<n>a)", "(?P<n>"),
        ("(?<n>a)", "(?<n>"),
        ("b|(?:c(?P<a_1>a))", "(?P<a_1>"),
        (r"\\(?P<n>a)", "(?P<n>"),
    ):
        for regex in ("x", "(?&d)", "(?&d)(?&d)"):
            file.write_text(f"[define]\nd = '{define}'\n[[rules]]\nregex = '{regex}'\n", encoding="utf-8")
            assert str(refused("guard.unreadable", lambda: Guard.load(file))) == f"{file}, d: {group} {why}"
    # What is no such group, and one of a rule.
    for define in ("(a)", "(?:a)", "(?i:a)", r"\(?P<n>a", "[(?P<n>a]", "[[(?<n>]a]"):
        file.write_text(f"[define]\nd = '{define}'\n[[rules]]\nregex = '(?P<n>x)(?&d)(?&d)'\n", encoding="utf-8")
        assert repr(Guard.load(file)) == "<Guard of 1 rule>"


def test_definitions_take_little_memory(tmp_path: Path) -> None:
    """Those that double at each level are refused, and a pattern that is too long before they are put in, as it is."""
    file = tmp_path / "rules.toml"
    most = "a pattern takes at most 16384 bytes, with what is defined in its place"
    doubled = "".join(f"d{level} = '(?&d{level - 1})(?&d{level - 1})'\n" for level in range(1, 64))
    often = "(?&a)" * 40_000
    for text, where in (
        (f"[define]\nd0 = 'xx'\n{doubled}[[rules]]\nregex = 'a'\n", ", d11"),
        (f"[define]\na = '{'x' * 8_000}'\nb = '{often}'\n[[rules]]\nregex = 'a'\n", ", b"),
        (f"[define]\na = '{'x' * 8_000}'\n[[rules]]\nregex = '{often}'\n", ", rule 1"),
    ):
        file.write_text(text, encoding="utf-8")
        tracemalloc.start()
        try:
            said = str(refused("guard.unreadable", lambda: Guard.load(file)))
            assert tracemalloc.get_traced_memory()[1] < 32 << 20
        finally:
            tracemalloc.stop()
        assert said.endswith(f"{where}: {most}")


def test_definitions_take_little_of_a_file(tmp_path: Path) -> None:
    """A name of a few bytes may stand for a pattern of the longest: what all of them stand for is as long as a file."""
    file = tmp_path / "rules.toml"
    doubled = "".join(f"d{level} = '(?&d{level - 1})(?&d{level - 1})'\n" for level in range(1, 7))
    head = f"[define]\nd0 = '{'ab' * 64}'\n{doubled}"
    defined = "".join(f"x{number} = '(?&d6)'\n" for number in range(20_000))
    rules = "".join(f"[[rules]]\nname = '{number}'\nregex = '(?&d6)'\n" for number in range(20_000))
    most = f"the patterns of a file take at most {MOST_FILE_BYTES} bytes, with what is defined in its place"
    for text, where in ((f"{head}{defined}[[rules]]\nregex = 'a'\n", "x1926"), (head + rules, 'rule 1927 "1926"')):
        file.write_text(text, encoding="utf-8")
        begun = time.process_time()
        said = str(refused("guard.unreadable", lambda: Guard.load(file)))
        assert said.endswith(f"{where}: {most}")
        assert time.process_time() - begun < 15
    # Fewer of them are compiled as they are written: the longest takes as long as a short one.
    file.write_text(f"{head}{''.join(defined.splitlines(True)[:1_900])}[[rules]]\nregex = 'a'\n", encoding="utf-8")
    begun = time.process_time()
    assert repr(Guard.load(file)) == "<Guard of 1 rule>"
    assert time.process_time() - begun < 15


def test_a_key_of_many_parts_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """`tomllib` takes time with the square of them. In strings, comments and lists dots are as many as one likes."""
    file = tmp_path / "rules.toml"
    dots = "." * 200
    for read in (Guard.load, from_gitleaks):
        for key in (
            "a" + ".a" * 40_000,
            "a" + " . 'a'" * 32,
            'a."b.c"' + ".a" * 31,
            f"[a{'.a' * 32}]\nx",
            f"[[a{'.a' * 32}]]\nx",
            f"x = {{a{'.a' * 32}",
        ):
            file.write_text(f'y = """{dots}\n\\"""""\nz = \'\'\'{dots}\n\'\'\'\'\n{key} = 1\n', encoding="utf-8")
            said = str(refused("guard.unreadable", lambda read=read: read(file)))  # type: ignore[misc]
            line = 5 + key.count("\n", 0, key.index(".a.a") if ".a.a" in key else None)
            assert said == f"{file}, line {line}: a key has at most 32 parts"
        # Whoever reads these comes no further than a string without an end.
        for text in (f"a = 'x\n{dots}", f'a = "x\n{dots}', f'a = """x\n{dots}'):
            file.write_text(text, encoding="utf-8")
            assert f"{file} is no TOML" in str(refused("guard.unreadable", lambda read=read: read(file)))  # type: ignore[misc]
    file.write_text(
        f'# {dots}\n[[rules]]\nregex = \'x{dots}\' # {dots}\nname = "\\"{dots}"\n'
        f"matches = [\"\"\"\n{dots}x{dots}{dots}\"\"\"\"\", '''x'{dots}\n''{dots}'''''\n, {', '.join(['[]'] * 40)}]\n"
        f"passes = []\n[define]\na = 'a'\n",
        encoding="utf-8",
    )
    assert len(Guard.load(file).rules) == 1
    numbers = ", ".join(["1.5"] * 200)
    file.write_text(f"[[rules]]\nid = 'a'\nregex = 'abc'\nentropy = [{numbers}]\n", encoding="utf-8")
    assert len(from_gitleaks(file).rules) == 1


def test_rules_of_gitleaks_are_taken_or_refused_with_the_reason(tmp_path: Path) -> None:
    """What of a rule that is taken is left out, is said as well."""
    file = tmp_path / "gitleaks.toml"
    file.write_text(GITLEAKS, encoding="utf-8")
    imported = from_gitleaks(file, action="redact")
    assert [(rule.name, rule.action) for rule in imported.rules] == [("plain", "redact"), ("more", "redact")]
    why = {each.rule: each.why for each in imported.refused}
    assert why["path-only"] == "it has no pattern, and looks at paths alone"
    assert why["composite"].startswith("what it means by required is not taken")
    assert why["large"].startswith("its table takes more than")
    assert why["looks"] == "look-around at byte 1 is not supported"
    assert why["plain"] == "there is another of this name"
    assert {(each.rule, each.part) for each in imported.left_out} == {
        *(("more", part) for part in ("allowlists", "an optional beginning", "entropy", "keywords", "path")),
        ("more", "secretGroup"), ("more", "the file's allowlist"), ("plain", "the file's allowlist"),
    }  # fmt: skip
    guard = Guard(imported.rules)
    assert guard.check("a key_01234567; b.acme =abcd")[0] == "a [redacted] b.[redacted]"
    assert hash(imported)
    with pytest.raises(AttributeError):
        imported.rules = ()  # type: ignore[misc]


@pytest.mark.parametrize("text", ["[[rules", "x = 1", "rules = [1]"])
def test_a_file_that_is_none_of_gitleaks_is_refused(text: str, tmp_path: Path) -> None:
    """With its name."""
    file = tmp_path / "gitleaks.toml"
    file.write_text(text, encoding="utf-8")
    assert "gitleaks.toml" in refused("guard.unreadable", lambda: from_gitleaks(file)).message
    refused("guard.unreadable", lambda: from_gitleaks(tmp_path / "nothing.toml"))
    file.write_bytes(b"\xff")
    refused("guard.unreadable", lambda: from_gitleaks(file))
    file.write_text(GITLEAKS, encoding="utf-8")
    refused("guard.unknown_action", lambda: from_gitleaks(file, action="stopp"))
    refused("input.wrong_type", lambda: from_gitleaks(file, action=None))
    # One of ours, of which nothing would be taken.
    file.write_text('[[rules]]\nname = "a"\nregex = "a"\n', encoding="utf-8")
    assert "no rule of gitleaks" in str(refused("guard.unreadable", lambda: from_gitleaks(file)))


def test_patterns_of_litellm_are_taken_or_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In either case, as there; of a file, or of the package that is installed."""
    file = tmp_path / imports._LITELLM_FILE
    file.parent.mkdir(parents=True)
    patterns = [
        {"name": "key", "pattern": r"\bAKIA[0-9A-Z]{4}\b"},
        {"name": "ssn", "pattern": r"\b(?!000)\d{3}-\d{2}\b"},
        {"name": "near", "pattern": r"\b\d{5}\b", "keyword_pattern": "zip"},
        {"name": "line", "pattern": r"\d+$"},
    ]
    file.write_text(json.dumps({"patterns": patterns}), encoding="utf-8")
    imported = from_litellm_patterns(file)
    assert [rule.name for rule in imported.rules] == ["key"]
    assert Guard(imported.rules).check("an akia0a1b here")[0] == "an "
    why = {each.rule: each.why for each in imported.refused}
    assert why.keys() == {"ssn", "near", "line"}
    assert why["ssn"] == "look-around at byte 2 is not supported"
    package = types.SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(imports, "find_spec", lambda _: package)
    assert from_litellm_patterns() == imported
    monkeypatch.setattr(imports, "find_spec", lambda _: None)
    assert "not installed" in refused("guard.unreadable", from_litellm_patterns).message
    for text in ("{", "[]", '{"patterns": [{"name": 1}]}'):
        file.write_text(text, encoding="utf-8")
        refused("guard.unreadable", lambda: from_litellm_patterns(file))


def test_a_pattern_or_a_name_that_is_no_unicode_is_refused_by_itself(tmp_path: Path) -> None:
    """JSON can write it; the others of the file are taken."""
    file = tmp_path / "patterns.json"
    patterns = [
        {"name": "half", "pattern": "a\ud800"},
        {"name": "named \udfff", "pattern": "b\udfff"},
        {"name": "key", "pattern": "key-[0-9]{4}"},
    ]
    file.write_text(json.dumps({"patterns": patterns}), encoding="utf-8")
    imported = from_litellm_patterns(file)
    assert [rule.name for rule in imported.rules] == ["key"]
    assert [each.rule for each in imported.refused] == ["half", r"named \udfff"]
    assert all("valid Unicode" in each.why for each in imported.refused)
    refused("guard.unknown_action", lambda: from_litellm_patterns(file, action="stopp"))
    refused("input.wrong_type", lambda: from_litellm_patterns(file, action=None))


def test_what_is_no_path_or_no_file_is_told_as_that(tmp_path: Path) -> None:
    """By whichever reads a file of rules: nothing was read, so it is not said to be no JSON."""
    for read in (Guard.load, from_gitleaks, from_litellm_patterns):
        for given in (3, b"rules", *([None] if read is not from_litellm_patterns else [])):
            fault = refused("input.wrong_type", lambda read=read, given=given: read(given))  # type: ignore[misc]
            assert str(fault) == f"path must be a path, and is {type(given).__name__}"
    there = tmp_path / "nope"
    said = str(refused("guard.unreadable", lambda: from_litellm_patterns(there)))
    assert said == f"{there} cannot be read: No such file or directory"


# A pattern of Go, what it matches, and what it does not: each means something else with us as it is written.
GO = [
    (r"a{,2}", ["a{,2}"], ["aa"]),
    (r"${{x}}"[1:], ["{{x}}"], ["x"]),
    (r"a\Q.*\E+", ["a.*", "a.**"], ["abc"]),
    (r"a\<b\>", ["a<b>"], ["ab"]),
    (r"a\x60\101\0", ["a`A\0"], ["a`"]),
    (r"[[&&a]x", ["[x", "&x", "ax"], ["x"]),
    (r"[a~~b]x", ["~x"], ["cx"]),
    (r"[\w-.]x", ["-x", ".x", "ax"], [",x"]),
    (r"[]a]x[^]a]", ["]xb", "ax-"], ["]x]"]),
    (r"[[:alpha:]-]x", ["-x", "qx"], ["1x"]),
    (r"a\sb", ["a b", "a\fb"], ["a\vb"]),
    (r"a[\s]b|c[^\S]d", ["a\nb", "c d"], ["a\vb"]),
    (r"a\Sb", ["a\vb", "a.b"], ["a b"]),
    (r"a\b{x", ["a{x"], ["ax"]),
    (r"(?i:K)x{2}", ["kxx"], ["kx"]),
]


@pytest.mark.parametrize(("pattern", "matches", "passes"), GO)
def test_patterns_of_go_mean_what_they_meant(pattern: str, matches: list[str], passes: list[str]) -> None:
    """Where the syntax differs, the pattern is written again."""
    written = imports._written_again(pattern, imports._GO)
    guard = Guard([Rule.regex(written, reads="exact")])
    for text in matches:
        assert guard.check(text)[1] is not None, (written, text)
    for text in passes:
        assert guard.check(text)[1] is None, (written, text)


PYTHON = [
    r"a{,2}b", r"x{y}", r"[[]x", r"[&&a]x", r"a\sb", r"[\b]x", r"\101", r"a\<b", r"[a~~]x",
    r"(?:ab){2}", r"[^]]x", r"\x41[\x42-D]", r"(?i:ab)c", r"[!-~]x", r"a|b{0,1}c", r"\.[^\s]*z",
]  # fmt: skip


@pytest.mark.parametrize("pattern", PYTHON)
@pytest.mark.filterwarnings("ignore:Possible (nested set|set difference|set union|set intersection|set symmetric)")
def test_patterns_of_python_mean_what_they_meant(pattern: str) -> None:
    """Beside `re` itself, on every short text of the characters that matter."""
    theirs = re.compile(pattern)
    guard = Guard([Rule.regex(imports._written_again(pattern, imports._PYTHON), reads="exact")])
    alphabet = "abcdxyz AB-.&~[]{},2<>^\\\x0b\x08\t\x1c"
    texts = [
        first + second + third
        for first in alphabet
        for second in alphabet
        for third in ("", "b", "x", "y}", "abab", "z")
    ]
    found = 0
    for text in [*texts, "x{y}", "abab", "aab", "aBc"]:
        expected = theirs.search(text) is not None
        found += expected
        assert (guard.check(text)[1] is not None) == expected, (pattern, text)
    assert found


@pytest.mark.parametrize(
    "pattern", [r"a++", r"a{2}+", r"(?>a)b", r"(?P<x>a)(?P=x)", r"(?x) a", r"a$", r"a(?<!b)", r"[+--]a", r"\Ga"]
)
def test_what_cannot_be_written_again_is_refused(pattern: str) -> None:
    """With the construct that it is for."""
    with pytest.raises(imports._Untaken):
        imports._written_again(pattern, imports._PYTHON)


def test_a_file_that_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    """Whichever reads it."""
    file = tmp_path / "deep"
    for read, deep in (
        (from_litellm_patterns, "[" * 100_000),
        (from_gitleaks, f"a = {'[' * 100_000}"),
        (Guard.load, f"a = {'[' * 100_000}"),
    ):
        file.write_text(deep, encoding="utf-8")
        assert str(file) in str(refused("guard.unreadable", lambda read=read: read(file)))  # type: ignore[misc]


def test_a_number_of_more_digits_than_python_reads_is_refused(tmp_path: Path) -> None:
    """Whichever reads it, with the file and without the words of Python, which name a setting of its own."""
    file = tmp_path / "many"
    for read, text in (
        (from_litellm_patterns, f'{{"patterns": {"1" * 5000}}}'),
        (from_gitleaks, f"a = {'1' * 5000}"),
        (Guard.load, f"a = {'1' * 5000}"),
    ):
        file.write_text(text, encoding="utf-8")
        said = str(refused("guard.unreadable", lambda read=read: read(file)))  # type: ignore[misc]
        assert said == f"{file} cannot be read: an integer has more digits than any that is read"
    done = command(str(file), cwd=tmp_path)
    assert done.returncode == 2
    assert "more digits than any that is read" in done.stderr


REDACTING = tuple(name for name in SETS if name not in ("shell", "sql"))


def examples_of(names: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    """What matches in examples: its rule, a text that begins with it or with what it needs before, and itself."""
    for name in names:
        rules = {rule.name: Guard([rule]) for rule in rule_set(name, action="record")}
        for written in read_written(set_file(name)):
            guard = rules[written.rule.name]
            for pieces in written.matches:
                text = "".join(pieces)
                for match in guard.check(text)[2]:
                    matched = text.encode()[match.start : match.end].decode()
                    alone = [(found.start, found.end) for found in guard.check(matched)[2]]
                    is_alone = alone == [(0, match.end - match.start)]
                    yield written.rule.name, matched if is_alone else text, matched


HEXADECIMAL = ("\\x0a", "\\xA0", "\\u000a", "\\u00A0", "\\U0000000a")
BEGINNINGS = (
    *(f"\\{letter}" for letter in "abefnrtv"), *HEXADECIMAL, "\\0", "\\12", "\\012",
    "\\\\n", "\\\\\\t", "x\\r\\n", "x\\u00fc",
)  # fmt: skip


# A character as a URL has it, once and twice, and what is left of a colour of a terminal without its invisible ESC.
OTHERS = (
    "%3D",
    "%20",
    "%22",
    "%2c",
    "%253D",
    "%25250A",
    "\x1b[31m",
    "\x1b[m",
    "[1;38;5;9m",
    "[38:2::9:9:9m",
    "[01;31m\x1b[m\x1b[K",
)


@pytest.mark.parametrize("name", ["cards", "iban", "secrets", "ssn"])
def test_what_a_set_finds_it_finds_in_a_url_and_behind_a_colour(name: str) -> None:
    """What stands before it stays, however it is cut, and what follows hides nothing either."""
    guard = Guard(rule_set(name))
    examples = [each for each in examples_of((name,)) if re.match("[A-Za-z0-9]", each[1]) and "\n" not in each[1]]
    assert examples
    for rule, text, matched in examples:
        for before in OTHERS:
            for behind in ("%22", "%20x", "&x=y", "\x1b[0m"):
                written = f"![x](https://a.example/p?q=is{before}{text}{behind})"
                released, stopped, matches = guard.check(written)
                assert stopped is None
                assert matches, (rule, written)
                assert matched not in released, (rule, written)
                assert released.startswith(f"![x](https://a.example/p?q=is{before}"), (rule, written)
            for cut in range(0, len(written), 7):
                assert "".join(guard.stream([written[:cut], written[cut:]])) == released, (rule, written, cut)
            assert "".join(guard.stream(list(written))) == released, (rule, written)


def test_an_address_may_have_the_at_of_a_url() -> None:
    """Of one that has no name before it nothing is taken."""
    guard = Guard(rule_set("email"))
    for text, released in (
        ("https://a.example/?to=ada%40example.com&x=y", "https://a.example/?to=[redacted]&x=y"),
        ("smtp://ada%40example.com@relay", "smtp://[redacted]@relay"),
        ("a%b@example.com, 100%4@example.com, x%20y%4e%25z@example.com", "[redacted], [redacted], [redacted]"),
        ("100%40off@example.com", "100%[redacted]"),
        ("?to=grace.hopper%2540mail.example.co.uk", "?to=[redacted]"),
        ("\x1b[31mada@example.com\x1b[0m", "\x1b[[redacted]\x1b[0m"),
        ("/%40types/node.js, %40example.com", "/%40types/node.js, %40example.com"),
        ("40% 40example.com, a%4b.com, a%40b", "40% 40example.com, a%4b.com, a%40b"),
    ):
        assert guard.check(text)[0] == released
        assert "".join(guard.stream(list(text))) == released


@pytest.mark.parametrize("name", SETS)
def test_what_a_set_finds_it_finds_behind_a_written_escape(name: str) -> None:
    """As JSON and code write the end of a line: the letter of it is none of the next word."""
    guard = Guard(rule_set(name))
    by_name = {each.name: each for each in guard.rules}
    # What does not begin with a word is found behind anything.
    examples = [each for each in examples_of((name,)) if re.match("[A-Za-z0-9]", each[1]) and "\n" not in each[1]]
    assert examples
    for rule, text, matched in examples:
        for before in (*BEGINNINGS, *(["_"] if name in ("cards", "iban", "secrets", "ssn") else [])):
            written = f'{{"a": "{before}{text}" }}'
            released, stopped, matches = guard.check(written)
            assert stopped is not None or matches, (rule, before)
            assert matched not in released, (rule, before)
            # Of an address the escape may be a letter.
            if by_name[rule].action == "redact" and name != "email":
                assert released.startswith(f'{{"a": "{before}'), (rule, before)
            # And however it is cut.
            for cut in range(0, len(written), 7):
                assert "".join(guard.stream([written[:cut], written[cut:]])) == released, (rule, before, cut)
            assert "".join(guard.stream(list(written))) == released, (rule, before)


@pytest.mark.parametrize("name", REDACTING)
def test_what_a_set_replaces_in_a_string_of_json_leaves_json(name: str) -> None:
    """However it is written; a guard that reads JSON replaces it, too, and is not stopped."""
    guard = Guard(rule_set(name))
    for rule, text, matched in examples_of((name,)):
        for ascii_only in (True, False):
            if ascii_only and name != "email" and not matched.isascii():
                # What stands between the groups of a number is none as an escape, as docs/guard-sets.md says.
                continue
            for before in ("", "x\n", "x\u00a0", "\u00fc ", "\\", "_"):
                document = json.dumps({"a": before + text, "b": [text]}, ensure_ascii=ascii_only)
                cursor = guard.cursor(json=True)
                read = cursor.push(document) + cursor.finish()
                assert cursor.stopped is None, (rule, document)
                for released in (guard.check(document)[0], read):
                    left = json.loads(released)
                    assert list(left) == ["a", "b"], (rule, released)
                    assert len(left["b"]) == 1, (rule, released)
                    assert matched not in left["a"] + left["b"][0], (rule, released)
                    assert released.count("[redacted]") == 2, (rule, released)


@pytest.mark.parametrize("name", REDACTING)
def test_a_string_of_json_within_another_stays_one(name: str) -> None:
    """Every example that matches, within other text, in an object, and that object as a string in another."""
    guard = Guard(rule_set(name))
    befores = ("", "a ", "\n", "\t", '"', "\\", "é", "x\n", "(", "\x08", "\u2028", "C:\\new\\", "line\r\n", "'")
    behinds = ("", " z", "\n", '"', "\\", "é", ")")
    for written in read_written(set_file(name)):
        for text in map("".join, written.matches):
            for before, behind in itertools.product(befores, behinds):
                for ascii_only in (True, False):
                    once = json.dumps({"k": before + text + behind}, ensure_ascii=ascii_only)
                    twice = json.dumps({"k": once}, ensure_ascii=ascii_only)
                    assert list(json.loads(guard.check(once)[0])) == ["k"], once
                    assert list(json.loads(json.loads(guard.check(twice)[0])["k"])) == ["k"], twice
    # What a head is in alone.
    for key in ("", "\nMIIEpAIBAAKCAQEA7bq", "\n" + KEY + "\n"):
        within = json.dumps({"key": f"{'-' * 5}BEGIN PRIVATE KEY{'-' * 5}{key}"})
        assert list(json.loads(json.loads(guard.check(json.dumps({"log": within}))[0])["log"])) == ["key"]


def test_a_named_value_is_replaced_alone() -> None:
    """Its name stays, and the quotes around it. A number in no string leaves no JSON, and stops who reads JSON."""
    guard = Guard(rule_set("ssn", "secrets"))
    secret = "wJalrXUtnFEMI/K7MDENG" + "/bPxRfiCYEXAMPLEKEY"
    for document in (
        '{{"ssn": "{0}", "x": 1}}',
        '{{"a": {{"socialSecurityNumber" : "{0}"}}}}',
        '{{"a": "{{\\"ssn\\": \\"{0}\\"}}"}}',
        '{{"aws_secret_access_key": "{1}"}}',
        '{{"a": "x\\nAWS_SECRET_ACCESS_KEY={1}\\n"}}',
    ):
        written = document.format("219099998", secret)
        expected = document.format("[redacted]", "[redacted]")
        json.loads(expected)
        assert guard.check(written)[0] == expected
        assert "".join(guard.stream(list(written))) == expected
        cursor = guard.cursor(json=True)
        assert cursor.push(written) + cursor.finish() == expected
    assert guard.check('{"ssn": 219099998}')[0] == '{"ssn": [redacted]}'
    cursor = guard.cursor(json=True)
    assert cursor.push('{"ssn": 219099998}') + cursor.finish() == '{"ssn": '
    assert cursor.stopped is not None
    assert "A number that stands in no string" in DOCUMENT


def test_an_address_may_be_written_with_escapes() -> None:
    """Of letters, as JSON writes them where it is to be ASCII."""
    guard = Guard(rule_set("email"))
    for address in ("ärger@example.com", "jürgen.müller@öl-und-gas.example", "иван@почта.рф", "ada@例え.テスト"):
        for text in (address, f"an {address}, ja", f"你的{address}", f"\n{address}"):
            document = json.dumps({"a": text})
            left = json.loads(guard.check(document)[0])["a"]
            assert left in (text.replace(address, "[redacted]"), "你[redacted]", "[redacted]")
            assert "@" not in left
            assert "".join(guard.stream(list(document))) == guard.check(document)[0]


@pytest.mark.parametrize("between", ["_", "__", "-", ".", ",", " ", "/", ":", "|", '"', "\\n", "\\u00a0"])
def test_of_two_that_stand_together_neither_leaves(between: str) -> None:
    """Every example behind every other, of all sets that redact; what ends the first begins the second."""
    guard = Guard(rule_set(*REDACTING))
    examples = list(examples_of(REDACTING))
    assert len(examples) > 100
    for _, first, matched in examples:
        for _, second, other in examples:
            text = first + between + second
            released = guard.check(text)[0]
            assert matched not in released, (text, released)
            assert other not in released, (text, released)
            if between == "_":
                cursor = guard.cursor()
                assert "".join(map(cursor.push, text)) + cursor.finish() == released, text


@pytest.mark.parametrize("name", ["cards", "iban", "secrets", "ssn", "shell", "sql"])
def test_a_run_of_backslashes_holds_nothing(name: str) -> None:
    """Of 64 KiB of them no set but `email` keeps more than one escape may begin with."""
    assert "one long run of base64url without a space, or of backslashes" in " ".join(DOCUMENT.split())
    cursor = Guard(rule_set(name)).cursor()
    for _ in range(3):
        cursor.push("\\" * 60_000)
        assert cursor.stopped is None
        assert cursor.held <= 1


def test_a_stop_that_held_too_much_is_no_match() -> None:
    """`Held` counts matches, and goes on behind both."""
    rules = [Rule.regex("a[^c]*c", name="far")]
    assert held(rules, "abbbbbbbbac", max_hold=4).matches == 1
    assert held(rules, "abbbbbbbb", max_hold=4).matches == 0
