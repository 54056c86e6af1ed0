"""The events of a training loop, a letter each: their order shows what the loop does when.

A healthy step reads `FLBS`: forward, loss, backward, step. Rules search the letters of a loop with
regular expressions.
"""

MAX_EVENTS = 400  # letters that are kept


class LoopEvent:
    """The letters. A forward pass has one of four, by mode and by whether it records a graph."""

    FORWARD = "F"  # in training mode, with a graph
    EVAL_FORWARD = "E"  # in evaluation mode, with a graph
    NO_GRAD_FORWARD = "N"  # in training mode, without a graph
    NO_GRAD_EVAL_FORWARD = "n"  # in evaluation mode, without a graph
    LOSS = "L"  # a loss was reported
    BACKWARD = "B"  # a gradient arrived at the observed parameter; noted in inspected steps only
    STEP = "S"  # a watched optimizer stepped
    OTHER_STEP = "s"  # an optimizer stepped that is not watched


FORWARD_EVENTS = frozenset("FENn")  # in either mode, with a graph or without
