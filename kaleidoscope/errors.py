"""Errors that Kaleidoscope raises, one class per stage of the pipeline.

Every error derives from :class:`KaleidoscopeError` and says with ``retryable`` whether doing
the same thing again can help. Messages name the key or field, the value seen, the value wanted
and what the user can do.
"""

from typing import ClassVar


class KaleidoscopeError(Exception):
    """Base of every error that Kaleidoscope raises on purpose."""

    retryable: ClassVar[bool] = False

    reason: ClassVar[str] = "error"
    """What reports count failed sources by; one word for each class, stable between releases."""


class RecipeError(KaleidoscopeError):
    """A recipe cannot be read, or a field of it has a value out of range."""


class SettingsError(KaleidoscopeError):
    """A setting, a URI or a credential is missing or malformed."""


class TransformError(KaleidoscopeError):
    """A transform was given a parameter or an image that it cannot take."""

    reason: ClassVar[str] = "transform"


class TargetError(KaleidoscopeError):
    """A box or a mask does not fit its image."""

    reason: ClassVar[str] = "target"


class CodecError(KaleidoscopeError):
    """Bytes are not an image that can be decoded, or pixels cannot be encoded."""

    reason: ClassVar[str] = "codec"


class EmptyFileError(CodecError):
    """There are no bytes at all."""

    reason: ClassVar[str] = "empty"


class NotAnImageError(CodecError):
    """The bytes begin like no image format that Kaleidoscope knows of."""

    reason: ClassVar[str] = "not_an_image"


class UnsupportedFormatError(CodecError):
    """An image, but of a format or with a compression that is not read here."""

    reason: ClassVar[str] = "unsupported_format"


class UnsupportedDepthError(CodecError):
    """An image of a format that is read, but with samples or channels that are not."""

    reason: ClassVar[str] = "unsupported_depth"


class TruncatedImageError(CodecError):
    """The file ends before the image does."""

    reason: ClassVar[str] = "truncated"


class CorruptImageError(CodecError):
    """The file is whole by its own account, but the picture cannot be read from it."""

    reason: ClassVar[str] = "corrupt"


class ZeroAreaError(CodecError):
    """The image says that it has no pixels."""

    reason: ClassVar[str] = "zero_area"


class ImageTooLargeError(CodecError):
    """The image has more pixels than the limit, or longer sides than its codec can take."""

    reason: ClassVar[str] = "too_large"


class EncodeError(CodecError):
    """These pixels cannot be written in this format with these parameters."""

    reason: ClassVar[str] = "not_encodable"


class StoreError(KaleidoscopeError):
    """A store did not do what it was asked; it may be down, so a retry can help."""

    retryable: ClassVar[bool] = True


class ObjectMissingError(StoreError):
    """The store answered, and there is no object at this key."""

    retryable: ClassVar[bool] = False
    reason: ClassVar[str] = "missing"


class ObjectExistsError(StoreError):
    """The store answered, and there is an object at this key already."""

    retryable: ClassVar[bool] = False


class ObjectChangedError(StoreError):
    """The store answered, and the object is another version than the one to be replaced."""

    retryable: ClassVar[bool] = False


class AccessError(StoreError):
    """The store answered that this caller may not do this, or that the bucket is not there."""

    retryable: ClassVar[bool] = False
    reason: ClassVar[str] = "access_denied"


class PlanError(KaleidoscopeError):
    """No plan can be made of these sources, this recipe and this destination."""


class ManifestError(KaleidoscopeError):
    """A manifest or one of its parts is missing, damaged or contradicts another."""


class TarError(KaleidoscopeError):
    """A tar is not laid out as one: a header is damaged, or its end is missing."""


class RunError(KaleidoscopeError):
    """A run cannot be finished; what is done is kept and the run can be resumed."""


class LeaseError(RunError):
    """Another run is at work in the destination; when it has ended, a retry can help."""

    retryable: ClassVar[bool] = True


class LoaderError(KaleidoscopeError):
    """Rows of a manifest are not what a training can be fed with."""


class SplitError(KaleidoscopeError):
    """A data set cannot be split as asked, or a split cannot be told from what is given."""
