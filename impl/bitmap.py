"""Setting bits in a dirty bitmap: bit b of word w is bit 64w + b."""

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]

_WORD_BITS = np.uint64(64)
_LAST_BIT = np.uint64(63)
_ALL_ONES = ~np.uint64(0)


def set_bits(words: Words, first: Words, last: Words) -> None:
    """Set the bits ``first[i] .. last[i]``, ends included, of a bitmap for every i."""
    first_word, last_word = first // _WORD_BITS, last // _WORD_BITS
    from_first = _ALL_ONES << (first & _LAST_BIT)
    up_to_last = _ALL_ONES >> (_LAST_BIT - (last & _LAST_BIT))
    one_word = first_word == last_word
    np.bitwise_or.at(words, first_word, np.where(one_word, from_first & up_to_last, from_first))
    np.bitwise_or.at(words, last_word, np.where(one_word, from_first & up_to_last, up_to_last))

    if one_word.all():
        return
    # The whole words between: +1 where a run enters them, -1 where it leaves.
    runs = np.zeros(words.size + 1, np.int32)
    np.add.at(runs, first_word[~one_word] + np.uint64(1), 1)
    np.subtract.at(runs, last_word[~one_word], 1)
    words[np.cumsum(runs[:-1]) > 0] = _ALL_ONES
