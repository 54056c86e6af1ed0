"""Causes that only a recipe can be tried on: its size, its schedule, its clip. Read as those in `tried` are."""

from __future__ import annotations

from functools import partial

from ravine.diagnosis.rule import Rule
from ravine.diagnosis.trials.rules import SHORT, blamed

MEASURED = (
    "The recipe is trained with the change, for a few hundred steps over five seeds, and compared on the validation "
    f"split with the untouched one. The change must make up for {SHORT:.0%} of what there was to gain, with a 95 % "
    "interval of the paired difference below 0; and of all changes tried it must explain the most."
)

ALL = (
    Rule(code="RVN-X51", title="a larger network learns more", cause="architecture-too-small", severity="warning",
         confidence="medium", find=partial(blamed, cause="architecture-too-small"), needs="tried",
         explains=("RVN-C03", "RVN-T02", "RVN-T07"), because="too few units, or too few layers, for the task",
         misses="networks that would have to be larger than two layers of 256 units",
         means="The network cannot express what the examples show; more steps will not help it.",
         detected=MEASURED, remedy="Take more units in each layer, then more layers.",
         patch="  [network]\n- hidden = [2]\n+ hidden = [256, 256]",
         references=("Goodfellow, Bengio, Courville 2016: Deep Learning, section 6.4, MIT Press",)),
    Rule(code="RVN-X52", title="another schedule learns more", cause="schedule", severity="warning",
         confidence="medium", find=partial(blamed, cause="schedule"), needs="tried",
         explains=("RVN-T02", "RVN-T06", "RVN-T09", "RVN-T10"),
         because="the learning rate falls so soon that the run stands still, or never falls",
         misses="schedules that are right at the wrong learning rate",
         means="Most of the steps are made at a learning rate that does nothing.",
         detected=MEASURED, remedy="Let the rate fall over the whole run, by a cosine, or keep it constant.",
         patch='- [schedule]\n- name = "Exponential"\n- k = 5.0\n+ schedule = "Cosine"',
         references=("Loshchilov, Hutter 2017: SGDR: stochastic gradient descent with warm restarts, ICLR",),
         picture="schedules"),
    Rule(code="RVN-X53", title="the network learns more without its clip, or with one", cause="gradient-clipping",
         severity="warning", confidence="medium", find=partial(blamed, cause="gradient-clipping"), needs="tried",
         explains=("RVN-T02", "RVN-T12"), also=("exploding",),
         because="the limit is so low that every step is cut to next to nothing",
         misses="clips in loops of your own",
         means="Clipping is for rare, large gradients. A limit below their usual size is a lower learning rate.",
         detected=MEASURED, remedy="Raise the limit above the usual norm of the gradient, or leave the clip out.",
         patch='  [clip]\n  name = "ClipNorm"\n- limit = 1e-4\n+ limit = 1.0',
         references=("Pascanu, Mikolov, Bengio 2013: On the difficulty of training recurrent neural networks, ICML",)),
)  # fmt: skip
