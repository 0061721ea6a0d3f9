"""What home and the agent say to each other, however a stream cuts it up."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.sampling.agent import messages
from harness.sampling.agent.messages import Decoder, RowSender, encode

WORDS = st.dictionaries(
    st.text().filter(lambda name: name != "bytes"),
    st.none() | st.integers() | st.text() | st.lists(st.text()),
)


@given(st.lists(st.tuples(WORDS, st.binary())), st.lists(st.integers(1, 30)))
def test_messages_come_out_as_they_went_in_wherever_they_are_cut(
    said: list[tuple[dict[str, Any], bytes]], cuts: list[int]
) -> None:
    stream = b"".join(encode(message, data) for message, data in said)
    heard: list[tuple[dict[str, Any], bytes]] = []
    decoder, place = Decoder(), 0
    for size in [*cuts, len(stream)]:
        heard += decoder.feed(stream[place : place + size])
        place += size
    assert heard == said


def test_a_message_is_out_as_soon_as_its_last_byte_is_in() -> None:
    # Bytes that look like messages, cut at each place, the middle of the bytes included.
    data = b'{"x": 1}\n\n{"bytes": 3}\n'
    stream = encode({"rows": "samples"}, data)
    for cut in range(len(stream)):
        decoder = Decoder()
        assert list(decoder.feed(stream[:cut])) == []
        assert list(decoder.feed(stream[cut:])) == [({"rows": "samples"}, data)]
    decoder = Decoder()
    assert list(decoder.feed(encode({"a": 1}) + stream[:-1])) == [({"a": 1}, b"")]
    assert list(decoder.feed(stream[-1:])) == [({"rows": "samples"}, data)]


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"Traceback (most recent call last):\n",
        b"[]\n",
        b'"rows"\n',
        b"3\n",
        b'{"rows": \n',
        b"\xff\xfe\n",
        b'{"bytes": "many"}\n',
    ],
)
def test_a_message_that_is_none_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        list(Decoder().feed(line))


def test_a_message_that_never_ends_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "_LINE_BYTES", 100)
    decoder = Decoder()
    assert list(decoder.feed(b"x" * 100)) == []
    with pytest.raises(ValueError, match="without an end"):
        list(decoder.feed(b"x"))
    # Its bytes may be as many as they like.
    assert list(Decoder().feed(encode({}, b"x" * 200))) == [({}, b"x" * 200)]


class Sent:
    """What a sender of rows sends, on a clock of its own."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.messages: list[tuple[dict[str, Any], bytes]] = []
        self.sender = RowSender("peaks", self.take, lambda: self.now_ns, 1000)

    def take(self, message: dict[str, Any], data: bytes) -> None:
        self.messages.append((message, data))


def test_rows_are_held_back_until_they_are_due() -> None:
    sent = Sent()
    sent.sender.write("a,1\n")
    sent.sender.write("b,é\n")
    sent.now_ns = 999
    sent.sender.flush_if_due()
    assert sent.messages == []
    sent.now_ns = 1000
    sent.sender.flush_if_due()
    expected = [({"rows": "peaks"}, "a,1\nb,é\n".encode())]
    assert sent.messages == expected
    # They are sent once, and nothing is sent where there is nothing.
    sent.now_ns = 5000
    sent.sender.flush_if_due()
    sent.sender.flush()
    assert sent.messages == expected
    sent.sender.write("c\n")
    sent.sender.flush()
    assert sent.messages[1:] == [({"rows": "peaks"}, b"c\n")]
    # Whatever was sent, an interval begins then.
    sent.sender.write("d\n")
    sent.now_ns = 5999
    sent.sender.flush_if_due()
    assert len(sent.messages) == 2
