"""The rules that read the curves of a run; those with statistical tests share one budget of false
alarms.

A run is checked at fractions of its budget (`INTERIM_FRACTIONS`) and at its end. Each statistical
test at each check may err with the chance alpha / (tests · checks), so that any warning on a
healthy run has a chance of at most alpha = 5 %. Beside being sure, a difference must matter: it is
compared with the fall, from the loss of the best constant answer (or, where that is not known, from
the first loss) to the lowest.
"""

from ravine.diagnosis.rule import collect_rules
from ravine.diagnosis.training_curves import (
    rules_divergence,
    rules_duration,
    rules_learning,
    rules_overfitting,
    rules_settings,
)

ALL = collect_rules(
    rules_divergence, rules_duration, rules_learning, rules_overfitting, rules_settings
)
