"""What ais_bench, aclruntime and the driver print when they fail, as a sentence that says what to do.

The last of what was printed decides little: the first line here that matches does.
"""

import re
import signal

from harness.host.command import CommandResult

# Pattern -> sentence, the most telling first.
REASONS = {
    r"no space left on device": "the disk is full: free space in the scratch folder, or name"
    " another in site.toml",
    r"ModelCheckCompatibility failed|EE1001": "the offline model was built for another chip or CANN:"
    " build it again on this host",
    r"opp version of the model does not match": "the offline model and the installed operator"
    " packages (OPP) are of different CANN versions: build it again with the installed CANN",
    r"507033|acl open device \d+ failed|SetDevice failed|create context failed": "the device cannot"
    " be opened (ACL 507033 and its like): it is in use, its driver or firmware does not fit CANN,"
    " or the number is wrong; look at `npu-smi info`, /dev/davinci* and the driver's version",
    r"load model from file failed": "the device cannot load the offline model: it was built for"
    " another chip, the file is damaged, or the memory of the chip or of its vNPU slice is too small",
    r"tensorsize: \d+ filesize: \d+ not match|in size:\d+ needsize:\d+ not match": "an input file has"
    " not the size that the model wants: export, preprocessing and model disagree on the shape",
    r"save out files error": "an output cannot be split over the samples of a batch: the model was"
    " built for another batch size",
    r"is group writable|permission should not be": "ais_bench of 2024 and later refuses folders and"
    " files that others may write: chmod 750, umask 027",
    r"is a soft link": "ais_bench of 2024 and later refuses symbolic links",
    r"(path|args):?\S* is illegal|illegal\. Please check": "ais_bench refuses a path: it must exist,"
    " be ours, and have only letters, digits, '_', '/', '.' and '-'",
    r"dynamic_batch_size parameter is not specified": "the offline model has a fixed batch size",
    r"can not make dir": "the output folder cannot be made",
    r"No module named '?(ais_bench|aclruntime)": "ais_bench or aclruntime is not installed in this"
    " interpreter: install both wheels there, or name another in site.toml",
    r"libascend_hal\.so": "libascend_hal.so is missing: the driver is not installed or not mounted",
    r"out of memory|507899|207001": "the device ran out of memory",
}
TELLING = re.compile(r"^(\[ERROR\].*|E[A-Z0-9]\d{4}.*|\w*Error: .*)$", re.MULTILINE)
LOWER_VERSION = re.compile(r"^\[WARNING\] (aclruntime version:\S+ is lower .*)$", re.MULTILINE)


def reason_from_result(result: CommandResult) -> str:
    """Say why a run of ais_bench failed."""
    said = TELLING.findall(result.output)
    quote = f"; it said '{said[0].strip()[:300]}'" if said else f"; last lines: {result.last_lines}"
    return f"{_sentence(result)} (status {result.rc}){quote}"


def warnings_from_output(output: str) -> tuple[str, ...]:
    """Return what a run that succeeded warns of."""
    return tuple(
        f"{text}: ais_bench silently falls back to --run_mode tensor; install matching wheels, and"
        " setuptools below 81 in that interpreter"
        for text in LOWER_VERSION.findall(output)
    )


def sentence_from_text(text: str) -> str | None:
    """Return the sentence for the first known failure in ``text``, or None."""
    return next((s for p, s in REASONS.items() if re.search(p, text, re.IGNORECASE)), None)


def _sentence(result: CommandResult) -> str:
    if result.timed_out:
        return f"it hung: nothing after {result.seconds:.0f} s, and it was killed"
    if known := sentence_from_text(result.output):
        return known
    if result.rc > 128:
        return f"it crashed with {_signal_name(result.rc - 128)}"
    return "it failed" if result.rc else "it ended with 0 but left no usable result"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
