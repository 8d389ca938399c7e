"""What a page, its summary and the last line of a terminal say first: the decision and one sentence."""

from harness import registry
from harness.decide.blockers import BlockerKind
from harness.decide.todo import ToDo, todos
from harness.decide.wording import Shown, release_sentence, run_headline, run_sentence
from harness.language import _, later, n_
from harness.report.values import RUN_REPORT, Decision, Release

_NAMES: dict[Decision, str] = {
    "SHIP": later("SHIP"),
    "DO NOT SHIP": later("DO NOT SHIP"),
    RUN_REPORT: later("Run report"),
}


def headline(release: Release) -> str:
    """Say in one sentence why a release may not ship yet, or what was shown."""
    found, shown = tasks(release), _shown(release)
    is_run = release.decision == RUN_REPORT
    return run_sentence(found, shown) if is_run else release_sentence(found, shown)


def decision_name(release: Release) -> str:
    """Return the decision as it is shown."""
    return _(_NAMES[release.decision])


def last_line(release: Release) -> str:
    """Return the decision with its sentence."""
    if release.decision == RUN_REPORT:
        return run_headline(tasks(release), _shown(release))
    text = _("{decision}: {sentence}")
    return text.format(decision=decision_name(release), sentence=headline(release))


def tasks(release: Release) -> tuple[ToDo, ...]:
    """Return what a person must do before this may ship, or is green."""
    return todos(release.reasons)


def _shown(release: Release) -> Shown:
    coverage = release.coverage
    present = {row.device for row in release.tables.versions}
    blockers = {one.kind for line in release.check_lines for one in line.blockers}
    return Shown(
        coverage.passed_checks,
        coverage.required_checks,
        coverage.waived_checks,
        tuple(name for name in registry.device_specs() if name in present),
        BlockerKind.EMULATED in blockers,
    )


def made_line(release: Release) -> str:
    """Say by what and when it was decided."""
    if release.decision == RUN_REPORT:
        line = _("Made on {day} of {runs} in tier {tier}, thresholds {thresholds}, suite {commit}")
    else:
        line = _(
            "Decided on {day} by tier {tier} of thresholds {thresholds}, suite {commit}, {runs}"
        )
    commit = release.commit[:12] if release.commit else _("of several commits")
    return line.format(
        day=release.made,
        runs=n_("{n} run", "{n} runs", len(release.runs)).format(n=len(release.runs)),
        tier=release.tier,
        thresholds=release.thresholds[:12],
        commit=commit,
    )


def command_tier(release: Release) -> str:
    """Return the tier that a command runs in."""
    return release.tier.partition(",")[0]
