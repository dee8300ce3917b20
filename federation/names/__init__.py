"""What a name is, for keys only: folded characters, syllables, and syllables with confusable sounds merged.

Nothing here is ever shown or printed on a certificate: display uses the original characters. Both sides of the wire
must fold alike, hence versioned tables; an index built with another version asks for a re-import.
"""

from federation.names.folding import (
    FOLD_VERSION,
    fold,
    fold_text,
    strip,
    surname_alternatives,
    surname_length,
)
from federation.names.pinyin import (
    PINYIN_VERSION,
    SOUNDS,
    fuzzy_syllables,
    sound_code,
    spelled,
    syllables,
)
from federation.names.shapes import alike

__all__ = [
    "FOLD_VERSION",
    "PINYIN_VERSION",
    "SOUNDS",
    "alike",
    "fold",
    "fold_text",
    "fuzzy_syllables",
    "sound_code",
    "spelled",
    "strip",
    "surname_alternatives",
    "surname_length",
    "syllables",
]
