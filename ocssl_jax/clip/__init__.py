"""Continual CLIP with a small memory: towers, weights, words, objectives, memory.

`architecture` names the networks, `towers` is them, `weights` reads and writes their
files, `tokenizer` and `zero_shot` turn class names into a classifier; `contrast` and
`objectives` are what is minimised, `memory` and `sampler` which rows are kept and seen.

The paper (King, Li, Yang, Mortazavi 2026, arXiv 2605.03866) has no released code, and
of its text only the prose was at hand: each formula says whether it is stated there
[S], reconstructed with strong support from the works it cites [R+], or the best guess
[R]. No published number is claimed.
"""
