"""The chat's bounds, in one place."""

from __future__ import annotations

from inference.protocol import MAX_BASES

TEXT_BYTES = 32_768  # One question, in UTF-8.
FRAME_CHARACTERS = 262_144  # A question written entirely in \uXXXX escapes still fits.
FRAMES_PER_SECOND = 20  # Sustained; twice as many in a burst.
FRAME_BURST = 40
STRIKES_BEFORE_CLOSE = 50  # A strike is a binary message, or one above the rate.
STRIKES_FORGIVEN_PER_SECOND = 1
RESUMED_PER_SOCKET = 16  # Answers one socket follows at a time.
RUNNING_PER_USER = 4
BASES = MAX_BASES  # One question is asked of.
BASES_LISTED = 200
TITLE_CHARACTERS = 60
TITLE_CHARACTERS_MAX = 120
CONVERSATIONS_LISTED = 200

# Sampling for chat answers, and the room kept for them in the model's context.
ANSWER_TOKENS = 1024
PARAMETERS = {"temperature": 0.2, "top_p": 0.9}
