"""Header checks and samples of PPM, PGM, PBM and PFM files."""

from __future__ import annotations

from typing import Any, Final

from PIL import Image
from PIL.ImageFile import PyDecoder
from PIL.PpmImagePlugin import PpmImageFile

from worker.images.limits import too_complex

KINDS: Final = (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"Pf")
#: Maximum bytes of the header with its comments.
HEADER_BYTES: Final = 4096
_CODEC: Final = "scaled_ppm"


def check_ppm(data: bytes) -> None:
    """Raise ItemRejected for a header that is too long: Pillow reads it byte by byte."""
    # The kind, then width and height, then (in most kinds) the maximum value.
    required = 3 if data[1:2] in b"14" else 4
    fields, in_comment, in_field = 0, False, False
    for byte in data[:HEADER_BYTES]:
        if in_comment:
            in_comment = byte not in b"\r\n"
        elif byte == ord("#"):
            in_comment = True
        elif byte in b" \t\r\n\v\f":
            fields += in_field
            in_field = False
            if fields == required:
                return
        else:
            in_field = True
    if len(data) > HEADER_BYTES:
        raise too_complex("bytes in its header")


class ScaledPpm(PpmImageFile):
    """A PPM whose binary samples of any maximum value are scaled in one step.

    Pillow scales them one by one in Python.
    """

    def _open(self) -> None:
        super()._open()
        self.tile = [
            tile._replace(codec_name=_CODEC) if tile.codec_name == "ppm" else tile
            for tile in self.tile
        ]


class _ScalingDecoder(PyDecoder):
    _pulls_fd = True

    def decode(self, buffer: Any) -> tuple[int, int]:
        """Decode the samples, with the same result as Pillow's decoder.

        Colours of 16 bits that are all below 256 keep their values, as in other formats.
        """
        # Late import: these rare images need numpy, the others do not.
        import numpy as np

        assert self.fd is not None
        maximum = self.args[-1]
        top, raw_mode = (65535, "I;32") if self.mode == "I" else (255, self.mode)
        form = np.dtype("u1" if maximum < 256 else ">u2")
        count = self.state.xsize * self.state.ysize * len(Image.new(self.mode, (1, 1)).getbands())
        data = self.fd.read(count * form.itemsize)
        samples = np.frombuffer(data, form, count=len(data) // form.itemsize)
        scaled = np.rint(np.arange(1 << 8 * form.itemsize) / maximum * top)
        if top == 255 < maximum:
            in_16_bits = np.rint(np.arange(1 << 16) / maximum * 65535)
            if in_16_bits[samples.max(initial=0)] <= top:
                scaled = in_16_bits
        table = np.minimum(scaled, top).astype("u4" if self.mode == "I" else "u1")
        self.set_as_raw(table[samples].tobytes(), raw_mode)
        return -1, 0


Image.register_decoder(_CODEC, _ScalingDecoder)
