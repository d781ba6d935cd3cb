"""The frame of a model: the pixels that it reads of an image."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

#: The software whose results the pixels of an image equal: Pillow's, or torchvision's.
ImageBackend = Literal["pil", "torchvision"]
#: Pillow's numbers of the filters that the torchvision backend has, with their names in torch.
TORCH_FILTERS: Final = {3: "bicubic"}


class Frame(NamedTuple):
    """Height and width of a model's input, cut from the centre of a resized image, in pixels."""

    height: int
    width: int
    #: Height and width of the resized image, or the length of its shorter side; None: not resized.
    resize: tuple[int, int] | int | None

    @classmethod
    def square(cls, side: int) -> Frame:
        """Return the frame of a model that reads the whole image, resized to a square."""
        return cls(side, side, (side, side))

    @property
    def side(self) -> int:
        """The length to which the shorter side of an image may be reduced beforehand; 0: none."""
        return max(self.resize) if isinstance(self.resize, tuple) else self.resize or 0

    @property
    def bytes(self) -> int:
        """The bytes of an image's pixels: RGB, one byte each."""
        return self.height * self.width * 3

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Return the width and height of a resized image, as transformers computes them."""
        if isinstance(self.resize, tuple):
            return self.resize[1], self.resize[0]
        if self.resize is None:
            return width, height
        long = int(self.resize * max(width, height) / min(width, height))
        return (self.resize, long) if width <= height else (long, self.resize)

    def box(
        self, width: int, height: int, backend: ImageBackend = "pil"
    ) -> tuple[int, int, int, int]:
        """Return the left, upper, right and lower side of the frame in a resized image.

        They lie outside a smaller image, whose surroundings are black; of an odd number of these
        columns or rows, the larger part comes last with torchvision, and first with Pillow.
        """
        x, y = width - self.width, height - self.height
        x, y = (int(x / 2), int(y / 2)) if backend == "torchvision" else (x // 2, y // 2)
        return x, y, x + self.width, y + self.height
