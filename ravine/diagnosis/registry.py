"""Every rule there is, of all families: what `ravine explain` and the pages of docs/findings tell."""

from __future__ import annotations

from ravine.diagnosis import recipe_rules
from ravine.diagnosis.data import rules as data_rules
from ravine.diagnosis.initialization import rules as initialization_rules
from ravine.diagnosis.rule import Rule
from ravine.diagnosis.training_curves import rules as curve_rules
from ravine.diagnosis.training_loop import rules as loop_rules
from ravine.diagnosis.trials import recipe_rules as recipe_trial_rules
from ravine.diagnosis.trials import rules as trial_rules

ALL: tuple[Rule, ...] = (
    *loop_rules.ALL,
    *data_rules.ALL,
    *initialization_rules.ALL,
    *recipe_rules.ALL,
    *curve_rules.ALL,
    *trial_rules.ALL,
    *recipe_trial_rules.ALL,
)
