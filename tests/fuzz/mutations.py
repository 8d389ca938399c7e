"""A valid file, changed: bytes flipped, cut, moved and put in, and its words replaced by nasty ones."""

import re

from hypothesis import strategies as st

# A number, a quoted text, or a word.
WORD = re.compile(rb'-?\d+(?:\.\d+)?|"[^"\n]{0,80}"|\w+')
NASTY = [
    *(b"0", b"-1", b"1e999", b"-0.0", b"NaN", b"Infinity", b"9" * 25, b"9" * 5000, b"\xd9\xa3"),
    *(b"null", b"true", b"{}", b"[]", b'""', b"[" * 70, b'{"a":' * 70, b"a." * 70, b"'" * 3),
    *(b"\n", b"\r\n", b"\0", b"\t", b"\x1b[2K", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf"),
    *(b"../../x", b"/dev/zero", b"*", b"~nobody", b"%s", b"${x}", b'"\\ud800"', b'"\\u0000"'),
]

Places = st.integers(0, 1 << 20)


def changed(content: bytes) -> st.SearchStrategy[bytes]:
    """Return the strategy of what is like ``content`` but for a few changes."""
    words = [found.span() for found in WORD.finditer(content)] or [(0, 0)]
    pieces = st.one_of(st.sampled_from(NASTY), st.binary(max_size=8))
    changes = st.one_of(
        st.tuples(st.just(flip), Places, st.integers(1, 255)),
        st.tuples(st.just(cut), Places, st.just(0)),
        st.tuples(st.just(insert), Places, pieces),
        st.tuples(st.just(replace), st.sampled_from(words), pieces),
        st.tuples(st.just(swap), Places, Places),
        st.tuples(st.just(repeat), Places, st.integers(1, 300)),
    )
    return st.lists(changes, min_size=1, max_size=4).map(lambda chosen: applied(content, chosen))


def applied(content, changes):
    for change, place, how in changes:
        content = change(content, place, how)
    return content


def flip(content, place, bits):
    at = place % (len(content) + 1)
    return content[:at] + bytes(byte ^ bits for byte in content[at : at + 1]) + content[at + 1 :]


def cut(content, place, _):
    return content[: place % (len(content) + 1)]


def insert(content, place, piece):
    at = place % (len(content) + 1)
    return content[:at] + piece + content[at:]


def replace(content, span, piece):
    return content[: span[0]] + piece + content[span[1] :]


def swap(content, place, other):
    one, two = sorted((place % (len(content) + 1), other % (len(content) + 1)))
    return content[:one] + content[two:] + content[one:two]


def repeat(content, place, size):
    at = place % (len(content) + 1)
    return content[:at] + content[at : at + size] * 2 + content[at + size :]
