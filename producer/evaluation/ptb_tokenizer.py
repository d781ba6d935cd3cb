"""Tokens of captions as pycocoevalcap's PTBTokenizer returns them, without Java.

The reference runs Stanford CoreNLP 3.4.1 (`PTBTokenizer -preserveLines -lowerCase`) and drops
punctuation. This module states the rules that captions can meet; docs/reproduce.md gives the
measured agreement with the reference.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

#: Tokens that the reference drops. It lowers brackets to -lrb- afterwards, so brackets remain.
_PUNCTUATION: Final = frozenset(
    ["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"]
)

#: Abbreviations whose period is a part of the token, anywhere in a caption.
_ABBREVIATIONS: Final = "|".join(
    (
        "jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|mon|tues?|wed|thu|thurs|fri",
        "ala|ariz|ark|calif|colo|conn|ct|dak|fla|ga|ind|kans?|ky|md|mich|minn|mo|mont|neb|nev",
        "okla|penn|tenn|va|vt|wisc?|wyo|az|del|ill|la|mass|miss|ore|pa|tex|wash",
        "inc|cos?|corp|pp?t[ye]s?|ltd|plc|bancorp|bhd|assn|univ|intl|sys|tel|est|ext|sq|jr|sr",
        r"bros|(?:ed|ph)\.d|[bdm]\.sc|esq|etc|al|seq|bldg",
        "mr|mrs|ms|drs?|profs?|sens?|reps?|attys?|lt|col|gen|messrs|govs?|adm|rev|rt|maj|sgt|cpl",
        "pvt|capt|st[ae]?|ave|pres|lieut|hon|brig|co?mdr|pfc|spc|supts?|det|mt|ft|adj|adv|asst",
        "assoc|ens|insp|mlle|mme|msgr|sfc|invt|elec|natl|m[ft]g|dept|blvd|rd|pl|ph|sc|viz|vs",
        "wm|jos|cie|a\\.k\\.a",
    )
)
#: Abbreviations before a number.
_BEFORE_NUMBERS: Final = "ca|figs?|prop|nos?|art|bldg|pp|op"

_APOS: Final = "(?:['\u2019\u0092]|&apos;)"
#: Not the superscripts and fractions, which Python counts as alphanumeric.
_LETTER: Final = "[^\\W\\d_\u00b2\u00b3\u00b9\u00bc-\u00be]"
_WORD: Final = f"{_LETTER}(?:{_LETTER}|\\d)*(?:[.!?]{_LETTER}(?:{_LETTER}|\\d)*)*"
_NUMBER: Final = r"(?:\d*(?:[.:,]\d+)+|\d+)"
_CLITIC: Final = f"{_APOS}(?:[msd]|re|ve|ll)"
_ACRONYM: Final = r"[a-z](?:\.[a-z])*"
_ALNUM: Final = "[a-z0-9]"
_THING: Final = f"(?:[dol]{_APOS}{_ALNUM})?(?:{_ALNUM}+|{_NUMBER})"

#: Rules in order; the longest match wins, the earliest of equal ones. A match includes what must
#: follow the token; group 1 is the token.
_RULES: Final = tuple(
    re.compile(rule, re.IGNORECASE)
    for rule in (
        "(can)not",
        f"({_APOS}t)(?:is|was)",
        "(gon|got|wan)(?:na|ta)",
        "(lem|gim)me",
        r"(</?[a-z][^<>]*>)",
        f"({_WORD}){_CLITIC}",
        f"({_LETTER}*[a-mo-z])n{_APOS}t",
        f"({_WORD})",
        f"({_LETTER}+[aeiouy]{_APOS}[aeiou]{_LETTER}*|o{_APOS}clock|ma{_APOS}am|nor{_APOS}easter"
        f"|c{_APOS}mon|e{_APOS}er|s{_APOS}mores|ev{_APOS}ry|li{_APOS}l|nat{_APOS}l|o{_APOS}o"
        f"|cont{_APOS}d|{_APOS}n{_APOS}?|{_APOS}(?:em|till?|cause|[2-9]0s)"
        f"|(?:[ldj]|dunkin|somethin|ol){_APOS}|[a-hj-xz]{_APOS}{_LETTER}{{2,}})",
        f"(y{_APOS}){_LETTER}",
        r"(https?://[^\s<>|()]+[^\s<>|.!?,;:&\"'()-])",
        r"((?:www\.(?:[^\s<>|.!?,/()\"']+\.)+[a-z]{2,4}|(?:[^\s`<>|.!?,\"'/$()-]+\.)+"
        r"(?:com|net|org|edu))(?:/[^\s<>|()]+[^\s<>|.!?,;:&\"'()-])?)",
        r"([a-z0-9][^\s\"<>|()]*@(?:[^\s\"<>|().]+\.)*[^\s\"<>|().]+)",
        r"(@[a-z_]\w*|#[^\W\d_]\w*)",
        f"({_CLITIC})(?![a-z])",
        f"(n{_APOS}t)(?![a-z])",
        r"(\d{1,2}[-/]\d{1,2}[-/]\d{2,4})",
        f"([-+]?{_NUMBER})",
        "((?:\\d{1,4}[- \u00a0])?\\d{1,4}/\\d{1,4})",
        "([\u00bc\u00bd\u00be])",
        rf"({_ALNUM}+(?:-[a-z]+){{0,2}}(?:/{_ALNUM}+(?:-[a-z]+){{0,2}}){{1,2}})",
        r"((?-i:[A-Z]*)\$|#)",
        rf"((?:{_ABBREVIATIONS}|{_ACRONYM})\.)",
        rf"((?:{_BEFORE_NUMBERS})\.)\s?\d",
        rf"({_WORD}\.)[,;:]",
        r"([<>]?[:;=][-o*']?(?:[()\\{@|\[\]](?![a-z])|(?-i:[DPdpO])(?=[^a-z])))",
        rf"({_THING}(?:-{_THING})*)",
        r"((?-i:[A-Z]+(?:(?:[+&]|&amp;)[A-Z]+)+))",
        rf"({_ALNUM}[a-z0-9.,]*(?:-(?:{_ALNUM}+|[a-z](?:\.[a-z])+\.))+)",
        f"({_ALNUM}+(?:_{_ALNUM}+)+)",
        r"(-(?:[lr][rcs]b)-|c\+\+|&amp;|&lt;|&gt;|<<|>>)",
        f"(\"|&quot;|[`'\u2018\u2019]'|{_APOS}|[`\u2018-\u201f\u2039\u203a\u00ab\u00bb]{{1,2}})",
        r"([-\u2010-\u2015]+|\.\.\.+|\u2026|\.(?: \.){2,}|[?!]+|\*+|_+|@+)",
        r"(\S)",
    )
)
#: The usual token, on a short path: a word of ASCII letters before a space.
_PLAIN: Final = re.compile("[a-z]+(?= [a-z])", re.IGNORECASE)
_SPLIT_WORDS: Final = frozenset(["cannot", "gonna", "gotta", "lemme", "gimme", "wanna"])
_SPACE: Final = re.compile(r"\s+")
#: The reference writes other quotes, dashes and ellipses as tokens that it drops.
_DROPPED: Final = re.compile(
    "\"|&quot;|''|[`\u2018-\u201f\u2039\u203a\u00ab\u00bb]{1,2}|[-\u2010-\u2015]{1,4}"
    "|\\.\\.\\.+|\u2026|\\.(?: \\.)+"
)
#: Replacements within a token.
_REPLACED: Final = {
    "&apos;": "'",
    "\u2019": "'",
    "&amp;": "&",
    "&lt;": "<",
    "&gt;": ">",
    "\u00bc": "1/4",
    "\u00bd": "1/2",
    "\u00be": "3/4",
    "(": "-lrb-",
    ")": "-rrb-",
    "[": "-lsb-",
    "]": "-rsb-",
    "{": "-lcb-",
    "}": "-rcb-",
}
_REPLACED_PATTERN: Final = re.compile("|".join(map(re.escape, _REPLACED)))


def tokenize(caption: str) -> str:
    """Return the tokens of a caption in lower case, without punctuation, separated by spaces."""
    return " ".join(token for token in _tokens(caption) if token not in _PUNCTUATION)


def _tokens(caption: str) -> Iterator[str]:
    position = 0
    while position < len(caption):
        if space := _SPACE.match(caption, position):
            position = space.end()
        elif (plain := _PLAIN.match(caption, position)) and plain[0].lower() not in _SPLIT_WORDS:
            yield plain[0].lower()
            position = plain.end()
        else:
            token, position = _longest(caption, position)
            if not _DROPPED.fullmatch(token):
                yield _REPLACED_PATTERN.sub(lambda match: _REPLACED[match[0]], token.lower())


def _longest(caption: str, position: int) -> tuple[str, int]:
    """Return the token of the rule with the longest match, and its end."""
    matches = (match for rule in _RULES if (match := rule.match(caption, position)))
    longest = max(matches, key=re.Match.end)
    return longest[1], longest.end(1)
