r"""Quantities: a number with a unit of measure, such as `15 \text{ cm}^2`, `12 km/h`, `\$36`, `12厘米`.

A side that leaves its unit out has said nothing wrong. Two sides that both name one must mean the same quantity, so
`2 hours` is `120 minutes` and no `2 minutes`. Count nouns (apples) are no units of measure and unknown here.
"""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction
from typing import NamedTuple

from distill.answers.numbers import number

# base dimension: name = how much of it one is; names without a plural s
_SIZES = {
    "length": "m=1 meter=1 metre=1 米=1 km=1000 kilometer=1000 kilometre=1000 千米=1000 公里=1000 dm=1/10 分米=1/10"
    " cm=1/100 centimeter=1/100 centimetre=1/100 厘米=1/100 mm=1/1000 millimeter=1/1000 millimetre=1/1000 毫米=1/1000"
    " nm=1/1000000000 nanometer=1/1000000000 in=254/10000 inch=254/10000 inche=254/10000 ft=3048/10000 foot=3048/10000"
    " feet=3048/10000 yd=9144/10000 yard=9144/10000 mi=1609344/1000 mile=1609344/1000",
    "mass": "g=1 gram=1 克=1 kg=1000 kilogram=1000 千克=1000 公斤=1000 mg=1/1000 milligram=1/1000 ton=1000000"
    " 吨=1000000 lb=45359237/100000 pound=45359237/100000 oz=45359237/1600000 ounce=45359237/1600000",
    "time": "s=1 sec=1 second=1 秒=1 ms=1/1000 min=60 minute=60 分钟=60 h=3600 hr=3600 hour=3600 小时=3600 day=86400"
    " 天=86400 week=604800 星期=604800 周=604800",
    "volume": "l=1 liter=1 litre=1 升=1 ml=1/1000 milliliter=1/1000 millilitre=1/1000 毫升=1/1000",
    "dollar": "dollar=1 usd=1 cent=1/100 ¢=1/100",
    "yuan": "元=1 角=1/10 yuan=1",
    "energy": "J=1 joule=1 kj=1000 ev=1602176634/10000000000000000000000000000",
    "frequency": "hz=1 khz=1000 mhz=1000000",
    "angle": "degree=1",
    "celsius": "celsius=1",
    "fahrenheit": "fahrenheit=1",
    "month": "month=1 year=12 月=1 个月=1 年=12",
}
_UNITS = {
    name: (dimension, Fraction(size))
    for dimension, line in _SIZES.items()
    for name, size in (entry.split("=") for entry in line.split())
}
_DEGREE = re.compile(r"\^\s?(?:\{\s?\\circ\s?\}|\\circ)\s?([CF]?)(?![a-zA-Z])")
_DEGREES = {"": " degree", "C": " celsius", "F": " fahrenheit"}
_SPEED = {"mph": "mile/hour", "kph": "km/hour"}
_TEXT_COMMAND = re.compile(r"\\(?:text|mbox|textrm|mathrm|rm|operatorname)\s*\{([^{}]*)\}")
_UNIT = re.compile(
    r"(?P<over>/|\bper\b)?\s*(?P<power>square[ds]?|sq\.?|cubic|平方|立方)?\s*(?P<name>[a-zA-Z¢]+|[\u4e00-\u9fff]+)\.?"
    r"(?P<after> squared| cubed)?\s*(?:\^\s*\{?(?P<exponent>-?\d)\}?)?\s*(?:\\cdot|\*)?\s*"
)
_TAIL = re.compile(
    r"(?<![\\a-zA-Z¢])(?>(?:/|per\b)?\s?[a-zA-Z¢\u4e00-\u9fff]+\.?\s?(?:\^\s?\{?-?\d\}?)?\s?(?:\\cdot|\*)?\s?)+$"
)
_PROSE = re.compile(r"(?<![\\a-zA-Z])[^\W\d_]{3,}")
_LONGEST = 80
_MONEY = re.compile(r"([-+]?)\\?\$\s*(?=[\d.])")
_CHINESE = re.compile(r"([\d./%]+)\s*(?!分之|[万亿千百十成折半多余几])[\u4e00-\u9fff]{1,4}")


class Quantity(NamedTuple):
    value: str
    """What stands before the unit, as it is written."""
    unit: tuple[tuple[str, int], ...]
    """Dimensions and their powers, sorted."""
    size: Fraction
    """How many base units the unit is."""
    is_certain: bool
    """Whether it is a unit for certain; not for a single letter outside of `\\text{}`, as `12 m` may be a product."""


def read_quantity(text: str) -> Quantity | None:
    """The quantity that is the whole text; None without a unit of measure."""
    if len(text) > _LONGEST or text.isdecimal():
        return None
    plain = _TEXT_COMMAND.sub(r" \1 ", text.replace("\\,", " ").replace("\\ ", " ").replace("~", " "))
    plain = _DEGREE.sub(lambda match: _DEGREES[match[1]], " ".join(plain.split())).strip(" .")
    if not plain.endswith("$") and (money := _MONEY.match(plain)) and number(plain[money.end() :]) is not None:
        return Quantity(money[1] + plain[money.end() :], (("dollar", 1),), Fraction(1), True)
    plain = plain.strip("$ ")
    tail = _TAIL.search(plain)
    if tail is None:
        return None
    value = plain[: tail.start()].strip().removesuffix("\\$").strip()
    if not value or value[-1] not in "0123456789.})i" or _PROSE.search(value):
        return None
    letters_are_units = _is_marked(text) or number(value) is not None
    powers: Counter[str] = Counter()
    size = Fraction(1)
    sign = 1
    remaining = " ".join(_SPEED.get(word, word) for word in tail[0].split())
    while remaining:
        factor = _UNIT.match(remaining)
        unit = _unit_named(factor["name"]) if factor else None
        if factor is None or unit is None or (len(factor["name"]) == 1 and not letters_are_units):
            return None
        if factor["over"]:
            sign = -1
        power = sign * int(factor["exponent"] or _power(factor["power"] or factor["after"] or ""))
        dimension, unit_size = unit
        powers[dimension] += power
        size *= unit_size**power
        remaining = remaining[factor.end() :]
    sure = _is_marked(text) or len(powers) > 1 or (len(tail[0].strip(" .")) > 1 and "^" not in tail[0])
    return Quantity(value, tuple(sorted((name, power) for name, power in powers.items() if power)), size, sure)


def _unit_named(name: str) -> tuple[str, Fraction] | None:
    """Dimension and size of a unit by its name: single letters in their case, words in any, singular or plural."""
    if len(name) == 1:
        return _UNITS.get(name)
    return _UNITS.get(name.lower()) or _UNITS.get(name.lower().removesuffix("s"))


def _is_marked(text: str) -> bool:
    return bool(_TEXT_COMMAND.search(text))


def _power(power_word: str) -> int:
    """The exponent that a word says, such as 2 for `squared`."""
    if not power_word:
        return 1
    return 2 if power_word.strip().startswith(("sq", "平")) else 3


def without_units(gold: str, answer: str) -> tuple[str, str] | bool:
    """Both sides without their units where those say nothing, or the verdict where they decide it."""
    gold_quantity = read_quantity(gold)
    answer_quantity = read_quantity(answer)
    if gold_quantity and answer_quantity:
        if gold_quantity.unit != answer_quantity.unit:
            return False
        if gold_quantity.size == answer_quantity.size:
            return gold_quantity.value, answer_quantity.value
        values = number(gold_quantity.value), number(answer_quantity.value)
        if values[0] is None or values[1] is None:
            return gold, answer
        return values[0] * gold_quantity.size == values[1] * answer_quantity.size
    return _bare_value(gold, gold_quantity), _bare_value(answer, answer_quantity)


def _bare_value(text: str, quantity: Quantity | None) -> str:
    if quantity and quantity.is_certain:
        return quantity.value
    return _without_measure_word(text)


def _without_measure_word(text: str) -> str:
    """The bare number of a count in Chinese, which puts a measure word behind it; other text as it is."""
    counted = _CHINESE.fullmatch(_TEXT_COMMAND.sub(r"\1", text).strip("$ ."))
    return counted[1] if counted else text
