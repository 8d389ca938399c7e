"""Layouts of tensors on the chip, and back to the shape that the ONNX file gives them.

The chip computes on blocks of 16 channels (``C0``), or of 16 x 16 elements of a matrix; what does not
fill a block is padding.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

FORMATS = {
    0: "NCHW",
    1: "NHWC",
    2: "ND",
    3: "NC1HWC0",
    4: "FRACTAL_Z",
    12: "NC1HWC0_C04",
    16: "HWCN",
    27: "NDHWC",
    29: "FRACTAL_NZ",
    30: "NCDHW",
    31: "DHWCN",
    32: "NDC1HWC0",
    33: "FRACTAL_Z_3D",
}
PLAIN = ("NCHW", "ND", "NCDHW")


def logical_array(array: "Array", layout: str, shape: tuple[int, ...]) -> "Array":
    """Return a tensor of the chip in its logical shape, without the padding.

    Raises:
        ValueError: the layout is not known, or the shapes do not fit it.
    """
    if layout in PLAIN:
        return array.reshape(shape)
    if layout in ("NC1HWC0", "NC1HWC0_C04"):
        n, c1, h, w, c0 = array.shape
        whole = array.transpose(0, 1, 4, 2, 3).reshape(n, c1 * c0, h, w)
    elif layout == "NDC1HWC0":
        n, d, c1, h, w, c0 = array.shape
        whole = array.transpose(0, 2, 5, 1, 3, 4).reshape(n, c1 * c0, d, h, w)
    elif layout == "FRACTAL_NZ":
        *batch, c1, n1, n0, c0 = array.shape
        axes = range(len(batch))
        order = (*axes, *(len(batch) + axis for axis in (1, 2, 0, 3)))
        whole = array.transpose(order).reshape(*batch, n1 * n0, c1 * c0)
    else:
        raise ValueError(f"this reader does not know the layout {layout}")
    return _cut(whole, shape)


def _cut(whole: "Array", shape: tuple[int, ...]) -> "Array":
    fits = len(shape) == whole.ndim and all(map(int.__le__, shape, whole.shape))
    if not fits:
        raise ValueError(f"a tensor of shape {whole.shape} cannot hold one of shape {shape}")
    return whole[tuple(slice(size) for size in shape)]
