"""Texts for a pattern of Go or of Python, without look-around, at random: what its rules are tried on."""

from __future__ import annotations

import random
import re


class Sampler:
    """Texts that a pattern matches, where what surrounds them suits it: at each place one of its ways, by chance."""

    PRINTABLE = [chr(code) for code in range(32, 127)] + ["\n", "\t"]

    def __init__(self, pattern: str, chance: random.Random) -> None:
        self.pattern, self.place, self.chance = pattern, 0, chance

    def sample(self) -> str:
        self.place = 0
        return self.alternatives(False)[0]

    def alternatives(self, folds: bool) -> tuple[str, bool]:
        """One of those up to the end of the group; flags that are set in it hold to its end."""
        texts = []
        text, folds = self.sequence(folds)
        texts.append(text)
        while self.pattern.startswith("|", self.place):
            self.place += 1
            text, folds = self.sequence(folds)
            texts.append(text)
        return self.chance.choice(texts), folds

    def sequence(self, folds: bool) -> tuple[str, bool]:
        text = ""
        while self.place < len(self.pattern) and self.pattern[self.place] not in "|)":
            flags = re.compile(r"\(\?([a-z]*)(?:-([a-z]*))?\)").match(self.pattern, self.place)
            if flags:
                self.place = flags.end()
                folds = ("i" in flags[1] or folds) and "i" not in (flags[2] or "")
                continue
            start = self.place
            once = self.item(folds)
            after = self.place
            text += "".join(self.again(start, folds) for _ in range(self.times())) if self.repeats(after) else once
        return text, folds

    def repeats(self, place: int) -> bool:
        return re.compile(r"[*+?]|\{\d+(?:,\d*)?\}").match(self.pattern, place) is not None

    def times(self) -> int:
        found = re.compile(r"([*+?]|\{(\d+)(,(\d*))?\})\??").match(self.pattern, self.place)
        assert found is not None
        self.after = found.end()
        self.place = found.end()
        if found[2] is None:
            return self.chance.randint(found[1] == "+", 1 if found[1] == "?" else 4)
        least = int(found[2])
        most = least if found[3] is None else int(found[4]) if found[4] else least + 3
        return self.chance.choice([least, most, self.chance.randint(least, most)])

    def again(self, start: int, folds: bool) -> str:
        end, self.place = self.place, start
        text = self.item(folds)
        self.place = end
        return text

    def item(self, folds: bool) -> str:
        character = self.pattern[self.place]
        if character == "(":
            opened = re.compile(r"\((?:\?([a-z]*)(?:-([a-z]*))?:|\?P?<\w+>)?").match(self.pattern, self.place)
            assert opened is not None
            self.place = opened.end()
            inner = ("i" in (opened[1] or "") or folds) and "i" not in (opened[2] or "")
            text, _ = self.alternatives(inner)
            self.place += 1
            return text
        if character == "[":
            members = self.members()
            return self.cased(self.chance.choice(members), folds) if members else ""
        if character == "\\":
            members = self.escaped()
            return self.cased(self.chance.choice(members), folds) if members else ""
        self.place += 1
        if character in "^$":
            return ""
        return self.cased(self.chance.choice(self.PRINTABLE[:-2]) if character == "." else character, folds)

    def cased(self, character: str, folds: bool) -> str:
        return self.chance.choice([character.lower(), character.upper()]) if folds else character

    def escaped(self) -> list[str]:
        """What an escape may be; nothing for a boundary."""
        found = re.compile(r"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL).match(self.pattern, self.place)
        assert found is not None
        self.place = found.end()
        letter = found[1]
        kinds = {"d": str.isdigit, "w": lambda each: each.isalnum() or each == "_", "s": str.isspace}
        if letter.lower() in kinds:
            return [each for each in self.PRINTABLE if kinds[letter.lower()](each) == letter.islower()]
        if letter in "bBAz":
            return []
        return [chr(int(letter[1:], 16)) if len(letter) == 3 else {"n": "\n", "r": "\r", "t": "\t"}.get(letter, letter)]

    def members(self) -> list[str]:
        self.place += 1
        negated = self.pattern[self.place] == "^"
        self.place += negated
        found: list[str] = []
        first = True
        while first or self.pattern[self.place] != "]":
            first = False
            if named := re.compile(r"\[:(\w+):\]").match(self.pattern, self.place):
                self.place = named.end()
                assert named[1] == "alnum", named[1]
                found += [each for each in self.PRINTABLE if each.isalnum()]
                continue
            each = self.single()
            if len(each) == 1 and self.pattern[self.place] == "-" and self.pattern[self.place + 1] != "]":
                self.place += 1
                found += [chr(code) for code in range(ord(each[0]), ord(self.single()[0]) + 1)]
            else:
                found += each
        self.place += 1
        return [each for each in self.PRINTABLE if each not in found] if negated else found

    def single(self) -> list[str]:
        if self.pattern[self.place] == "\\":
            return self.escaped()
        self.place += 1
        return [self.pattern[self.place - 1]]
