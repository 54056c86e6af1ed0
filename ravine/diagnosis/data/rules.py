"""Faults of the examples: numbers that are none, copies, leaks, targets of other rows, misleading splits and orders."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ravine.diagnosis.baseline_learners import SURE
from ravine.diagnosis.data.profile import BEYOND, Examples
from ravine.diagnosis.rule import Rule, Seen, listed
from ravine.finding import Change, Evidence

FEW = 10  # examples: with fewer, equal ones mean nothing
STEEPER = 30.0  # times as steep, or as flat, as with standardized inputs
WIDER = 30.0  # times the spread of another column
FAR = 5.0  # spreads from 0
LARGE, SMALL = 10.0, 0.03  # spread of targets
KNOWN = 0.05  # share of validation examples
TWICE = 3.0  # times what chance gives
SHIFTED, STRETCHED = 1.0, 2.5  # spreads, times
COLUMNS, FAR_AWAY = 3.0, 10.0  # columns in effect; with fewer the shift must be this many spreads
MOVED = 1.5  # spreads, of one column
SURELY = 8.0  # standard errors
LESS = 0.1  # of the null loss, and 4 of its standard errors: what validation examples must tell
UNSEEN = 0.05  # share of validation targets of classes that training lacks
OUTSIDE = 0.5  # share of validation targets outside the range of training targets
UNEVEN = 0.5  # (exp H - 1) / (K - 1)
SEEN = 0.05  # share of the examples with a label
ONE_CLASS = 0.9  # mean share of the commonest class in a batch
AGAIN = 0.99  # share of target tokens that are the input token at their place
CROWD = 0.5  # share of the examples that are one and the same


def not_finite(examples: Examples) -> Iterator[Seen]:
    for broken in examples.broken:
        several = broken.where.startswith("target ")  # one of several numbers: a mask in the loss may leave them out
        yield Seen(where=broken.where, severity="note" if several else "", confidence="medium" if several else "",
                   evidence=(
            Evidence("examples with NaN or infinity", broken.rows, "", 0, f"of {examples.rows}: {broken.nans} NaN, "
                     f"{broken.infinities} infinite"),
        ), changes=(Change("data", "leave these examples out, or fill them in"),))  # fmt: skip


def all_inputs_equal(examples: Examples) -> Iterator[Seen]:
    copies = examples.copies
    if copies is not None and copies.compared >= FEW and copies.distinct == 1:
        yield Seen(evidence=(Evidence("different inputs", 1, "", None, f"of {copies.compared}"),),
                   changes=(Change("data", "see how the inputs are read"),))  # fmt: skip


def constant_columns(examples: Examples) -> Iterator[Seen]:
    spread = examples.inputs
    if spread is not None and spread.constant and len(spread.constant) < spread.columns and examples.rows >= FEW:
        yield Seen(where=listed(spread.constant), evidence=(
            Evidence("columns with one value", len(spread.constant), "", None, f"of {spread.columns}"),
        ), changes=(Change("data", "without these columns"),))  # fmt: skip


def all_targets_equal(examples: Examples) -> Iterator[Seen]:
    if examples.rows < FEW:
        return
    if examples.kind in ("classes", "binary", "tokens", "next"):
        held = [name for name, count in examples.counts.items() if count > 0]
        if len(held) == 1:
            yield Seen(evidence=(Evidence("classes", 1, "", None, f"all targets are {held[0]}"),),
                       changes=(Change("data", "see how the targets are read"),))  # fmt: skip
    elif (
        examples.targets is not None and examples.kind != "inputs" and examples.targets.constant
        and len(examples.targets.constant) == examples.targets.columns
    ):  # fmt: skip
        yield Seen(evidence=(Evidence("spread of the targets", 0.0, "", None, f"mean {examples.targets.mean:.3g}"),),
                   changes=(Change("data", "see how the targets are read"),))  # fmt: skip


def input_scale(examples: Examples) -> Iterator[Seen]:
    spread = examples.inputs
    if spread is None or spread.widest == 0:
        return
    found = []
    if not 1 / STEEPER <= spread.steeper <= STEEPER:
        found.append(
            Evidence(
                "steeper for a first layer than with standardized inputs",
                spread.steeper,
                "times",
                STEEPER if spread.steeper > 1 else 1 / STEEPER,
                f"E[x x^T] has the eigenvalue {spread.steepest:.3g}, {spread.even:.3g} standardized",
            )
        )
    varied = sorted(std for std in spread.stds if std >= spread.narrowest)
    narrow = varied[len(varied) // 10]  # of many columns, a few that hardly vary are no matter
    if examples.layout == "table" and spread.widest > WIDER * narrow:
        found.append(Evidence("largest spread of a column over the smallest", spread.ratio, "", WIDER,
                              f"{spread.widest_name} {spread.widest:.3g}, "
                              f"{spread.narrowest_name} {spread.narrowest:.3g}"))  # fmt: skip
    if spread.offset_median > FAR:
        found.append(Evidence("distance of a middling column from 0", spread.offset_median, "spreads", FAR))
    if found:
        yield Seen(evidence=tuple(found), changes=(Change("input.scale", "standardize"),))


def target_scale(examples: Examples) -> Iterator[Seen]:
    spread = examples.targets
    if spread is None or spread.widest == 0:
        return
    found = []
    if spread.widest > LARGE or spread.widest < SMALL:
        found.append(Evidence("spread of the targets", spread.widest, "", LARGE if spread.widest > 1 else SMALL))
    if spread.offset > FAR:
        found.append(Evidence("distance of the targets from 0", spread.offset, "spreads", FAR))
    if found:
        yield Seen(evidence=(*found, Evidence("targets from", spread.low), Evidence("to", spread.high)),
                   changes=(Change("target.scale", "standardize"),))  # fmt: skip


def known_before(examples: Examples) -> Iterator[Seen]:
    copies = examples.copies
    if copies is None or not copies.validation or copies.overlap < 3:
        return
    if copies.overlap <= TWICE * copies.expected + 4 * math.sqrt(copies.expected):
        return
    share = copies.overlap / copies.validation
    yield Seen(where="validation", severity="" if share >= KNOWN else "note", evidence=(
        Evidence("validation examples that are training examples, too", copies.overlap, "", copies.expected,
                 f"{100 * share:.0f} % of {copies.validation}; chance gives about {copies.expected:.0f}"),
    ), changes=(Change("data", "take copies out before splitting"),))  # fmt: skip


def gives_away(examples: Examples) -> Iterator[Seen]:
    for column in examples.given_away:
        missed, missed_by_rest = 1 - column.alone, 1 - column.rest
        far_behind = missed_by_rest > max(10 * missed, 0.05 * (1 - column.null))
        if missed_by_rest <= 2 * missed:
            continue
        score = "R2" if examples.kind == "number" else "accuracy"
        yield Seen(where=column.where, severity="" if far_behind and column.rest_informative else "note", evidence=(
            Evidence(f"{score} of this column alone", column.alone),
            Evidence(f"{score} of all others together", column.rest, "", None,
                     f"the best constant has {column.null:.3g}"),
        ), changes=(Change("data", f"without {column.where}, if it is not known when predicting"),))  # fmt: skip


def same_again(examples: Examples) -> Iterator[Seen]:
    if examples.same >= AGAIN and len(examples.counts) > 1:
        yield Seen(evidence=(
            Evidence("targets that are the token at their own place", 100 * examples.same, "%", 100 * AGAIN,
                     "a network that copies is right"),
        ), changes=(Change("data", "inputs tokens[:, :-1], targets tokens[:, 1:]"),))  # fmt: skip


def validation_differs(examples: Examples) -> Iterator[Seen]:
    drift = examples.drift
    if drift is None:
        return
    stretch = max(drift.stretch, 1 / drift.stretch) if drift.stretch > 0 else math.inf
    moved = drift.shift > SHIFTED and drift.median_sure > SURELY / 2
    stretched = stretch > STRETCHED and drift.rows >= 30
    several = drift.columns > COLUMNS or drift.shift > FAR_AWAY or stretch > 2 * STRETCHED
    if moved or stretched:
        yield Seen(where="validation", severity="" if several else "note", confidence="" if several else "medium",
                   suspects=("split", "normalization"), evidence=(
            Evidence("the middle of a column lies away by", drift.shift, "spreads", SHIFTED, "median of all columns"),
            Evidence("spread over that in training", drift.stretch, "", STRETCHED if drift.stretch > 1 else
                     1 / STRETCHED, "median of all columns"),
        ), changes=(Change("data", "mean and spread of the training examples, for both"),))  # fmt: skip
    elif abs(drift.farthest) > MOVED and drift.sure > SURELY:
        yield Seen(where="validation", severity="note", confidence="medium", cause="split",
                   title=f"{drift.farthest_name} is otherwise in validation", evidence=(
            Evidence("its middle lies away by", drift.farthest, "spreads", MOVED),
        ), changes=(Change("data", "a random split, unless new data will differ like this"),))  # fmt: skip


def other_targets(examples: Examples) -> Iterator[Seen]:
    train, new = examples.counts, examples.validation_counts
    total, rows = sum(new.values()), sum(train.values())
    change = (Change("data", "a split with all classes in both parts"),)
    if examples.kind in ("classes", "binary", "tokens", "next") and total and rows:
        unseen = {name: count for name, count in new.items() if count and not train.get(name)}
        count = sum(unseen.values())
        if count:
            yield Seen(where="validation", severity="" if count >= max(5, UNSEEN * total) else "note", evidence=(
                Evidence("validation targets of classes that training lacks", count, "", 0,
                         f"of {total}: class {listed(map(str, unseen))}"),
            ), changes=change)  # fmt: skip
        due = {name: share * total / rows for name, share in train.items() if share * total / rows >= FEW}
        if len(due) > 1 and sum(count > 0 for count in new.values()) == 1 and not count:
            yield Seen(where="validation", title="validation examples are all of one class", evidence=(
                Evidence("classes in validation", 1, "", None, f"training has {len(train)}"),
            ), changes=change)  # fmt: skip
    elif examples.outside >= OUTSIDE / 5 and examples.targets is not None:
        told = examples.validation_targets
        yield Seen(where="validation", title="validation targets lie where training has none",
                   severity="" if examples.outside >= OUTSIDE else "note", suspects=("target-scale",), evidence=(
            Evidence("validation targets outside the training targets' range", 100 * examples.outside, "%",
                     100 * OUTSIDE, f"training {examples.targets.low:.3g} to {examples.targets.high:.3g}"
                     + (f", validation {told.low:.3g} to {told.high:.3g}" if told else "")),
        ), changes=(Change("data", "a random split, and one scale for both"),))  # fmt: skip


def uneven(examples: Examples) -> Iterator[Seen]:
    held = {name: count for name, count in examples.counts.items() if count > 0}
    if len(held) < 2:
        return
    rarest = min(held, key=lambda name: held[name])
    if examples.kind == "labels":
        share = held[rarest] / examples.rows
        if share < SEEN:
            yield Seen(where=f"label {rarest}", evidence=(
                Evidence("examples with this label", held[rarest], "", SEEN * examples.rows, f"{100 * share:.2g} %"),
            ), changes=(Change("loss", "pos_weight"),))  # fmt: skip
    elif examples.evenness < UNEVEN:
        share = held[rarest] / sum(held.values())
        yield Seen(where=f"class {rarest}", evidence=(
            Evidence("evenness of the classes, (exp H - 1) / (K - 1)", examples.evenness, "", UNEVEN),
            Evidence("examples of the rarest class", held[rarest], "", None, f"{100 * share:.2g} %"),
        ), changes=(Change("loss", "weights by class"),))  # fmt: skip


def sorted_examples(examples: Examples) -> Iterator[Seen]:
    order = examples.order
    if order is None:
        return
    if examples.kind == "number":
        if order.sorted or order.purity > ONE_CLASS > 3 * order.chance:
            yield Seen(severity="" if order.sorted else "note", evidence=(
                Evidence("of the targets' variance is between batches", 100 * order.purity, "%", 100 * ONE_CLASS,
                         f"{100 * max(order.chance, 0):.0f} % when shuffled"),
            ), changes=(Change("shuffle", True),))  # fmt: skip
    elif order.purity >= ONE_CLASS and order.chance < ONE_CLASS - 0.15:
        yield Seen(evidence=(
            Evidence("of a batch is one class, on average", 100 * order.purity, "%", 100 * ONE_CLASS,
                     f"{100 * order.chance:.0f} % when shuffled"),
        ), changes=(Change("shuffle", True),))  # fmt: skip


def no_information(examples: Examples) -> Iterator[Seen]:
    known = examples.reference
    if known is not None and known.informative is False and examples.slipped is None:
        yield Seen(evidence=(
            Evidence("predictions and targets go together by", known.signal, "standard errors", SURE,
                     f"the surest of {listed(known.tried, 5)}, {known.examples} examples"),
            Evidence("best score", known.score, "", None, f"the best constant has {known.null_score:.3g}"),
        ), changes=(Change("data", "see whether inputs and targets are paired"),))  # fmt: skip


def only_validation_tells(examples: Examples) -> Iterator[Seen]:
    known, other = examples.reference, examples.validation_reference
    if known is None or other is None or other.signal <= BEYOND or other.examples > known.examples:
        return
    if other.share > LESS and other.gain > 4 * other.gain_error:
        yield Seen(evidence=(
            Evidence("score of a learner on validation examples alone", other.score, "", None,
                     f"{other.signal:.0f} standard errors beyond chance; the best constant has {other.null_score:.3g}"),
            Evidence("predictions and targets in training go together by", known.signal, "standard errors", SURE),
        ), changes=(Change("data", "see whether training inputs and targets are paired"),))  # fmt: skip


def of_other_rows(examples: Examples) -> Iterator[Seen]:
    slipped = examples.slipped
    if slipped is not None:
        how = (
            "in the opposite order" if not slipped.by else f"{abs(slipped.by)} row {'on' if slipped.by > 0 else 'back'}"
        )
        yield Seen(title=f"targets belong to other rows: {how}", evidence=(
            Evidence(f"score with the targets {how}", slipped.score, "", None,
                     f"{slipped.signal:.0f} standard errors beyond chance"),
            Evidence("as they are paired", slipped.given, "standard errors", SURE,
                     f"the best constant scores {slipped.null_score:.3g}"),
        ), changes=(Change("data", "one order for inputs and targets"),))  # fmt: skip


def no_output(examples: Examples) -> Iterator[Seen]:
    if examples.beyond_classes:
        lowest, highest = min(examples.counts), max(examples.counts)
        counted = f"labels go from {lowest} to {highest}" + (", not from 0" if lowest == 1 else "")
        change = Change("data", "labels less 1") if lowest == 1 else Change("model", f"{highest + 1} outputs")
        yield Seen(changes=(change,), evidence=(
            Evidence("targets without an output of their own", examples.beyond_classes, "", 0, counted),
        ))  # fmt: skip
    elif examples.below_classes:
        yield Seen(severity="note", confidence="medium", evidence=(
            Evidence("targets below 0", examples.below_classes, "", 0, "right only if the loss leaves them out"),
        ), changes=(Change("data", "labels from 0"),))  # fmt: skip


def repeated(examples: Examples) -> Iterator[Seen]:
    copies = examples.copies
    if copies is None or copies.compared < FEW or copies.distinct == 1 or copies.natural:
        return
    if copies.largest > CROWD * copies.compared:
        yield Seen(evidence=(
            Evidence("examples with one and the same input", copies.largest, "", CROWD * copies.compared,
                     f"of {copies.compared}"),
        ), changes=(Change("data", "see how the inputs are read"),))  # fmt: skip
    elif copies.contradicted > max(3, 0.05 * copies.compared):
        yield Seen(cause="labels", title="copies of an input have other targets", evidence=(
            Evidence("copies with another target than the first", copies.contradicted, "", 0, f"of {copies.compared}"),
        ), changes=(Change("data", "see how the targets are read"),))  # fmt: skip


ALL = (
    Rule(code="RVN-D01", title="numbers in the data are not finite", cause="data-degenerate", severity="error",
         find=not_finite, needs="inputs", explains=("RVN-N01",),
         because="missing values were read as NaN, or something was divided by 0",
         misses="masked-out numbers that the model never uses count as well",
         means="Some inputs or targets are NaN or infinite. One of them in a batch makes the loss and every gradient "
               "NaN, and after that step the whole network.",
         detected="Every number of inputs and targets is looked at. Among targets of several columns it is a note, "
                  "since a loss may leave them out.",
         remedy="Leave such examples out, or fill them with the column's median and add a column that says so.",
         patch="+ known = x.isfinite().all(1)\n+ x, y = x[known], y[known]\n  loss = criterion(model(x), y)",
         references=("Goodfellow, Bengio & Courville 2016: Deep Learning, section 11.5",)),
    Rule(code="RVN-D02", title="all inputs are the same", cause="data-degenerate", severity="error",
         find=all_inputs_equal, needs="copies", explains=("RVN-D14",),
         because="files were not found, a buffer was reused, or an index stands still",
         misses="inputs that differ only by noise",
         means="Every example has the same input, bit for bit. The best that any network can do with them is the mean "
               "of the targets.",
         detected="Inputs are compared by their bytes; with ten examples or more there is only one.",
         remedy="Look at the first inputs as the network gets them, and at the code that reads them.",
         patch="- inputs = [x[0] for i in range(len(x))]\n+ inputs = [x[i] for i in range(len(x))]\n"
               "  x = torch.stack(inputs)",
         references=("Karpathy 2019: A Recipe for Training Neural Networks",)),
    Rule(code="RVN-D03", title="columns have only one value", cause="data-degenerate", severity="note",
         find=constant_columns, needs="columns", confidence="low",
         because="a column is always the same in these examples",
         misses="columns that hardly vary; channels of pictures",
         means="These columns tell nothing apart. They do no harm unless they are large, or divided by their spread "
               "of 0.",
         detected="The standard deviation of a column is below 1e-7 of its mean.",
         remedy="Leave them out.",
         patch="+ varied = x.std(0) > 0\n+ x = x[:, varied]\n  print(x.shape)",
         references=("LeCun et al. 1998: Efficient BackProp",)),
    Rule(code="RVN-D04", title="all targets are the same", cause="data-degenerate", severity="error",
         find=all_targets_equal, needs="inputs", explains=("RVN-D14",),
         because="one class was selected, or the wrong column was read",
         misses="targets that differ only by noise",
         means="Every example has the same target. A network learns to say it whatever comes in, and its loss looks "
               "excellent.",
         detected="There is one class, or the numbers have no spread, in ten examples or more.",
         remedy="Look at where the targets come from, and at what selects the examples.",
         patch="- y = torch.zeros_like(y)\n+ y = y.clone()\n  print(y.unique())",
         references=("Karpathy 2019: A Recipe for Training Neural Networks",)),
    Rule(code="RVN-D05", title="inputs are far from mean 0 and spread 1", cause="input-scale", severity="note",
         find=input_scale, needs="numbers", confidence="low",
         because="inputs come in the units in which they were measured",
         misses="what a normalization layer at the front makes good",
         means="Columns of unlike size make the loss steep in some directions and flat in others. The steepest one "
               "limits the learning rate, and in the others learning then takes as many times longer. Whether it "
               "matters here, a trial shows.",
         detected="The largest eigenvalue of E[x xᵀ] is over 30 times that with standardized inputs, or below a "
                  "30th; in a table one column spreads over 30 times as wide as another (of many columns, as the "
                  "tenth part that varies least); or the median column lies more than 5 spreads from 0.",
         remedy="Standardize with the training examples' mean and spread; divide pixels by 255.",
         patch="+ mean, spread = x.mean(0), x.std(0) + 1e-8\n+ x = (x - mean) / spread\n  output = model(x)",
         references=("LeCun et al. 1998: Efficient BackProp",)),
    Rule(code="RVN-D06", title="targets are far from mean 0 and spread 1", cause="target-scale", severity="note",
         find=target_scale, needs="values", confidence="low",
         because="targets come in the units in which they were measured",
         misses="losses that do not depend on the scale",
         means="A network starts near 0 with a spread about 1. With targets elsewhere the first gradients are as much "
               "larger, and the first steps only move the last bias. Whether it matters here, a trial shows.",
         detected="The spread of a target is above 10 or below 0.03, or its mean lies more than 5 spreads from 0.",
         remedy="Standardize the targets, and undo it in predictions.",
         patch="  y = y.float()\n+ mean, spread = y.mean(), y.std()\n+ y = (y - mean) / spread\n"
               "  loss = F.mse_loss(net(x).squeeze(1), y)",
         references=("LeCun et al. 1998: Efficient BackProp",)),
    Rule(code="RVN-D07", title="validation examples are training examples, too", cause="leakage", severity="warning",
         find=known_before, needs="validation", confidence="exact",
         because="rows were copied before they were split, or the split was drawn twice",
         misses="near-copies, and rows of one patient, day or text in both parts",
         means="The network has learned these validation examples by heart. The validation loss looks better than it "
               "is on new examples, and overfitting does not show.",
         detected="Rows are compared by their bytes, inputs and targets. What is counted must be three times what "
                  "chance gives: for measured numbers that is none; where values are few, as many as training rows "
                  "have twins, or validation rows among themselves. Below 5 % of the validation rows it is a note.",
         remedy="Take copies out first, then split; split by group where rows belong together.",
         patch="+ x, kept = x.unique(dim=0, return_inverse=True)\n  order = torch.randperm(len(x))\n"
               "- train, valid = order[:40], torch.randperm(len(x))[:20]\n+ train, valid = order[:40], order[40:]",
         references=("Kaufman et al. 2012: Leakage in Data Mining",)),
    Rule(code="RVN-D08", title="a column gives the target away", cause="leakage", severity="warning",
         find=gives_away, needs="columns", confidence="medium",
         because="a column was made from the target, or written down after it was known",
         misses="leaks spread over several columns, and those with much noise; tables of fewer than three columns",
         means="One column is the target but for a scale or a little noise, while all others together are far from it. "
               "Such a column is seldom known when a prediction is asked for.",
         detected="A straight line through the column (or its ranks) leaves less than a thousandth of a number's "
                  "variance; or its spread within classes is below a twentieth of their distance. A warning if the "
                  "others tell something, but miss ten times as much; else a note.",
         remedy="Ask when the column is known. If after the target, leave it out.",
         patch="+ leak = 3\n- output = model(x)\n+ x = torch.cat([x[:, :leak], x[:, leak + 1 :]], 1)\n  print(x.shape)",
         references=("Kaufman et al. 2012: Leakage in Data Mining",)),
    Rule(code="RVN-D09", title="the targets are the inputs again", cause="labels", severity="warning", find=same_again,
         needs="sequences", confidence="high", also=("leakage",),
         because="the targets were not moved by one place",
         misses="targets moved the other way; models that are meant to give back what they get",
         means="Each target is the token at its own place, which the network sees. It learns to copy, with a loss "
               "near 0, and nothing about what comes next.",
         detected="At least 99 % of the target tokens equal the input token at the same place.",
         remedy="Give tokens[:, :-1] as inputs and tokens[:, 1:] as targets.",
         patch="  tokens = torch.randint(0, 9, (4, 17))\n- inputs, targets = tokens, tokens\n"
               "+ inputs, targets = tokens[:, :-1], tokens[:, 1:]",
         references=("Bengio et al. 2003: A Neural Probabilistic Language Model",)),
    Rule(code="RVN-D10", title="validation inputs are on another scale than training inputs", cause="input-scale",
         severity="warning", find=validation_differs, needs="validation", confidence="high",
         also=("split", "normalization"),
         because="only one part was normalized, or each by figures of another kind; or the parts are of other origin",
         misses="tokens; changes that leave middle and spread as they are",
         means="The network is judged on inputs unlike those that it learned from. Validation loss is high or wild "
               "however well it learns.",
         detected="Medians over all columns: the middle lies more than one spread away (surely: 4 standard errors), "
                  "or the spread is 2.5 times as large or small. Spreads are distances of quartiles where these "
                  "differ. One column that moved by 1.5 spreads is a note; so is all this with fewer than three "
                  "independent columns, unless by 10 spreads or 5 times.",
         remedy="Work out mean and spread on the training examples, and use them for all parts.",
         patch="  mean, spread = x.mean(0), x.std(0)\n  x = (x - mean) / spread\n+ x_valid = (x_valid - mean) / spread",
         references=("Ioffe & Szegedy 2015: Batch Normalization",
                     "Rabanser, Günnemann & Lipton 2019: Failing Loudly")),
    Rule(code="RVN-D11", title="validation has classes that training has not", cause="split", severity="warning",
         find=other_targets, needs="validation", also=("target-scale",), confidence="high",
         because="examples were split in the order in which they stand",
         misses="classes that are only rarer",
         means="No network can learn a class, or a range of numbers, that it never sees; nor is it judged on those "
               "that validation lacks. The validation score says little of either.",
         detected="Classes are counted: 5 % of the validation targets, at least 5, are of classes without training "
                  "examples (fewer: a note), or all are of one class though 10 of another are due. Of numbers, half "
                  "lie outside the training range widened by a tenth (10 %: a note).",
         remedy="Shuffle before splitting, by class where some are rare.",
         patch="+ order = torch.randperm(len(x))\n+ x, y = x[order], y[order]\n"
               "  train, valid = (x[:48], y[:48]), (x[48:], y[48:])",
         references=("Kohavi 1995: A Study of Cross-Validation and Bootstrap",)),
    Rule(code="RVN-D12", title="some classes are rare", cause="imbalance", severity="note", find=uneven,
         needs="inputs", confidence="low",
         because="they are rare in the world, or were rarely kept",
         misses="whether it harms: a class may be rare and easy",
         means="A network loses little by never naming a rare class, and early in training that is what it does. "
               "Accuracy hides it: look at the recall of each class.",
         detected="Evenness, (exp H - 1) / (K - 1) of the class shares, is below 0.5: it is 1 if all K are as "
                  "frequent, 0 if one has all. Of labels: one stands with fewer than 5 % of the examples.",
         remedy="Weigh the loss by class, or draw rare classes more often; judge by recall of each class.",
         patch="+ weight = 1 / y.bincount(minlength=3).clamp(min=1).float()\n- loss = F.cross_entropy(model(x), y)\n"
               "+ loss = F.cross_entropy(model(x), y, weight=weight / weight.mean())",
         references=("He & Garcia 2009: Learning from Imbalanced Data",
                     "PyTorch 2.13 documentation: torch.nn.CrossEntropyLoss")),
    Rule(code="RVN-D13", title="examples come sorted by their target", cause="shuffling", severity="warning",
         find=sorted_examples, needs="order", confidence="high",
         because="files stand class by class, and shuffle=True is missing",
         misses="orders by something else than the target",
         means="Each batch holds nearly one class. A step forgets what the last one learned, and the network ends "
               "with the classes that came last.",
         detected="Without shuffling, the commonest class has 90 % of a batch on average, and far less in a random "
                  "order; numbers only rise or only fall (or lie 90 % between batches: a note).",
         remedy="Shuffle in every epoch.",
         patch="- batches = DataLoader(TensorDataset(x, y), batch_size=16)\n"
               "+ batches = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)",
         references=("PyTorch 2.13 documentation: torch.utils.data.DataLoader",
                     "Bottou 2012: Stochastic Gradient Descent Tricks")),
    Rule(code="RVN-D14", title="the inputs tell nothing about the targets", cause="labels", severity="note",
         find=no_information, needs="reference", confidence="medium",
         because="targets were shuffled or joined apart from the inputs, or there is nothing to know",
         misses="what a linear model, neighbors, a kernel and trees cannot find, but a network might; under 100 "
                "examples",
         means="No quick learner predicts these targets better than a constant does. A network can then only learn "
               "its training examples by heart. Inputs and targets may have been ordered or joined apart.",
         detected="Of each learner, the products of predictions for examples it did not see and targets, both less "
                  "their means (of numbers: of ranks): for none are they 3 standard errors above 0. If they are 5 "
                  "below, nothing is said: neighbors then differ, as with parity.",
         remedy="Look at a few inputs beside their targets as the loss gets them; pair them by a key.",
         patch="- x = x[torch.randperm(len(x))]\n+ order = torch.randperm(len(x))\n+ x, y = x[order], y[order]",
         references=("Karpathy 2019: A Recipe for Training Neural Networks", "Geurts et al. 2006: Extremely "
                     "Randomized Trees")),
    Rule(code="RVN-D15", title="targets belong to other rows", cause="labels", severity="error", find=of_other_rows,
         needs="reference", confidence="high", explains=("RVN-D14",),
         because="a header or a first row was dropped in one file only, or one of the two was turned around",
         misses="other shifts than one row, and shuffled targets",
         means="Inputs tell nothing about the targets beside them, but much about those of the next or previous row, "
               "or of the row as far from the other end.",
         detected="Where no learner finds anything in the given pairs, it is asked with targets moved by one row "
                  "either way and turned around; one of them is 8 standard errors above chance.",
         remedy="Move one of them back; better, join them by a key.",
         patch="- pairs = list(zip(x[1:], y[:-1]))\n+ pairs = list(zip(x, y))",
         references=("Karpathy 2019: A Recipe for Training Neural Networks",)),
    Rule(code="RVN-D16", title="labels have no output", cause="labels", severity="error", find=no_output,
         needs="labels", because="labels are counted from 1, or the last layer is too narrow",
         misses="losses that take something else than class numbers",
         means="Cross entropy picks the output whose number the label is; these labels have none. On a CPU that is an "
               "error, on a GPU an assertion that breaks the process.",
         detected="A label is the number of outputs or more. Labels below 0 are a note, since a loss may leave them "
                  "out; -100 always is.",
         remedy="Number the classes 0 to K - 1, or give the last layer an output for each.",
         patch="- y = y + 1  # 1 to 3\n+ y = y - y.min()\n  loss = F.cross_entropy(model(x), y)",
         references=("PyTorch 2.13 documentation: torch.nn.CrossEntropyLoss",)),
    Rule(code="RVN-D17", title="most inputs are one and the same", cause="data-degenerate", severity="note",
         find=repeated, needs="copies", confidence="medium", also=("labels",),
         because="some files were not read, and stand as zeros; or rows were copied",
         misses="values so few that equal rows are to be expected; inputs that differ by noise",
         means="More than half of the examples have one input, or copies of an input have other targets. A network "
               "can only learn the mean target of such copies.",
         detected="Inputs of measured numbers are compared by their bytes: one makes up half of them, or 5 % are "
                  "copies whose target is not that of the first.",
         remedy="Look at these inputs and at where they come from.",
         patch="+ rows, counts = x.unique(dim=0, return_counts=True)\n+ print(counts.max(), rows[counts.argmax()])\n"
               "  output = model(x)",
         references=("Karpathy 2019: A Recipe for Training Neural Networks",)),
    Rule(code="RVN-D18", title="only the validation targets can be told from the inputs", cause="labels",
         severity="warning", find=only_validation_tells, needs="reference", confidence="high", explains=("RVN-D14",),
         because="the training inputs or their targets were shuffled or joined without the other",
         misses="targets that are wrong in both parts, or only in some rows; fewer than 30 validation examples",
         means="The validation examples, though no more than the training ones, show that inputs tell about targets; "
               "the training examples do not. Their pairs are wrong, and a network learns them by heart at best.",
         detected="Quick learners are cross-validated on either part alone. In training none is 3 standard errors "
                  "above chance; in validation one is 8 above, and takes away a tenth of the loss.",
         remedy="Look at how training inputs and targets are shuffled, filtered and joined.",
         patch="- x = x[torch.randperm(len(x))]\n+ order = torch.randperm(len(x))\n+ x, y = x[order], y[order]",
         references=("Karpathy 2019: A Recipe for Training Neural Networks",)),
)  # fmt: skip
