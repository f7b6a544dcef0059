"""Whether a destination holds what its manifest says, and only that."""

from kaleidoscope.verification._files import Problem
from kaleidoscope.verification._replaying import ReplayedOutput, replay_outputs
from kaleidoscope.verification._verifying import (
    EXAMPLES,
    Verification,
    VerifyOptions,
    verify,
)

__all__ = [
    "EXAMPLES",
    "Problem",
    "ReplayedOutput",
    "Verification",
    "VerifyOptions",
    "replay_outputs",
    "verify",
]
