"""Size checks of AV1 bitstreams: dav1d allocates the size that the stream declares, not the file.

Only the fields that determine the size of a frame are read (AV1 specification, 5.5 and 5.9).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from producer.contract import ErrorCode
from worker.errors import ItemRejected
from worker.images.boxes import damaged
from worker.images.limits import too_complex

#: Maximum frames of an item: one, or one for each spatial layer. The decoder decodes all of them.
MAX_FRAMES: Final = 4
#: Maximum units of an item: an image has about three.
MAX_UNITS: Final = 1024
#: Bytes that hold all fields which are read, of a sequence header with 32 operating points.
_HEAD_BYTES: Final = 512

_SEQUENCE: Final = 1
_FRAME_HEADERS: Final = (3, 6)
_KEY_FRAME: Final = 0
_SWITCH_FRAME: Final = 3
#: The frame header decides.
_SELECT: Final = 2


@dataclass(slots=True)
class Sequence:
    """The fields of a sequence header that determine the size of its frames."""

    is_still: bool
    width: int = 0
    height: int = 0
    #: Bits of a frame's presentation time and of its id; 0 if it has none.
    time_bits: int = 0
    id_bits: int = 0
    screen_tools: int = _SELECT
    integer_motion: int = _SELECT


class Bits:
    """A reader of bits, most significant first. Raises ItemRejected at the end."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._value = int.from_bytes(data, "big")
        self._remaining = len(data) * 8

    def read(self, count: int) -> int:
        """Read an unsigned number."""
        self._remaining -= count
        if self._remaining < 0:
            raise damaged("its AV1 header ends early")
        return self._value >> self._remaining & ((1 << count) - 1)

    def skip_uvlc(self) -> None:
        """Skip a number of variable length."""
        zeros = 0
        while not self.read(1):
            zeros += 1
        if zeros < 32:
            self.read(zeros)


def check_av1(data: memoryview, width: int, height: int) -> int:
    """Return the number of frames in an item that declares this size.

    Raises ItemRejected for a stream whose frames are larger.
    """
    sequence: Sequence | None = None
    frames = 0
    for kind, body in _units(data):
        if kind == _SEQUENCE:
            sequence = _read_sequence(Bits(body))
            if sequence.width > width or sequence.height > height:
                raise damaged("its AV1 data is larger than it declares")
        elif kind in _FRAME_HEADERS and sequence is not None:
            frames += 1
            if _has_own_size(sequence, Bits(body)):
                message = "an AVIF with layers of several sizes is not supported; save it as a PNG"
                raise ItemRejected(ErrorCode.IMAGE_INVALID, message)
        if frames > MAX_FRAMES:
            raise too_complex("frames in an item")
    if sequence is None:
        raise damaged("an AV1 image has no sequence header")
    return frames


def _units(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield type and first bytes of each unit (OBU)."""
    offset = 0
    for _ in range(MAX_UNITS):
        if offset >= len(data):
            return
        head = data[offset]
        offset += 2 if head & 4 else 1
        size = len(data) - offset
        if head & 2:
            size, offset = _leb128(data, offset)
        yield head >> 3 & 15, data[offset : offset + min(size, _HEAD_BYTES)]
        offset += size
    raise too_complex("units in an item")


def _leb128(data: memoryview, offset: int) -> tuple[int, int]:
    """Return a number of variable length, and the offset after it."""
    number = 0
    for index, byte in enumerate(data[offset : offset + 8]):
        number |= (byte & 127) << 7 * index
        if byte < 128:
            return number, offset + index + 1
    raise damaged("its AV1 data ends early")


def _read_sequence(bits: Bits) -> Sequence:
    bits.read(4)
    is_still = bool(bits.read(1))
    sequence = Sequence(is_still)
    if is_still:
        bits.read(5)
    else:
        _read_operating_points(bits, sequence)
    width_bits, height_bits = bits.read(4) + 1, bits.read(4) + 1
    sequence.width = bits.read(width_bits) + 1
    sequence.height = bits.read(height_bits) + 1
    if not is_still:
        _read_tools(bits, sequence)
    return sequence


def _read_operating_points(bits: Bits, sequence: Sequence) -> None:
    delay_bits = 0
    if bits.read(1):
        bits.read(64)
        is_equal = bits.read(1)
        if is_equal:
            bits.skip_uvlc()
        if bits.read(1):
            delay_bits = bits.read(5) + 1
            bits.read(37)
            time_bits = bits.read(5) + 1
            sequence.time_bits = 0 if is_equal else time_bits
    has_display_delay = bits.read(1)
    for _ in range(bits.read(5) + 1):
        bits.read(12)
        if bits.read(5) > 7:
            bits.read(1)
        if delay_bits and bits.read(1):
            bits.read(2 * delay_bits + 1)
        if has_display_delay and bits.read(1):
            bits.read(4)


def _read_tools(bits: Bits, sequence: Sequence) -> None:
    if bits.read(1):
        sequence.id_bits = bits.read(4) + bits.read(3) + 3
    bits.read(7)
    if bits.read(1):
        bits.read(2)
    sequence.screen_tools = _SELECT if bits.read(1) else bits.read(1)
    if sequence.screen_tools:
        sequence.integer_motion = _SELECT if bits.read(1) else bits.read(1)


def _has_own_size(sequence: Sequence, bits: Bits) -> bool:
    """Return whether a frame has a size of its own, which may exceed the sequence's."""
    if sequence.is_still or bits.read(1):
        return False
    kind, is_shown = bits.read(2), bits.read(1)
    if not is_shown:
        bits.read(1)
    else:
        bits.read(sequence.time_bits)
    if kind == _SWITCH_FRAME:
        return True
    if not (kind == _KEY_FRAME and is_shown):
        bits.read(1)
    bits.read(1)
    has_tools = bits.read(1) if sequence.screen_tools == _SELECT else sequence.screen_tools
    if has_tools and sequence.integer_motion == _SELECT:
        bits.read(1)
    bits.read(sequence.id_bits)
    return bool(bits.read(1))
