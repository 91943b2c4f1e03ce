"""When an edit holds: the limits of its self-check, in code, commands and pages.

>>> RESIDUAL, DRIFT, SHOWN
(0.3, 0.1, 0.25)
"""

#: Largest residual of a concept in sentences that the edit was not solved for.
RESIDUAL = 0.3
#: Largest mean drift of texts that should stay.
DRIFT = 0.1
#: An erased concept may be seen in at most this share of pictures, at the upper 95 % limit.
SHOWN = 0.25
