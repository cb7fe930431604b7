"""The HTML report: what it says is what the log says, it needs nothing else, and it looks as it should."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import os
import re
import shutil
import struct
import subprocess
import zlib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from importlib import resources
from pathlib import Path

import pytest

import decidable as dc
from decidable import demo, report
from decidable.report import exchange, facts, quantity, series

BIDI = "\u202eevil"
HOSTILE_ACCOUNT = f'"><img src=x onerror=alert(1)>{BIDI}'
HOSTILE_MODEL = f"</style><script>alert(1)</script>\x1b[31m{BIDI}"


def write_log(
    folder: Path, *, catalog: dc.Catalog, accounts: dict[str, int], requests: list[dc.Request]
) -> dict[str, object]:
    """A log at fixed times, every call settled but the first; returns its head."""
    clock = dc.ManualClock(1_700_000_000 * 10**9)
    engine = dc.Engine.open(
        folder, policy=catalog.policy(objective="cheapest"), clock=clock, sync="none", provenance="by hand"
    )
    names = list(accounts)
    for name, initial in accounts.items():
        engine.ledger.open_account(name, initial)
    selected = 0
    for number, request in enumerate(requests):
        clock.advance_to(clock.time_ns + 7 * 10**9)
        ticket = engine.decide(request, account=names[number % len(names)])
        if ticket.refusal is not None:
            continue
        selected += 1
        with ticket:
            if selected > 1:
                ticket.settle(
                    input_tokens=request.input_tokens, output_tokens=request.output_tokens + 9, latency_ms=400
                )
    return engine.close()


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    """A log of the demo's models and its first requests, with its head; nobody changes it."""
    folder = tmp_path_factory.mktemp("kept") / "state"
    requests = [arrival.request for arrival in demo.load_requests(600)]
    accounts = {"acme/support": 10**6, "acme/search": 10**6, "acme/dry": 20_000}
    return folder, write_log(folder, catalog=demo.catalog(), accounts=accounts, requests=requests)


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log whose names try something."""
    folder = tmp_path_factory.mktemp("hostile") / "state"
    models = [
        dc.Model(
            model_id=number, quality_bps=9_000, input_cost_microunits_per_million_tokens=number * 10**6,
            output_cost_microunits_per_million_tokens=number * 10**6,
        )
        for number in (1, 2)
    ]  # fmt: skip
    names = dc.Names(models={1: HOSTILE_MODEL, 2: "plain"}, providers={0: f"<b>{BIDI}"})
    requests = [dc.Request(input_tokens=900, output_tokens=90)] * 9
    write_log(folder, catalog=dc.Catalog(models, names=names), accounts={HOSTILE_ACCOUNT: 10**9}, requests=requests)
    return folder


# --- the page as a document ---------------------------------------------------------------------------------------

VOID = {"meta", "br"}


class Elements(html.parser.HTMLParser):
    """The elements of a page, which must be closed in the order in which they were opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.texts: Counter[str] = Counter()
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts[data.strip()] += 1

    def named(self, tag: str) -> Iterator[dict[str, str]]:
        return (attributes for found, attributes in self.found if found == tag)


def every_page(kept: tuple[Path, dict[str, object]], hostile: Path, tmp_path: Path) -> Iterator[str]:
    """One page of each kind."""
    folder, head = kept
    yield report.render(folder, head=head).html
    yield report.render(folder).html
    yield report.render(hostile).html
    damaged = Path(shutil.copytree(folder, tmp_path / "damaged"))
    (segment,) = damaged.glob("*.seg")
    whole = bytearray(segment.read_bytes())
    whole[len(whole) // 2] ^= 1
    segment.write_bytes(whole)
    yield report.render(damaged).html


def test_the_same_log_gives_the_same_bytes(kept: tuple[Path, dict[str, object]], tmp_path: Path) -> None:
    """Twice, and from another place on the disk."""
    folder, head = kept
    elsewhere = shutil.copytree(folder, tmp_path / "elsewhere")
    pages = {report.render(place, head=head).html for place in (folder, folder, elsewhere)}
    assert len(pages) == 1


def test_nothing_is_run_and_nothing_is_fetched(
    kept: tuple[Path, dict[str, object]], hostile: Path, tmp_path: Path
) -> None:
    """No script, no handler, no address, and a policy that would stop them."""
    for text in every_page(kept, hostile, tmp_path):
        elements = Elements(text)
        tags = {tag for tag, _ in elements.found}
        assert not tags & {
            "script",
            "link",
            "img",
            "iframe",
            "object",
            "embed",
            "base",
            "form",
            "image",
            "use",
            "foreignobject",
        }
        for _, attributes in elements.found:
            assert not {
                name for name in attributes if name.startswith("on") or name in ("src", "href", "xlink:href", "style")
            }
        assert not re.search(r"(?i)https?://|url\(|@import|javascript:", text)
        (policy,) = (
            each["content"] for each in elements.named("meta") if each.get("http-equiv") == "Content-Security-Policy"
        )
        style = text.split("<style>")[1].split("</style>")[0]
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_hostile_names_are_text(hostile: Path) -> None:
    """They are shown, with what does not show itself as its number."""
    text = report.render(hostile).html
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", text)
    texts = Elements(text).texts
    assert texts['"><img src=x onerror=alert(1)>\\u202eevil']
    assert texts["</style><script>alert(1)</script>\\x1b[31m\\u202eevil"]


def test_charts_can_be_read_without_seeing_them(kept: tuple[Path, dict[str, object]]) -> None:
    """Each picture has a role, a title and a description; the rest is decoration; tables have heads and captions."""
    folder, head = kept
    text = report.render(folder, head=head).html
    elements = Elements(text)
    names = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(names) == len(set(names))
    pictures = [each for each in elements.named("svg") if each.get("role") == "img"]
    assert len(pictures) == 4
    for each in pictures:
        assert all(name in names for name in each["aria-labelledby"].split())
    assert all(each.get("role") == "img" or each.get("aria-hidden") == "true" for each in elements.named("svg"))
    for each in elements.named("section"):
        assert each["aria-labelledby"] in names
    assert {each["scope"] for each in elements.named("th")} == {"row", "col"}
    assert len(list(elements.named("caption"))) == len(list(elements.named("table")))
    assert text.count("The numbers of this chart") == 2


# --- what it says -------------------------------------------------------------------------------------------------


def test_the_figures_are_those_of_the_log(kept: tuple[Path, dict[str, object]]) -> None:
    """Counted again, record by record, without the report's own code."""
    folder, head = kept
    found = facts.gather(dc.read(folder))
    records = list(dc.read(folder))
    assert found.decisions == 600
    decided = [each for each in records if each.kind == "decision"]
    assert found.selected == sum(each.outcome in ("held", "unheld") for each in decided)
    assert found.decisions == found.selected + found.refusals.total()
    settled = [each for each in records if each.kind == "settlement"]
    assert found.spent_microunits == sum(each.charged_microunits for each in settled)
    assert found.spent_microunits == sum(use.spent_microunits for use in found.models.values())
    assert found.durable_ns == sorted(each.durable_ns for each in settled)
    assert found.refusals["insufficient"] == sum(each.denial == "insufficient" for each in decided)
    assert found.refusals["insufficient"] > 0
    verification = dc.verify(folder, head=head)
    assert found.spent_microunits == sum(each.committed + each.debt for each in verification.balances)
    for most in (75, 30, 3, 1):
        spend = series.buckets(found.spend, [use.name for use in found.models_by_spend()], most=most)
        assert spend is not None
        assert sum(spend.totals()) == found.spent_microunits
        assert len(spend.amounts) <= most + 1
        assert len(spend.names) <= series.SHOWN + 1
    durable = series.histogram(found.durable_ns)
    assert durable is not None
    assert sum(durable.counts) + durable.beyond == len(found.durable_ns)
    text = report.render(folder, head=head).html
    for shown in (quantity.money(found.spent_microunits), quantity.count(found.selected), "Account empty"):
        assert f">{shown}<" in text
    assert Elements(text).texts["acme/dry"]


def test_the_figures_of_each_model_and_account_are_those_of_the_log(kept: tuple[Path, dict[str, object]]) -> None:
    """How often each was chosen and in place of another, what it used; how often each asked, and was refused."""
    folder, _ = kept
    found, records, names = facts.gather(dc.read(folder)), list(dc.read(folder)), demo.catalog().names
    decided = [each for each in records if each.kind == "decision"]
    chosen = {each.request_sequence: each.decision for each in decided if each.outcome == "held"}
    asked = {each.request_sequence: each.request.requested_model_id for each in decided}
    settled = {each.request_sequence: each for each in records if each.kind == "settlement"}
    assert names is not None
    expected = {}
    for model_id in {decision.selected_model_id for decision in chosen.values()}:
        its = {number: decision for number, decision in chosen.items() if decision.selected_model_id == model_id}
        used = [settled[number] for number in its if number in settled]
        expected[names.models[model_id]] = (
            len(its),
            sum(asked[number] not in (None, model_id) for number in its),
            len(used),
            sum(each.input_tokens for each in used),
            sum(each.output_tokens for each in used),
            sum(decision.estimated_cost_microunits for decision in its.values()),
            sum(each.charged_microunits for each in used),
        )
    assert expected == {
        use.name: (
            use.chosen, use.substituted, use.settled, use.input_tokens, use.output_tokens, use.estimated_microunits,
            use.spent_microunits,
        )
        for use in found.models.values()
    }  # fmt: skip
    assert 0 < sum(each[1] for each in expected.values()) < sum(each[0] for each in expected.values())
    assert (found.settlements, found.sessions, found.recoveries) == (len(settled), 1, 0)
    for number, account in found.accounts.items():
        its = [each for each in decided if each.account_number == number]
        assert (account.decisions, account.refused, account.denied) == (
            len(its),
            sum(each.outcome in ("rejected", "denied") for each in its),
            sum(each.outcome == "denied" for each in its),
        )
    assert sum(account.denied for account in found.accounts.values()) > 0


def test_a_call_without_an_account_is_chosen_and_a_cut_end_is_counted(tmp_path: Path) -> None:
    """Nothing is held for it; and the session after the cut is a second one."""
    path = tmp_path / "state"
    catalog = demo.catalog()
    with dc.Engine.open(path, policy=catalog.policy(objective="cheapest")) as engine:
        engine.decide(dc.Request(input_tokens=9, output_tokens=9))
    (segment,) = path.glob("*.seg")
    os.truncate(segment, segment.stat().st_size - 3)
    dc.Engine.open(path, policy=catalog.policy(objective="cheapest")).close()
    found = facts.gather(dc.read(path))
    assert (found.decisions, found.selected, found.sessions, found.recoveries) == (1, 1, 2, 1)


def test_the_figures_of_an_exchange_log_are_those_of_its_lines(vectors: Path) -> None:
    """They say nothing of holds, so a decision counts by what it selected."""
    lines = [
        json.loads(line)["data"]["decision"] for line in (vectors / "log_plain.jsonl").read_text("utf-8").splitlines()
    ]
    found = facts.gather(exchange.entries(vectors / "log_plain.jsonl"))
    selected = sum(line["selected_model_id"] != 0 for line in lines)
    assert 0 < selected < len(lines)
    assert (found.decisions, found.selected, found.refusals.total()) == (len(lines), selected, len(lines) - selected)


def test_an_open_ticket_is_listed(kept: tuple[Path, dict[str, object]]) -> None:
    """The first call was not settled: its money is held, and the page says so."""
    folder, head = kept
    rendered = report.render(folder, head=head)
    assert rendered.verification is not None
    (ticket,) = rendered.verification.open_tickets
    assert f'<th scope="row">{ticket["request_sequence"]}</th>' in rendered.html


def test_the_page_says_how_to_repeat_it_with_all_that_it_takes(tmp_path: Path, vectors: Path) -> None:
    """The key of a sealed log, and policies where they were given or the log carries none."""

    def shown(log: Path, **given: object) -> str:
        found = re.search(r"<pre><code>(.*?)</code></pre>", report.render(log, **given).html)  # type: ignore[arg-type]
        assert found is not None
        return found[1]

    key, policy = dc.Key(bytes(32)), demo.policy()
    dc.Engine.open(tmp_path / "plain", policy=policy).close()
    dc.Engine.open(tmp_path / "sealed", policy=policy, key=key).close()
    assert shown(tmp_path / "plain") == "decidable verify LOG --head head.json"
    for given in ({}, {"key": key}):
        assert shown(tmp_path / "sealed", **given) == "decidable verify LOG --head head.json --key-file wal.key"
    approved = "decidable verify LOG --policy policy.json --head head.json"
    assert shown(tmp_path / "plain", policies=[policy]) == approved
    assert shown(vectors / "log_plain.jsonl") == approved
    anchor = json.loads((vectors / "log_keyed.jsonl.anchor.json").read_text("utf-8"))
    keyed = shown(vectors / "log_keyed.jsonl", key=dc.Key(bytes.fromhex(anchor["key_hex"])))
    assert keyed == f"{approved} --key-file wal.key"


def test_what_may_be_concluded(kept: tuple[Path, dict[str, object]], tmp_path: Path) -> None:
    """It holds against a head; without one, or with a tail, it cannot conclude; cut off, it does not."""
    folder, head = kept
    assert report.render(folder, head=head).verdict.state == "holds"
    alone = report.render(folder)
    assert alone.verdict.state == "cannot-conclude"
    assert any("nothing to verify against" in each for each in alone.verdict.reasons)
    key = dc.Key(bytes(32))
    sealed = dc.Engine.open(tmp_path / "sealed", policy=demo.policy(), key=key).close()
    for against, given in {
        "the head": {"head": sealed},
        "the key": {"key": key},
        "the head and the key": {"head": sealed, "key": key},
    }.items():
        verdict = report.render(tmp_path / "sealed", **given).verdict  # type: ignore[arg-type]
        assert (verdict.state, f" agrees with {against} that it " in verdict.sentence) == ("holds", True)
    cut = Path(shutil.copytree(folder, tmp_path / "cut"))
    (segment,) = cut.glob("*.seg")
    os.truncate(segment, segment.stat().st_size - 3)
    torn = report.render(cut)
    assert torn.verdict.state == "cannot-conclude"
    assert "Unfinished tail" in torn.html
    refuted = report.render(cut, head=head)
    assert refuted.verdict.state == "does-not-hold"
    assert refuted.error is not None
    assert "Spend over time" not in refuted.html
    assert Elements(refuted.html).texts["The log does not hold"]


def test_a_log_with_nothing_in_it_has_a_report(tmp_path: Path) -> None:
    """Every section says that it has nothing to show."""
    dc.Engine.open(tmp_path / "state", policy=demo.policy()).close()
    rendered = report.render(tmp_path / "state")
    assert rendered.verdict.state == "cannot-conclude"
    assert rendered.html.count('class="empty"') == 6


def test_erased_names_stay_erased(tmp_path: Path) -> None:
    """After erasure the page has a number where the name was."""
    catalog = demo.catalog()
    write_log(
        tmp_path / "state",
        catalog=catalog,
        accounts={"acme/secret": 10**6},
        requests=[dc.Request(input_tokens=9, output_tokens=9)] * 3,
    )
    assert "acme/secret" in report.render(tmp_path / "state").html
    with dc.Engine.open(tmp_path / "state", policy=catalog.policy(objective="cheapest")) as engine:
        engine.erase([record.seq for record in dc.read(tmp_path / "state", kind="account")])
    text = report.render(tmp_path / "state").html
    assert "acme/secret" not in text
    assert "Erased private parts" in text


def test_a_span_of_any_length_fits_the_chart() -> None:
    """From a second to centuries, in the buckets that were asked for, and one more for a start in the middle."""
    for span in (0, 1, 59, 3_600, 86_400, 400 * 86_400, 10**10):
        spend = [(1_700_000_000 * 10**9, "a", 1), ((1_700_000_000 + span) * 10**9, "b", 2)]
        found = series.buckets(spend, ["b", "a"], most=30)
        assert found is not None
        assert len(found.amounts) <= 31
        assert sum(found.totals()) == 3


# --- how it looks -------------------------------------------------------------------------------------------------


def colours(scheme: str) -> dict[str, str]:
    """The colours of the style sheet under one scheme."""
    style = resources.files("decidable.report").joinpath("style.css").read_text("utf-8")
    blocks = re.findall(r":root \{([^}]*)\}", style)
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})", blocks[0] if scheme == "light" else blocks[1]))


def linear(colour: str) -> list[float]:
    """Linear light of a colour, by channel."""
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    return [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels]


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2."""
    light = [0.2126 * red + 0.7152 * green + 0.0722 * blue for red, green, blue in (linear(one), linear(other))]
    return (max(light) + 0.05) / (min(light) + 0.05)


# What people with protanopia, deuteranopia and tritanopia see (Machado, Oliveira, Fernandes 2009), and everybody else.
SIGHT = (
    ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
)


def oklab(colour: str, sight: tuple[tuple[float, ...], ...]) -> list[float]:
    """A colour, as it is seen, in a space where distance is difference (Ottosson 2020)."""
    seen = [min(1.0, max(0.0, sum(a * b for a, b in zip(row, linear(colour), strict=True)))) for row in sight]
    cones = (
        (0.4122214708, 0.5363325363, 0.0514459929),
        (0.2119034982, 0.6806995451, 0.1073969566),
        (0.0883024619, 0.2817188376, 0.6299787005),
    )
    roots = [sum(a * b for a, b in zip(row, seen, strict=True)) ** (1 / 3) for row in cones]
    space = (
        (0.2104542553, 0.7936177850, -0.0040720468),
        (1.9779984951, -2.4285922050, 0.4505937099),
        (0.0259040371, 0.7827717662, -0.8086757660),
    )
    return [sum(a * b for a, b in zip(row, roots, strict=True)) for row in space]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_have_contrast_and_differ_for_everybody(scheme: str) -> None:
    """Text 4.5 to 1, marks 3 to 1, and no two series alike under any of the common kinds of colour blindness."""
    found = colours(scheme)
    for text, ground in (
        ("ink", "paper"), ("ink", "raised"), ("quiet", "paper"), ("quiet", "raised"), ("accent", "paper"),
        ("good", "good-tint"), ("unsure", "unsure-tint"), ("bad", "bad-tint"), ("ink", "good-tint"),
        ("ink", "unsure-tint"), ("ink", "bad-tint"),
    ):  # fmt: skip
        assert contrast(found[text], found[ground]) >= 4.5, (text, ground)
    drawn = [f"s{kind}" for kind in range(series.SHOWN + 1)]
    for mark in (*drawn, "accent", "over"):
        assert contrast(found[mark], found["paper"]) >= 3, mark
    for sight in SIGHT:
        points = [oklab(found[name], sight) for name in drawn]
        for place, one in enumerate(points):
            for other in points[:place]:
                assert sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) ** 0.5 >= 0.1


def pixels(path: Path) -> list[tuple[int, int, int]]:
    """Every pixel of an 8-bit PNG as a browser writes it, row by row."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    place, parts, width, depth = 8, [], 0, 0
    while place < len(data):
        (length,) = struct.unpack_from(">I", data, place)
        kind, body = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        if kind == b"IHDR":
            width, _, bits, colour = struct.unpack_from(">IIBB", body)
            assert bits == 8
            depth = {2: 3, 6: 4}[colour]
        elif kind == b"IDAT":
            parts.append(body)
        place += length + 12
    raw = zlib.decompress(b"".join(parts))
    stride = width * depth
    before, found = bytearray(stride), []
    for start in range(0, len(raw), stride + 1):
        how, row = raw[start], bytearray(raw[start + 1 : start + 1 + stride])
        for at in range(stride) if how else ():
            left = row[at - depth] if at >= depth else 0
            corner = before[at - depth] if at >= depth else 0
            row[at] = (row[at] + _predicted(how, left, before[at], corner)) & 0xFF
        found += [(row[at], row[at + 1], row[at + 2]) for at in range(0, stride, depth)]
        before = row
    return found


def _predicted(how: int, left: int, above: int, corner: int) -> int:
    """What a byte of a PNG row is told against."""
    if how < 4:
        return (0, left, above, (left + above) // 2)[how]
    guess = left + above - corner
    return min((abs(guess - left), 0, left), (abs(guess - above), 1, above), (abs(guess - corner), 2, corner))[2]


def picture(browser: str, page_file: Path, picture_file: Path, *, scheme: str, width: int, height: int) -> None:
    """What a headless browser draws."""
    done = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--force-device-scale-factor=1",
            f"--user-data-dir={picture_file.with_suffix('.profile')}", f"--window-size={width},{height}",
            f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}", f"--screenshot={picture_file}",
            page_file.as_uri(),
        ],
        capture_output=True, check=False, timeout=120,
    )  # fmt: skip
    assert picture_file.exists(), done.stderr.decode(errors="replace")


@pytest.mark.parametrize(("width", "height"), [(760, 1_600), (420, 2_400)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_draws_the_page(
    kept: tuple[Path, dict[str, object]], browser: str, tmp_path: Path, scheme: str, width: int, height: int
) -> None:
    """On its ground, with its text and with every colour of the chart, in both schemes, wide and narrow."""
    folder, head = kept
    place = tmp_path / "report.html"
    place.write_text(report.render(folder, head=head).html, encoding="utf-8")
    picture(browser, place, tmp_path / "page.png", scheme=scheme, width=width, height=height)
    seen = Counter(pixels(tmp_path / "page.png"))
    assert seen.total() == width * height
    expected = colours(scheme)

    @cache
    def count(name: str) -> int:
        colour = expected[name]
        return seen[int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)]

    assert 0.4 < count("paper") / seen.total() < 0.97
    assert count("ink") > 200
    assert count("good-tint") > 1_000
    for kind in range(series.SHOWN + 1):
        assert count(f"s{kind}") > 50, kind


def test_the_page_is_not_a_surprise_in_size(kept: tuple[Path, dict[str, object]]) -> None:
    """It grows with what is shown, not with the log."""
    folder, head = kept
    text = report.render(folder, head=head).html
    assert len(text.split("<style>")[1].split("</style>")[0]) < 16_000
    assert len(text) < 300_000
