"""The one door to image files: bytes to a header, bytes to pixels, pixels to bytes.

OpenCV decodes and encodes. What a file says of itself is read here, one module for each
container, since that has to happen before memory is given to its pixels, and since decoders
return a picture for a file that is cut in the middle.
"""

from kaleidoscope.codecs._decode import Reduction, decode, reduction_for
from kaleidoscope.codecs._encode import EncodeSpec, Subsampling, encode, extension_for
from kaleidoscope.codecs._header import Alpha, ImageFormat, ImageHeader, Mode
from kaleidoscope.codecs._masks import decode_mask, encode_mask
from kaleidoscope.codecs._probe import MAX_SIDE, probe

__all__ = [
    "MAX_SIDE",
    "Alpha",
    "EncodeSpec",
    "ImageFormat",
    "ImageHeader",
    "Mode",
    "Reduction",
    "Subsampling",
    "decode",
    "decode_mask",
    "encode",
    "encode_mask",
    "extension_for",
    "probe",
    "reduction_for",
]
