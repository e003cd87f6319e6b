"""What an odd HTTP/2 server says, in frames and heads made by PyPI's hyperframe and hpack, which share nothing with
the client under test. Writes cases.json, which is committed, so that the tests need no Python:

    python3 -m venv .venv && .venv/bin/pip install hyperframe==6.1.0 hpack==4.2.0
    .venv/bin/python tests/support/h2_server/generate.py

The server has two requests, on the streams 1 (the subject) and 3 (the bystander), says the case's frames, and, if the
connection is still there, the bystander's answer. The outcomes:

  subject     hello: the answer's text; none: 502; again: asked on another connection, which answers;
              cut: an error after the head; broken: the same after the text;
              much: an error after as much text as was taken before its client was full
  bystander   hello, or none where the connection ends; again: as above
  reset       code of the RST_STREAM that the client sends on stream 1
  goaway      code of its GOAWAY

The openings are said in the place of its SETTINGS, on each connection that one request takes. How that ends: none or
hello, as above.
"""
import json
import pathlib
import struct

from hpack import Encoder
from hyperframe.frame import (
    AltSvcFrame, ContinuationFrame, DataFrame, GoAwayFrame, HeadersFrame, PingFrame, PriorityFrame,
    PushPromiseFrame, RstStreamFrame, SettingsFrame, WindowUpdateFrame,
)

NO_ERROR, PROTOCOL, INTERNAL, FLOW, STREAM_CLOSED, FRAME_SIZE, REFUSED, CANCEL, COMPRESSION, CALM = \
    0, 1, 2, 3, 5, 6, 7, 8, 9, 11

CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":null}]}\n\n'
BODY = CHUNK + b"data: [DONE]\n\n"
OK = [(":status", "200"), ("content-type", "text/event-stream")]


def encoder():
    made = Encoder()
    made.header_table_size = 0  # as the client asks
    made.table_size_changes.clear()
    return made


def block(fields, huffman=True):
    return encoder().encode([(n.encode("latin1"), v.encode("latin1")) for n, v in fields], huffman=huffman)


def raw(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def frame(kind, stream, flags=(), **fields):
    made = kind(stream, **fields)
    for flag in flags:
        made.flags.add(flag)
    return made.serialize()


def head(stream=1, fields=OK, end=False, **more):
    return frame(HeadersFrame, stream, ["END_HEADERS"] + (["END_STREAM"] if end else []), data=block(fields), **more)


def literal(*fields):
    """A block of literals without Huffman code, for names that no encoder would write."""
    out = b""
    for name, value in fields:
        out += b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value
    return out


def coded_head(payload, stream=1, flags=0x4):
    return raw(1, flags, stream, payload)


def data(payload=BODY, stream=1, end=True, **more):
    return frame(DataFrame, stream, ["END_STREAM"] if end else [], data=payload, **more)


def reset(code, stream=1):
    return frame(RstStreamFrame, stream, error_code=code)


def window(increment, stream):
    return raw(8, 0, stream, struct.pack(">I", increment))


def settings(values, stream=0):
    return frame(SettingsFrame, stream, settings=values)


def pieces(payload, size):
    return [payload[at:at + size] for at in range(0, len(payload), size)]


def fragments(fields, size, stream=1):
    parts = pieces(block(fields), size)
    out = [raw(1, 0, stream, parts[0])]
    out += [frame(ContinuationFrame, stream, data=part) for part in parts[1:-1]]
    return b"".join(out + [frame(ContinuationFrame, stream, ["END_HEADERS"], data=parts[-1])])


ANSWER = head() + data()
STATUS = block([(":status", "200")])
REAL_HEAD = [
    (":status", "200"), ("date", "Thu, 26 Nov 2026 12:34:56 GMT"),
    ("content-type", "text/event-stream; charset=utf-8"), ("access-control-expose-headers", "X-Request-ID"),
    ("openai-organization", "some-organization-x1y2z3"), ("openai-processing-ms", "183"),
    ("openai-project", "proj_AbCdEfGhIjKlMnOpQrStUvWx"), ("openai-version", "2020-10-01"),
    ("x-envoy-upstream-service-time", "207"), ("x-ratelimit-limit-requests", "30000"),
    ("x-ratelimit-limit-tokens", "150000000"), ("x-ratelimit-remaining-requests", "29999"),
    ("x-ratelimit-remaining-tokens", "149999985"), ("x-ratelimit-reset-requests", "2ms"),
    ("x-ratelimit-reset-tokens", "0s"), ("x-request-id", "req_0123456789abcdef0123456789abcdef"),
    ("cf-cache-status", "DYNAMIC"), ("set-cookie", "__cf_bm=" + "aB3_" * 30 + "; path=/; HttpOnly; Secure"),
    ("strict-transport-security", "max-age=31536000; includeSubDomains; preload"),
    ("x-content-type-options", "nosniff"), ("server", "cloudflare"), ("cf-ray", "8e9a1b2c3d4e5f60-FRA"),
    ("alt-svc", 'h3=":443"; ma=86400'),
]

CASES = []
OPENINGS = []


def case(name, says, subject="hello", bystander="hello", reset=None, goaway=None):
    parts = [(says, 1)] if isinstance(says, bytes) else says
    says = [[part.hex(), times] for part, times in parts]
    CASES.append(dict(name=name, says=says, subject=subject, bystander=bystander, reset=reset, goaway=goaway))


def opening(name, says, outcome="none", goaway=None, connections=1):
    OPENINGS.append(dict(name=name, says=says.hex(), outcome=outcome, goaway=goaway, connections=connections))


def fatal(name, says, code, subject="none", bystander="none"):
    case(name, says, subject, bystander, goaway=code)


def lost(name, says, code, subject="none"):
    case(name, says, subject, reset=code)


# What is odd, but allowed.
case("an answer", ANSWER)
case("a real provider's head", head(fields=REAL_HEAD) + data())
case("a head in fragments of a byte", fragments(OK, 1) + data())
case("a head with an empty fragment", raw(1, 0, 1, STATUS) + raw(9, 0, 1) + raw(9, 4, 1) + data())
case("a head with padding and a priority",
     frame(HeadersFrame, 1, ["END_HEADERS", "PADDED", "PRIORITY"], data=block(OK),
                                         pad_length=200, depends_on=0, stream_weight=7) + data())
case("data with padding", head() + frame(DataFrame, 1, ["PADDED", "END_STREAM"], data=BODY, pad_length=255))
case("data that is padding alone", head() + frame(DataFrame, 1, ["PADDED"], data=b"", pad_length=9) + data())
case("data in pieces of a byte", head() + b"".join(data(p, end=False) for p in pieces(BODY, 1)) + data(b""))
case("empty data at the end", head() + data(end=False) + data(b""))
case("trailers", head() + data(end=False) + head(fields=[("grpc-status", "0")], end=True))
case("heads of 1xx", head(fields=[(":status", "102")]) + head(fields=[(":status", "103"), ("link", "</x>")]) + ANSWER)
case("a literal status", coded_head(literal((b":status", b"200"))) + data())
case("a change of the table's size, at the beginning", coded_head(b"\x20" + STATUS) + data())
case("fields that are to be put into a table", coded_head(STATUS + b"\x40\x01a\x01b" + b"\x61\x01c") + data())
case("the content length of the body", head(fields=OK + [("content-length", str(len(BODY)))]) + data())
case("PRIORITY", frame(PriorityFrame, 1, depends_on=0, stream_weight=1) + ANSWER
     + frame(PriorityFrame, 1, depends_on=0, stream_weight=1))
case("PING, unasked and as an answer", frame(PingFrame, 0, opaque_data=b"12345678") + ANSWER
     + frame(PingFrame, 0, ["ACK"], opaque_data=b"abcdefgh"))
case("SETTINGS in the middle", settings({4: 100000}) + head() + settings({3: 50, 5: 20000, 0x99: 7}) + data())
case("an acknowledgement of SETTINGS too many", raw(4, 1, 0) + ANSWER)
case("frames of unknown types and flags", raw(0x55, 0xff, 1, b"x") + raw(0xaa, 0, 0) + raw(1, 0xd4 & ~0x28, 1, block(OK)) + data())
case("ALTSVC", frame(AltSvcFrame, 0, origin=b"https://a.example", field=b'h2=":1"') + ANSWER)
case("a window update after the end", ANSWER + window(100, 1))
case("a reset after the end", ANSWER + reset(NO_ERROR))
case("the reserved bits set", raw(1, 4, 0x80000001, block(OK)) + raw(0, 1, 0x80000001, BODY)
     + raw(8, 0, 0, b"\x80\0\0\1"))
case("GOAWAY that lets both finish", frame(GoAwayFrame, 0, last_stream_id=3) + ANSWER, goaway=NO_ERROR)
case("GOAWAY twice, as a server does that drains",
     frame(GoAwayFrame, 0, last_stream_id=0x7fffffff) + frame(GoAwayFrame, 0, last_stream_id=3) + ANSWER,
     goaway=NO_ERROR)

# What sends a request elsewhere: the server has not looked at it.
case("a refused stream", reset(REFUSED), subject="again")
case("a refused stream after 1xx", head(fields=[(":status", "103")]) + reset(REFUSED), subject="again")
case("GOAWAY before the bystander", frame(GoAwayFrame, 0, last_stream_id=1) + ANSWER, bystander="again",
     goaway=NO_ERROR)
case("GOAWAY before both", frame(GoAwayFrame, 0, last_stream_id=0, error_code=CALM, additional_data=b"too_many_pings"),
     subject="again", bystander="again", goaway=NO_ERROR)
# And what does not, since it has.
case("a reset", reset(INTERNAL), subject="none")
case("a reset in the answer", head() + data(CHUNK, end=False) + reset(CANCEL), subject="broken")
case("a refused stream in the answer", head() + data(CHUNK, end=False) + reset(REFUSED), subject="broken")
case("GOAWAY before a stream that has its head", head() + data(CHUNK, end=False)
     + frame(GoAwayFrame, 0, last_stream_id=0), subject="broken", bystander="again", goaway=NO_ERROR)

# What ends a stream, and no other.
lost("data before the head", data(), PROTOCOL)
lost("an end before the head", data(b""), PROTOCOL)
lost("a head without a status", head(fields=[("content-type", "text/plain")]), PROTOCOL)
lost("two statuses", head(fields=[(":status", "200"), (":status", "200")]), PROTOCOL)
lost("a status that is none", coded_head(literal((b":status", b"20"))), PROTOCOL)
lost("a switch of protocols", head(fields=[(":status", "101")]), PROTOCOL)
lost("a status after a field", coded_head(literal((b"a", b"b"), (b":status", b"200"))), PROTOCOL)
lost("an unknown pseudo-field", coded_head(STATUS + literal((b":path", b"/"))), PROTOCOL)
lost("a name in upper case", coded_head(STATUS + literal((b"Content-Type", b"text/plain"))), PROTOCOL)
lost("a name with a space", coded_head(STATUS + literal((b"a b", b"c"))), PROTOCOL)
lost("no name", coded_head(STATUS + literal((b"", b"c"))), PROTOCOL)
lost("a line break in a value", coded_head(STATUS + literal((b"content-type", b"a\r\nb"))), PROTOCOL)
lost("a space at a value's end", coded_head(STATUS + literal((b"content-type", b"a "))), PROTOCOL)
lost("the field connection", head(fields=OK + [("connection", "close")]), PROTOCOL)
lost("the field transfer-encoding", head(fields=OK + [("transfer-encoding", "chunked")]), PROTOCOL)
lost("an end after 1xx", head(fields=[(":status", "103")], end=True), PROTOCOL)
lost("a hundred heads of 1xx", [(head(fields=[(":status", "103")]), 100)], CALM)
lost("a second head", head() + data(CHUNK, end=False) + head(), PROTOCOL, "broken")
lost("a status in trailers", head() + data(CHUNK, end=False) + head(end=True), PROTOCOL, "broken")
lost("upper case in trailers", head() + data(CHUNK, end=False) + coded_head(literal((b"A", b"b")), flags=5), PROTOCOL,
     "broken")
lost("more data than the content length", head(fields=OK + [("content-length", str(len(CHUNK)))])
     + data(CHUNK, end=False) + data(b": more\n\n"), PROTOCOL, "broken")
lost("less data than the content length", head(fields=OK + [("content-length", "1000")]) + data(CHUNK), PROTOCOL,
     "broken")
lost("a content length and no data", head(fields=OK + [("content-length", "1000")], end=True), PROTOCOL, "cut")
lost("two content lengths", head(fields=OK + [("content-length", "1"), ("content-length", "2")]), PROTOCOL)
lost("a head of 80 kB", fragments(OK + [("x-large-%d" % i, "~" * 900) for i in range(80)], 16384), CALM)
case("data beyond the window, where nobody takes any", [
    (head(), 1),
    (data(CHUNK.replace(b"Hello", b"x" * 16000), end=False), 200),
], subject="much", reset=FLOW)
lost("PRIORITY of a wrong length", raw(2, 0, 1, b"1234"), FRAME_SIZE)
lost("a window update by nothing", window(0, 1), PROTOCOL)
lost("a window beyond the bound", window(0x7fffffff, 1), FLOW)
case("data after the end", ANSWER + data(b": late\n\n", end=False), reset=STREAM_CLOSED)
case("a head after the end", ANSWER + head(end=True), reset=STREAM_CLOSED)

# What ends the connection.
fatal("DATA on stream 0", raw(0, 0, 0, b"x"), PROTOCOL)
fatal("HEADERS on stream 0", raw(1, 4, 0, STATUS), PROTOCOL)
fatal("PRIORITY on stream 0", raw(2, 0, 0, b"12345"), PROTOCOL)
fatal("RST_STREAM on stream 0", raw(3, 0, 0, b"1234"), PROTOCOL)
fatal("SETTINGS on a stream", raw(4, 0, 1), PROTOCOL)
fatal("PUSH_PROMISE", frame(PushPromiseFrame, 1, ["END_HEADERS"], promised_stream_id=2, data=STATUS), PROTOCOL)
fatal("PING on a stream", raw(6, 0, 1, b"12345678"), PROTOCOL)
fatal("GOAWAY on a stream", raw(7, 0, 1, b"12345678"), PROTOCOL)
fatal("CONTINUATION on stream 0", raw(9, 4, 0, b""), PROTOCOL)
fatal("DATA on a stream that was never opened", data(stream=99), PROTOCOL)
fatal("HEADERS on a stream that was never opened", head(stream=5), PROTOCOL)
fatal("HEADERS on a stream of the server's", head(stream=2), PROTOCOL)
fatal("RST_STREAM on a stream that was never opened", reset(CANCEL, 7), PROTOCOL)
fatal("WINDOW_UPDATE on a stream that was never opened", window(1, 7), PROTOCOL)
fatal("RST_STREAM of a wrong length", raw(3, 0, 1, b"123"), FRAME_SIZE)
fatal("SETTINGS of a wrong length", raw(4, 0, 0, b"12345"), FRAME_SIZE)
fatal("an acknowledgement of SETTINGS with a payload", raw(4, 1, 0, b"123456"), FRAME_SIZE)
fatal("PING of a wrong length", raw(6, 0, 0, b"1234567"), FRAME_SIZE)
fatal("GOAWAY of a wrong length", raw(7, 0, 0, b"1234567"), FRAME_SIZE)
fatal("WINDOW_UPDATE of a wrong length", raw(8, 0, 1, b"123"), FRAME_SIZE)
fatal("a frame that is too long", raw(0, 0, 1, b"x" * 16385), FRAME_SIZE)
fatal("a frame of an unknown type that is too long", raw(0x77, 0, 0, b"x" * 16385), FRAME_SIZE)
fatal("padded DATA without room for a length", raw(0, 8, 1), FRAME_SIZE)
fatal("padding longer than its DATA", head() + raw(0, 8, 1, b"\x05abcd"), PROTOCOL, subject="cut")
fatal("padding longer than its HEADERS", raw(1, 0xc, 1, b"\xff" + STATUS), PROTOCOL)
fatal("HEADERS too short for their priority", raw(1, 0x24, 1, b"123"), FRAME_SIZE)
fatal("CONTINUATION without HEADERS", raw(9, 4, 1, STATUS), PROTOCOL)
fatal("CONTINUATION after the head's end", head() + raw(9, 4, 1, STATUS), PROTOCOL, subject="cut")
fatal("CONTINUATION on another stream", raw(1, 0, 1, STATUS) + raw(9, 4, 3, b""), PROTOCOL)
fatal("DATA within a head", raw(1, 0, 1, STATUS) + data(), PROTOCOL)
fatal("PING within a head", raw(1, 0, 1, STATUS) + frame(PingFrame, 0, opaque_data=b"12345678"), PROTOCOL)
fatal("an unknown frame within a head", raw(1, 0, 1, STATUS) + raw(0x77, 0, 1), PROTOCOL)
fatal("650 kB of fragments of a byte", [(raw(1, 0, 1, STATUS), 1), (raw(9, 0, 1, b"\x20"), 65000)], CALM)
fatal("empty fragments for ever", [(raw(1, 0, 1, STATUS), 1), (raw(9, 0, 1), 1000)], CALM)
fatal("ENABLE_PUSH", settings({2: 1}), PROTOCOL)
fatal("a first window beyond the bound", raw(4, 0, 0, b"\0\4\x80\0\0\0"), FLOW)
fatal("a first window that makes a stream's too large", window(0x7fff0000, 1) + settings({4: 0x7fffffff}), FLOW)
fatal("a maximum frame below the least", raw(4, 0, 0, b"\0\5\0\0\x3f\xff"), PROTOCOL)
fatal("a maximum frame beyond the largest", raw(4, 0, 0, b"\0\5\x01\0\0\0"), PROTOCOL)
fatal("a window update of the connection by nothing", window(0, 0), PROTOCOL)
fatal("a window of the connection beyond the bound", window(0x7fffffff, 0), FLOW)
fatal("HPACK: index 0", coded_head(b"\x80"), COMPRESSION)
fatal("HPACK: an index beyond the static table", coded_head(STATUS + b"\xbe"), COMPRESSION)
fatal("HPACK: a name beyond the static table", coded_head(STATUS + b"\x7e\x01a"), COMPRESSION)
fatal("HPACK: a table that grows", coded_head(b"\x3f\xe1\x1f" + STATUS), COMPRESSION)
fatal("HPACK: a change of the table's size within a block", coded_head(STATUS + b"\x20"), COMPRESSION)
fatal("HPACK: an endless integer", coded_head(b"\xff" * 12), COMPRESSION)
fatal("HPACK: a string that is cut off", coded_head(STATUS + b"\0\x05ab"), COMPRESSION)
fatal("HPACK: EOS in a name", coded_head(STATUS + b"\0\x84\xff\xff\xff\xff\0"), COMPRESSION)
fatal("HPACK: eight bits of padding", coded_head(STATUS + b"\0\x82\x1f\xff\0"), COMPRESSION)
fatal("HPACK: padding of zeros", coded_head(STATUS + b"\0\x81\x18\0"), COMPRESSION)
fatal("HPACK: in trailers", head() + data(CHUNK, end=False) + coded_head(b"\xbe", flags=5), COMPRESSION,
      subject="broken")

# How a connection may begin.
SETTINGS = settings({3: 100})
opening("a first frame that is no SETTINGS", frame(PingFrame, 0, opaque_data=b"12345678") + SETTINGS,
        goaway=PROTOCOL)
opening("a first frame that acknowledges SETTINGS", raw(4, 1, 0) + SETTINGS, goaway=PROTOCOL)
opening("GOAWAY as the first frame", frame(GoAwayFrame, 0, last_stream_id=0) + SETTINGS, goaway=NO_ERROR)
opening("GOAWAY right behind its SETTINGS", SETTINGS + frame(GoAwayFrame, 0, last_stream_id=0), goaway=NO_ERROR)
opening("SETTINGS that let no stream begin", settings({3: 0}), goaway=NO_ERROR)
opening("the greeting of another protocol", b"220 mail.example ESMTP\r\n", goaway=FRAME_SIZE)
opening("SETTINGS, after all those", SETTINGS, outcome="hello")
# From here on the daemon asks in HTTP/1.1.
opening("an answer in HTTP/1.1", b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        connections=2)

# What an encoder of another make does with heads: with and without Huffman code.
HEADS = []
for fields in (REAL_HEAD, OK, [(":status", "404"), ("x", "".join(map(chr, range(1, 256))))]):
    for huffman in (True, False):
        HEADS.append(dict(block=block(fields, huffman).hex(), fields=fields))

target = pathlib.Path(__file__).with_name("cases.json")
target.write_text(json.dumps(dict(
    opening=SETTINGS.hex(), answer=dict(one=ANSWER.hex(), three=(head(3) + data(stream=3)).hex()),
    cases=CASES, openings=OPENINGS, heads=HEADS,
), indent=1) + "\n")
print(len(CASES), "cases,", target.stat().st_size, "bytes")
