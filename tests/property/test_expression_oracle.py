"""The evaluator agrees with the reference implementation of CEL, over generated expressions.

The oracle is `cel-expr-python`, a binding of Google's C++ evaluator. The generator stays inside what both
claim to be the same language; both must then give the same value, or both must fail. Intended
differences, which the generator therefore avoids and the unit tests state:

1.  int and double mix in arithmetic, and `%` takes doubles. CEL refuses `1 + 1.5`.
2.  There are no unsigned numbers, no bytes, no optional values (`a.?b` is a value or null, and `??` is
    new), no type values (`type(x)` is a string), no regular expressions, no `dyn()` and no `cel.bind`.
3.  Keys of maps are strings. A field of null is a missing field.
4.  A result must have a JSON form: NaN and infinities are refused at the end, times become text.
5.  string(double) and the text of templates write whole doubles without an exponent below 1e16:
    `123456789`, where C++ writes `1.23456789e+08`.
6.  int(), double() and bool() read only JSON's spelling: no blanks around, no `T`, no `inf`.
7.  Any function may be called as a method and the other way round; `distinct`, `first`, `last`, `range`,
    `sort`, `sum`, `flatten`, `keys`, `values`, `json.*` are additions.
8.  `a ? b ? c : d : e` needs no parentheses. `int(true)` is refused. The oracle refuses
    `"ab".substring(0, 2)`, against its own specification, and takes the millisecond *part* of durations.
    Durations know days (`7d`); zones are offsets only.
9.  A map is gone through in the order of its document; min and max (`math.least`) take whatever has
    an order; format() has no %b and %o, and writes neither lists nor maps.
10. base64 is between texts: `base64.encode("a")`.
"""

from __future__ import annotations

import math
import random
import re

from cel_expr_python import cel
from cel_expr_python.ext import ext_math, ext_strings
from hypothesis import given, settings
from hypothesis import strategies as st

from reflux.core.expression import ErrorCode, ExpressionError, ExpressionSyntaxError, compile_expression

SCOPE = {
    "i": 7,
    "n": -3,
    "d": 2.5,
    "s": "Hållø, world",
    "t": True,
    "z": None,
    "xs": [3, 1, 2, 1],
    "ds": [0.5, -1.5],
    "ss": ["b", "a", ""],
    "m": {"a": 1, "b": {"c": [1, 2]}, "k": "v"},
    "one": {"k": 5},
    "rows": [{"q": 2, "w": "x"}, {"q": 5, "w": ""}, {"w": "y"}],
}
ORACLE = cel.NewEnv(
    variables=dict.fromkeys([*SCOPE, "x", "y"], cel.Type.DYN),
    extensions=[ext_strings.ExtStrings(), ext_math.ExtMath()],
)


def ours(source: str) -> tuple[bool, object]:
    """Whether there is a value, and the value or the code of the error."""
    try:
        return True, compile_expression(source).evaluate(SCOPE)
    except (ExpressionError, ExpressionSyntaxError) as error:
        return False, error.code


def theirs(source: str) -> tuple[bool, object]:
    """The same from the oracle."""
    try:
        value = ORACLE.compile(source, disable_check=True).eval(data=SCOPE)
    except RuntimeError as error:
        return False, str(error)
    if value.type() == cel.Type.ERROR:
        return False, str(value.plain_value())
    return True, plain(value)


def plain(value: cel.Value) -> object:
    """The value in Python. Nulls are not read: the binding gives away a reference to None that it does not
    own for each of them, and after some thousands the interpreter dies.
    """
    if value.type() == cel.Type.NULL:
        return None
    found = value.value()
    if isinstance(found, list):
        return [plain(element) for element in found]
    if isinstance(found, dict):
        return {key: plain(element) for key, element in found.items()}
    return found


def same(a: object, b: object) -> bool:
    """Equal in kind and value."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and a == b


def has_no_json_form(value: object) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    return isinstance(value, list) and any(map(has_no_json_form, value))


# For each kind the ways to write it; `<kind>` stands for any expression of that kind.
GRAMMAR = {
    "int": """
        i | n | 0 | 1 | -1 | 2 | 13 | -20 | 0x1F | 9223372036854775807 | -9223372036854775808
        m.a | m.b.c[1] | xs[0] | m['a'] | m.nope | m.b.c[7] | rows[0].q | s | z.f
        (<int> + <int>) | (<int> - <int>) | (<int> * <int>) | (<int> / <int>) | (<int> % <int>) | -(<int>)
        <int> + <int> * <int> - <int> | size(<list>) | <list>.size() | <string>.size() | <list>[<int>]
        <string>.indexOf(<string>) | <string>.lastIndexOf(<string>) | <string>.indexOf(<string>, <int>)
        <string>.lastIndexOf(<string>, <int>) | int(<double>) | int(<int>) | int('-12') | int('x')
        (<bool> ? <int> : <int>) | math.abs(<int>) | math.sign(<int>) | math.greatest(i, n, 3)
        math.least(xs) | math.least([i, n]) | <time>.<field>() | duration('-3h7m').getMinutes()
        timestamp('2024-02-29T23:59:59.5Z').<field>('-02:30')
    """,
    "field": """
        getFullYear | getMonth | getDate | getDayOfMonth | getDayOfWeek | getDayOfYear | getHours | getSeconds
    """,
    "time": """
        timestamp('2024-02-29T23:59:59.5Z') | timestamp('1969-12-31T23:00:00-05:00') | timestamp('2024-13-01')
        (<time> + <duration>) | (<time> - <duration>) | timestamp('0001-01-01T00:00:00Z')
    """,
    "duration": "duration('1h30m') | duration('-1.5s') | duration('250ms') | (<time> - <time>)",
    "double": """
        d | 0.0 | 1.5 | -0.5 | 1e300 | .25 | 1E-3 | ds[1] | 2.5 | 3.5 | -2.5 | 0.49999999999999994
        (<double> + <double>) | (<double> - <double>) | (<double> * <double>) | (<double> / <double>)
        -(<double>) | double(<int>) | double('1.5e3') | math.ceil(<double>) | math.floor(<double>)
        math.round(<double>) | math.trunc(<double>) | math.abs(<double>) | math.sign(<double>)
    """,
    "string": r"""
        s | '' | 'a' | "b" | r'\n' | '\u00e9\n\x41\101' | '''q'q''' | m.k | ss[0] | 'a,b,,c' | 'aAzZ'
        (<string> + <string>) | <string> + <string> + <string> | string(<int>) | string(<bool>)
        string(<time>) | string(duration('1h30m'))
        <string>.lowerAscii() | <string>.upperAscii() | <string>.trim() | <string>.reverse()
        <string>.charAt(<int>) | <string>.substring(<int>) | s.substring(<int>, 8) | s.substring(0, <int> * 5)
        <string>.replace(<string>, <string>) | <string>.replace(<string>, <string>, <int>)
        <strings>.join(<string>) | <strings>.join() | '%d-%s%%'.format([<int>, <string>])
        '%.2f|%s'.format([d, <string>]) | '%x'.format([i]) | '%s'.format([]) | (<bool> ? <string> : <string>)
    """,
    "strings": """
        ss | [] | ['x', 'y'] | <string>.split(<string>) | <string>.split(<string>, <int>)
        <strings>.map(x, x + <string>) | rows.map(x, x.w) | <strings>.filter(x, x != <string>)
    """,
    "list": """
        xs | [] | [1, 2, 3] | m.b.c | [[1], [2]] | ['u', 'a', null] | [<int>, <int>] | (<list> + <list>)
        <list>.filter(x, <check>) | <list>.map(x, <inner>) | <list>.map(x, <check>, <inner>)
        rows.filter(x, has(x.q)) | rows.filter(x, x.q > 2) | rows.map(x, has(x.q) && x.q > 2, x)
        one.map(x, one[x]) | one.filter(x, x == 'k') | [{'a': <int>, 'b': <string>}]
    """,
    "inner": """
        x | x + 1 | x * x | [x] | {'k': x} | string(x) | 10 / x | x[0] | xs.map(y, y + x) | x == <int>
        xs.filter(y, y == x) | xs.map(x, x + 1) | xs.filter(y, y > <int>)
    """,
    "check": """
        x > 1 | x == 1 | x in xs | 10 / x > 3 | x | true | xs.exists(x, x > 2) | x != i | x > <int>
        (<check> && <check>) | (<check> || <check>) | !(<check>)
    """,
    "any": "<int> | <double> | <string> | <list> | null | z | m | {} | {'a': 1} | {'a': 1.0} | t | [1.0]",
    "bool": """
        true | false | t | z | i | has(m.a) | has(m.zz) | has(m.b.c) | has(m.zz.a) | 10 / 0 == 1
        (<any> == <any>) | (<any> != <any>) | (<int> < <double>) | (<int> <= <int>) | (<double> > <int>)
        (<double> >= <double>) | (<string> < <string>) | (<bool> <= <bool>) | (<any> < <any>)
        (<time> < <time>) | (<duration> == <duration>) | (<bool> && <bool>) | (<bool> || <bool>)
        (<bool> && <bool> || <bool>) | !(<bool>) | (<int> + <int> < <int> == <bool>)
        (<any> in <list>) | (<string> in m) | (<string> in ss) | (<any> in {'a': 1})
        <list>.all(x, <check>) | <list>.exists(x, <check>) | <list>.exists_one(x, <check>)
        <string>.contains(<string>) | <string>.startsWith(<string>) | <string>.endsWith(<string>)
        (<bool> ? <bool> : <bool>) | (<any> == <any> ? <int> < 3 : <bool>) | bool('true')
    """,
}
FORMS = {
    kind: [form for line in text.strip().splitlines() for form in line.strip().split(" | ")]
    for kind, text in GRAMMAR.items()
}
LEAVES = {kind: [form for form in forms if "<" not in form or " < " in form] for kind, forms in FORMS.items()}


def write(kind: str, depth: int, dice: random.Random) -> str:
    """A random expression of a kind, with at most `depth` forms inside each other."""
    form = dice.choice(FORMS[kind] if depth > 0 else LEAVES[kind] or FORMS[kind])
    return re.sub(r"<([a-z]+)>", lambda hole: write(hole[1], depth - 1, dice), form)


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**64), depth=st.integers(0, 4))
def test_every_expression_has_the_value_that_the_reference_evaluator_gives_it(seed: int, depth: int) -> None:
    """Same source, same scope: the same value, or an error on both sides."""
    dice = random.Random(seed)
    for _ in range(20):
        source = write(
            dice.choice(sorted(FORMS.keys() - {"field", "check", "inner", "time", "duration"})), depth, dice
        )
        found, value = ours(source)
        expected, reference = theirs(source)
        where = f"{source}\n  ours   {value!r}\n  theirs {reference!r}"
        if not found and value is ErrorCode.NOT_JSON:
            assert expected, where
            assert has_no_json_form(reference), where
        else:
            assert found == expected, where
            assert not found or same(value, reference), where


def test_the_generated_expressions_are_worth_comparing() -> None:
    """Neither values nor errors are rare among them, so that agreement means something."""
    dice = random.Random(7)
    values = [ours(write(kind, 2, dice))[0] for _ in range(100) for kind in ("int", "string", "bool", "list")]
    assert 200 < sum(values) < 380
