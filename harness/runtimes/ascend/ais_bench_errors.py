"""Turn what ais_bench, aclruntime and the driver print on failure into advice.

The last lines of the output rarely show the cause, so the first pattern here that matches decides.
"""

import re

from harness.host.child_process import signal_name
from harness.host.command import CommandResult

# Pattern -> sentence, the most specific first.
REASONS = {
    r"no space left on device": "the disk is full: free space below cache_dir, or set another"
    " cache_dir in site.toml",
    r"ModelCheckCompatibility failed|EE1001": "the offline model was built for another chip or CANN:"
    " rebuild it on this host",
    r"opp version of the model does not match": "the offline model and the installed operator"
    " packages (OPP) come from different CANN versions: rebuild it with the installed CANN",
    r"507033|acl open device \d+ failed|SetDevice failed|create context failed": "the device cannot"
    " be opened (ACL 507033 or similar): it is in use, its driver or firmware does not match CANN,"
    " or the number is wrong; look at `npu-smi info`, /dev/davinci* and the driver's version",
    r"load model from file failed": "the device cannot load the offline model: it was built for"
    " another chip, the file is damaged, or the chip or its vNPU slice has too little memory",
    r"tensorsize: \d+ filesize: \d+ not match|in size:\d+ needsize:\d+ not match": "an input file has"
    " the wrong size for this model: export, preprocessing and model disagree on the shape",
    r"save out files error": "an output cannot be split into the samples of a batch: the model was"
    " built for another batch size",
    r"is group writable|permission should not be": "ais_bench of 2024 and later refuses folders and"
    " files that others can write: use chmod 750 and umask 027",
    r"is a soft link": "ais_bench of 2024 and later refuses symbolic links",
    r"device:\d+ is invalid": "ais_bench takes device numbers from 0 to 255: check device_ids in"
    " site.toml, and the Device column of `npu-smi info`",
    r"(path|args):?\S* is illegal|illegal\. Please check": "ais_bench refuses a path: it must exist,"
    " belong to this user, and contain only letters, digits, '_', '/', '.' and '-'",
    r"dynamic_batch_size parameter is not specified": "the offline model has a fixed batch size",
    r"the dymBatch parameter is not correct": "the offline model has no gear of this batch size: rebuild it with"
    " --dynamic_batch_size",
    r"can not make dir": "the output folder cannot be created",
    r"No module named '?(ais_bench|aclruntime)": "ais_bench or aclruntime is not installed in this"
    " interpreter: install both wheels there, or set another interpreter in site.toml",
    r"libascend_hal\.so": "libascend_hal.so is missing: the driver is not installed or not mounted",
    r"out of memory|507899|207001": "the device ran out of memory",
}
# A message may follow a progress bar on its line.
TELLING = re.compile(
    r"(\[ERROR\][^\r\n]*|^E[A-Z0-9]\d{4}.*|^\w*Error: .*|^\S+\.py: error: .*)$", re.MULTILINE
)
RUN_MODE = re.compile(
    r"\[WARNING\] (aclruntime version:\S+ is lower .*|aclruntime\S+ version is lower.*"
    r"|can't find aclruntime.*)$",
    re.MULTILINE,
)


def reason_from_result(result: CommandResult) -> str:
    """Say why a run of ais_bench failed."""
    lines = TELLING.findall(result.output)
    # The line of a known failure says more than the first one.
    said = sorted(lines, key=lambda line: sentence_from_text(line) is None)
    quote = f"; it said '{said[0].strip()[:300]}'" if said else f"; last lines: {result.last_lines}"
    return f"{_sentence(result)} (status {result.rc}){quote}"


def warnings_from_output(output: str) -> tuple[str, ...]:
    """Return the warnings of a successful run."""
    return tuple(
        f"{text.strip()}: ais_bench silently falls back to --run_mode tensor; install the aclruntime"
        " wheel of the same source as ais_bench, and setuptools below 81, in that interpreter"
        for text in RUN_MODE.findall(output)
    )


def sentence_from_text(text: str) -> str | None:
    """Return the advice for the first known failure in ``text``, or None."""
    return next((s for p, s in REASONS.items() if re.search(p, text, re.IGNORECASE)), None)


def _sentence(result: CommandResult) -> str:
    if result.timed_out:
        return f"it hung and was killed after {result.seconds:.0f} s"
    if known := sentence_from_text(result.output):
        return known
    if result.rc > 128:
        return f"it crashed with {signal_name(result.rc - 128)}"
    return "it failed" if result.rc else "it exited with status 0 but left no usable result"
