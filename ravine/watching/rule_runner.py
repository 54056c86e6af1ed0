"""Runs the rules of training loops while a loop is watched, and keeps what they find."""

import os
from dataclasses import dataclass, field, replace
from typing import TextIO

from ravine.diagnosis.registry import LOOP_RULES, LOSS_CURVE_RULES, SYMPTOM_CODES
from ravine.diagnosis.training_loop.history import MIN_LOSSES, LoopHistory
from ravine.finding import Checks, Finding, Report, arrange
from ravine.reporting.findings_text import closing, finding_line, findings_text
from ravine.watching.failures import FailureLog

RULE_NEEDS = frozenset(rule.needs for rule in LOOP_RULES)
LOSS_CURVE_CODES = frozenset(rule.code for rule in LOSS_CURVE_RULES)
LINE_WIDTH = 72


@dataclass(eq=False)
class RuleRunner:
    """The findings so far. Each is printed once, when it is found, to `out` (None: not at all)."""

    out: TextIO | None
    failures: FailureLog
    found: list[Finding] = field(default_factory=list)
    next_losses: int = MIN_LOSSES  # losses at which their curve is tested; then twice as many

    def run(self, history: LoopHistory) -> None:
        """Run the rules that found nothing yet, or a note, where what they need was recorded."""
        losses = history.loss.summary.count
        tests_losses = history.ended or losses >= self.next_losses
        while self.next_losses <= losses:
            self.next_losses *= 2
        notes = {f.code for f in self.found if f.severity == "note"}  # that may become alarms
        done = {f.code for f in self.found} - notes
        done |= set() if tests_losses else LOSS_CURVE_CODES
        has = {need: history.has(need) for need in RULE_NEEDS}
        for rule in LOOP_RULES:
            if rule.code in done or rule.code in self.failures.failed or not has[rule.needs]:
                continue
            try:
                new = rule.findings(history)[:1]
            except Exception:  # a rule that fails must not stop the loop; the report names it
                self.failures.failed[rule.code] = None
                continue
            if rule.code in notes:
                new = [f for f in new if f.severity != "note" and f.confidence == "exact"]
            self.found = [f for f in self.found if not new or f.code != rule.code] + new
            for finding in new if self.out is not None else ():
                print(f"ravine: {finding_line(finding, width=LINE_WIDTH)}", file=self.out)

    def findings(self) -> tuple[Finding, ...]:
        """The findings, most important first. What a certain finding explains becomes a note,
        unless it shows its own cause as certainly; so do tests of the losses beside any certain
        finding.
        """
        certain = [f for f in self.found if f.confidence in ("exact", "high")]
        certain = [f for f in certain if f.severity != "note"]
        explained = {code for f in certain for code in f.explains}
        if any(f.code not in LOSS_CURVE_CODES for f in certain):
            explained |= LOSS_CURVE_CODES
        # a symptom may show its cause without doubt, as a NaN among the inputs does
        explained -= {f.code for f in self.found if f.confidence == "exact"} & SYMPTOM_CODES
        noted = [replace(f, severity="note") if f.code in explained else f for f in self.found]
        return arrange(noted)

    def report(self, history: LoopHistory) -> Report:
        """The findings, and how every check went."""
        failed, left_out = self.failures.failed, ()
        done = {f.code for f in self.found} | failed.keys()
        has = {r.code: history.has(r.needs) for r in LOOP_RULES if r.code not in done}
        checks = Checks(
            passed=tuple(code for code, was in has.items() if was),
            not_applicable=tuple(code for code, was in has.items() if was is None),
            not_measured=tuple(code for code, was in has.items() if was is False),
            failed=tuple(failed),
        )
        if history.ended and not history.loss.first:
            left_out = ("what reads the loss or its graph: none was reported with watcher.loss",)
        return Report(checks=checks, findings=self.findings(), left_out=left_out)

    def print_report(self, history: LoopHistory) -> None:
        """Print all findings with their evidence; one line if there is none."""
        if self.out is None:
            return
        report = self.report(history)
        color = self.out.isatty() and not os.environ.get("NO_COLOR")
        text = f"ravine: {closing(report)}"
        if report.findings or report.left_out:
            text = findings_text(report, color=color)
        more = f" (more: ravine explain {report.findings[0].code})" if report.findings else ""
        print(text + more, file=self.out)
