"""The agents' frames, as far as faults need them: their bounds, their checksum, messages as wholes, one hello changed.
Layout: docs/protocol.md, sections 1, 2 and 4. The checksum is XXH3, of the library that the agents use as well."""
import ctypes
import struct

HEADER = 24
HELLO, HEAD_CONTROL, HEAD_BULK, BODY_BULK = 1, 4, 5, 7
IGNORABLE, WITH_BODY = 1, 2
STRANGE = 200   # a type that nobody knows
FUTURE_KEY = 77


def library():
    """libxxhash; OSError when the machine has none."""
    lib = ctypes.CDLL("libxxhash.so.0")
    lib.XXH3_64bits_withSeed.restype = ctypes.c_uint64
    lib.XXH3_64bits_withSeed.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]
    return lib


def make(kind, flags, value, payload, lib):
    head = struct.pack("<IBBHQ", len(payload), kind, flags, 0, value)
    seed = lib.XXH3_64bits_withSeed(head, len(head), 0)
    return head + struct.pack("<Q", lib.XXH3_64bits_withSeed(payload, len(payload), seed)) + payload


def remake(frame, payload, lib):
    """The same frame with another payload."""
    _, kind, flags, _, value = struct.unpack_from("<IBBHQ", frame)
    return make(kind, flags, value, payload, lib)


def kind_of(frame):
    return frame[4]


class Splitter:
    """Cuts a stream into units: whole messages (a head alone, or with its body), and the other frames as they are."""

    def __init__(self):
        self.buffer = b""
        self.bulk, self.missing = b"", 0

    def feed(self, data):
        """[(unit, whether it is a message)] that data completes."""
        self.buffer += data
        found = []
        while len(self.buffer) >= HEADER:
            size = HEADER + struct.unpack_from("<I", self.buffer)[0]
            if len(self.buffer) < size:
                break
            frame, self.buffer = self.buffer[:size], self.buffer[size:]
            found += self._frame(frame)
        return found

    def _frame(self, frame):
        kind, flags, value = frame[4], frame[5], struct.unpack_from("<Q", frame, 8)[0]
        if kind == HEAD_CONTROL and not flags & WITH_BODY:
            return [(frame, True)]
        if kind == HEAD_BULK and flags & WITH_BODY and value > 0:
            self.bulk, self.missing = frame, value
            return []
        if kind == BODY_BULK and self.missing > 0:
            self.bulk += frame
            self.missing -= len(frame) - HEADER
            if self.missing > 0:
                return []
            unit, self.bulk = self.bulk, b""
            return [(unit, True)]
        return [(frame, kind == HEAD_BULK)]


def later_version(frame, lib):
    """A hello that says the next version of the protocol."""
    payload = bytearray(frame[HEADER:])
    struct.pack_into("<H", payload, 8, struct.unpack_from("<H", payload, 8)[0] + 1)
    return remake(frame, bytes(payload), lib)


def from_the_future(unit, lib):
    """The same message with a key that nobody knows in its head, behind a frame of an unknown type that may be ignored.
    None when the head cannot take one more key."""
    size = HEADER + struct.unpack_from("<I", unit)[0]
    frame, rest = unit[:size], unit[size:]
    payload = frame[HEADER:]
    if payload[:1] < b"\x80" or payload[:1] >= b"\x8f":
        return None
    payload = bytes([payload[0] + 1]) + payload[1:] + bytes([FUTURE_KEY]) + b"\xa5later"
    return make(STRANGE, IGNORABLE, 7, b"not yet", lib) + remake(frame, payload, lib) + rest


def hello(version, role, cluster, name, number, boot, port=0):
    """The payload of a hello."""
    return b"gadabout" + struct.pack("<HBBHH16sQQQ", version, role, 0, port, 0, cluster, number, boot, name)
