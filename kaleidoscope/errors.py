"""Errors that Kaleidoscope raises, one class per stage of the pipeline.

Every error derives from :class:`KaleidoscopeError` and says with ``retryable`` whether doing
the same thing again can help. Messages name the key or field, the value seen, the value wanted
and what the user can do.
"""

from typing import ClassVar


class KaleidoscopeError(Exception):
    """Base of every error that Kaleidoscope raises on purpose."""

    retryable: ClassVar[bool] = False


class RecipeError(KaleidoscopeError):
    """A recipe cannot be read, or a field of it has a value out of range."""


class SettingsError(KaleidoscopeError):
    """A setting, a URI or a credential is missing or malformed."""


class TransformError(KaleidoscopeError):
    """A transform was given a parameter or an image that it cannot take."""


class CodecError(KaleidoscopeError):
    """Bytes are not an image that can be decoded, or pixels cannot be encoded."""


class StoreError(KaleidoscopeError):
    """A store did not do what it was asked; it may be down, so a retry can help."""

    retryable: ClassVar[bool] = True


class ObjectMissingError(StoreError):
    """The store answered, and there is no object at this key."""

    retryable: ClassVar[bool] = False


class ObjectExistsError(StoreError):
    """The store answered, and there is an object at this key already."""

    retryable: ClassVar[bool] = False


class AccessError(StoreError):
    """The store answered that this caller may not do this, or that the bucket is not there."""

    retryable: ClassVar[bool] = False


class PlanError(KaleidoscopeError):
    """No plan can be made of these sources, this recipe and this destination."""


class ManifestError(KaleidoscopeError):
    """A manifest or one of its parts is missing, damaged or contradicts another."""


class RunError(KaleidoscopeError):
    """A run cannot be finished; what is done is kept and the run can be resumed."""
