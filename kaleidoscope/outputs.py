"""An output as its row of the manifest says where it is: an object, or a member of a tar."""

from kaleidoscope.codecs import decode, decode_mask, probe
from kaleidoscope.model import BgrImage, Mask
from kaleidoscope.stores import Store

ANY_SIZE = 2**40
"""Pixels: a run that read or wrote an image could hold it."""


def read_output(
    store: Store,
    output_key: str,
    tar_key: str | None = None,
    offset: int | None = None,
    length: int | None = None,
) -> bytes:
    """Return the encoded image, by one request.

    Args:
        store: What the run wrote to.
        output_key: Where the image is, in the store or within its tar.
        tar_key: The tar's; None for an object of its own.
        offset: Bytes from the tar's begin to the member's content.
        length: Bytes of that content.

    Raises:
        StoreError: If it cannot be read.
    """
    if tar_key is None or offset is None or length is None:
        return store.get(output_key).data
    return store.get_range(tar_key, offset=offset, length=length)


def decode_output(data: bytes) -> BgrImage:
    """Return an output's pixels, ``(H, W, 3)`` uint8, BGR.

    Raises:
        CodecError: If it cannot be decoded.
    """
    return decode(data, probe(data, max_pixels=ANY_SIZE))


def decode_output_mask(data: bytes) -> Mask:
    """Return the values of an output's mask, ``(H, W)`` or ``(H, W, C)``, uint8 or uint16.

    Raises:
        CodecError: If it cannot be decoded.
    """
    return decode_mask(data, max_pixels=ANY_SIZE)
