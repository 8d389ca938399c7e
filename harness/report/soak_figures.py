"""The figures of a soak in words, each by its name, for the terminal and the page."""

from collections.abc import Iterator

from harness.language import _
from harness.measure.soak import Range, SoakMeasurement
from harness.report.formats import number


def soak_text(measured: SoakMeasurement) -> list[str]:
    """Return a line a figure."""
    return [f"{name}: {text}" for name, text in soak_figures(measured).items()]


def soak_figures(measured: SoakMeasurement) -> dict[str, str]:
    """Return the figures by name; what was not taken is left out, and missing samples are told."""
    return dict(_figures(measured))


def _figures(measured: SoakMeasurement) -> Iterator[tuple[str, str]]:
    lasted, planned = measured.lasted_s / 60.0, measured.planned_s / 60.0
    busy = f"{100 * measured.busy_share:.0f}"
    text = _("{lasted} of {planned} min, computing {busy} % of the time")
    yield _("Lasted"), text.format(lasted=f"{lasted:.1f}", planned=f"{planned:g}", busy=busy)
    if measured.per_s:
        mean = sum(measured.per_s) / len(measured.per_s)
        is_host = measured.definition == "processor"
        unit = _("clips a processor second") if is_host else _("clips/s")
        yield _("Mean speed"), f"{number(mean)} {unit}"
    if measured.trend is not None:
        text = _("between {low} and {high} % an hour (95 %)")
        ends = {"low": f"{measured.trend.low:+.2f}", "high": f"{measured.trend.high:+.2f}"}
        yield _("Trend of speed"), text.format(**ends)
    if measured.retention is not None:
        text = _("{share} % (last {minutes} min over the first)")
        share, minutes = f"{100 * measured.retention:.1f}", f"{measured.window_s / 60.0:.3g}"
        yield _("Retention of speed"), text.format(share=share, minutes=minutes)
    yield from _ranges(measured)
    yield from _growths(measured)
    yield from _energy(measured)
    if measured.unhealthy is not None:
        seen = ", ".join(dict.fromkeys(measured.unhealthy))
        yield _("Health"), f"{seen} ({len(measured.unhealthy)})" if seen else "OK"
    yield _("Samples"), _samples(measured)


def _ranges(measured: SoakMeasurement) -> Iterator[tuple[str, str]]:
    named: list[tuple[str, Range | None, str]] = [
        (_("Temperature"), measured.temperature_c, "°C"),
        (_("Frequency"), measured.frequency_mhz, "MHz"),
    ]
    for name, seen, unit in named:
        if seen is not None:
            text = _("{low} to {high} {unit}, {first} at first, {last} at last")
            values = {key: number(getattr(seen, key)) for key in ("low", "high", "first", "last")}
            yield name, text.format(**values, unit=unit)


def _growths(measured: SoakMeasurement) -> Iterator[tuple[str, str]]:
    for name, grown in (
        (_("Growth of host memory"), measured.host_growth_mb),
        (_("Growth of device memory"), measured.device_growth_mb),
    ):
        if grown is not None:
            yield name, f"{grown:+.1f} MB"


def _energy(measured: SoakMeasurement) -> Iterator[tuple[str, str]]:
    power = measured.power
    if power is None:
        return
    text = _("{mean} W of the {of}, known for {share} % of the time, {gaps} gap(s)")
    share = 100.0 * power.covered_s / measured.lasted_s
    said = {"mean": number(power.mean_w), "of": _(power.of), "share": f"{share:.0f}"}
    yield _("Power"), text.format(**said, gaps=power.gaps)
    if power.clip_j is not None:
        yield _("Energy of a clip"), f"{number(power.clip_j)} J"


def _samples(measured: SoakMeasurement) -> str:
    if not measured.silent:
        return str(measured.sample_count)
    text = _("{n}, of which {silent} were not answered: {why}")
    return text.format(n=measured.sample_count, silent=measured.silent, why=measured.silence)
