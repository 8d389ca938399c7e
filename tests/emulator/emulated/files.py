"""Input files grouped into batches, outputs split and saved, as ais_bench does."""

import json
import os
import re
import time
from pathlib import Path

import numpy as np

from emulated.device import info, is_new
from emulated.faults import has_fault

ENDINGS = (".npy", ".NPY", ".bin", ".BIN")
PURE, PADDING = "pure_infer_data", "padding_infer_fake_file"


def natural(path):
    return [int(w) if w.isdigit() else w.lower() for w in re.split(r"(\d+)", str(path))]


def inputs_from_text(text, model):
    entries = text.split(",")
    if all(Path(entry).is_file() for entry in entries):
        return [entries]
    for entry in entries:
        if not Path(entry).is_dir():
            info(f"Invalid args. {entry}  of --input is invalid", "ERROR")
            raise RuntimeError
    if len(entries) != len(model.inputs):
        count = f"{len(entries)} not equal to model inputs num:{len(model.inputs)}"
        info(f"Invalid args. args input dir num:{count}", "ERROR")
        raise RuntimeError
    return [listed(entry) for entry in entries]


def listed(folder):
    files = sorted((f for f in Path(folder).iterdir() if f.name.endswith(ENDINGS)), key=natural)
    if not files:
        kinds = "[*.npy *.NPY *.bin *.BIN]"
        info(f"{folder} of input args not find valid file,valid file format:{kinds}", "ERROR")
        raise RuntimeError
    for file in files:
        if is_new() and file.is_symlink():
            text = "is a soft link, not supported, please import file(or directory) directly"
            info(f"path :{file} {text}", "ERROR")
            raise RuntimeError(f"input data:{file} is illegal")
    return [str(file) for file in files]


def array_from_file(path):
    array = np.load(path) if path.lower().endswith(".npy") else np.fromfile(path, np.uint8)
    # The real one passes the raw bytes, in their memory order.
    return np.frombuffer(array.tobytes("A"), np.uint8)


def batches_of(lists, model):
    """Return [input][file] for each execution; only the first file's size is checked."""
    size = array_from_file(lists[0][0]).nbytes
    tensor = model.inputs[0].realsize
    if size == 0 or tensor % size:
        info(f"arg0 tensorsize: {tensor} filesize: {size} not match", "ERROR")
        raise RuntimeError
    count = tensor // size
    runs = -(-len(lists[0]) // count)
    info(
        f"get filesperbatch files0 size:{size} tensor0size:{tensor} filesperbatch:{count}"
        f" runcount:{runs}"
    )
    chunks = [[files[i * count : (i + 1) * count] for files in lists] for i in range(runs)]
    return [[f + [PADDING] * (count - len(f)) for f in chunk] for chunk in chunks]


def array_of_batch(files):
    return np.concatenate([array_from_file(files[0] if f == PADDING else f) for f in files])


class Results:
    """The output folder, and the summary's entries for the outputs."""

    def __init__(self, args):
        self.args, self.filesinfo = args, {}
        self.name = args.output_dirname or time.strftime("%Y_%m_%d-%H_%M_%S")
        self.folder = Path(args.output) / self.name if args.output else None
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o750 if is_new() else 0o755)
            info(f"output path:{args.output}/{self.name}")

    def save(self, batch, outputs, start):
        """Save the outputs of one execution, without those of the padding."""
        if self.folder is None:
            return
        files = batch[0]
        for index, output in enumerate(outputs):
            if output.shape[self.args.output_batchsize_axis] % len(files) or has_fault(
                "bench_save_out"
            ):
                shape = f"array shape:{output.shape} filesinfo:{batch}"
                rows = f"files_count_perbatch:{len(files)} ndata.shape0:{output.shape[0]}"
                info(f"save out files error {shape} {rows}", "ERROR")
                raise RuntimeError
            parts = np.array_split(output, len(files), self.args.output_batchsize_axis)
            for j, (file, part) in enumerate(zip(files, parts, strict=True)):
                if file != PADDING:
                    self._save_one(start + j, [inputs[j] for inputs in batch], index, part)

    def _save_one(self, number, infiles, index, array):
        stem = Path(infiles[0]).name.split(".")[0]
        path = f"{self.args.output}/{self.name}/{stem}_{index}.{self.args.outfmt.lower()}"
        if has_fault("bench_disk_full"):
            raise OSError(28, "No space left on device", path)
        write_array(path, array, self.args.outfmt)
        entry = self.filesinfo.setdefault(str(number), {"infiles": infiles, "outfiles": []})
        entry["outfiles"].append(path)

    def write_summary(self, numbers):
        path = Path(self.args.output) / f"{self.name}_summary.json"
        spoil_outputs(self.filesinfo, self.folder)
        text = json.dumps({"filesinfo": self.filesinfo, **numbers, "pid": os.getpid()})
        if has_fault("bench_summary_missing"):
            return
        path.write_text(text[:200] if has_fault("bench_summary_truncated") else text)
        path.chmod(0o640 if is_new() else 0o644)


def write_array(path, array, kind):
    if kind == "NPY":
        np.save(path, array)
    elif kind == "BIN":
        array.tofile(path)
    else:
        rows = array.reshape(-1, array.shape[-1])
        form = "%d " if array.dtype.kind in "iu" else "%f "
        lines = ["".join(form % value for value in row) + "\n" for row in rows]
        Path(path).write_text("".join(lines))
    Path(path).chmod(0o640 if is_new() else 0o644)


def spoil_outputs(filesinfo, folder):
    """Apply the enabled faults to the written outputs."""
    last = max(filesinfo, key=int)
    spoil_file(Path(filesinfo[last]["outfiles"][0]))
    if has_fault("bench_duplicate_output"):
        filesinfo[last]["outfiles"] = filesinfo["0"]["outfiles"]
    if has_fault("bench_duplicate_entry"):
        filesinfo[last] = filesinfo["0"]
    if has_fault("bench_lost_sample"):
        del filesinfo[last]
    if has_fault("bench_extra_file"):
        (folder / "sumary.json").write_text("{}")


def spoil_file(path):
    if has_fault("bench_missing_output"):
        path.unlink()
    if has_fault("bench_short_output"):
        path.write_bytes(path.read_bytes()[:-6])
    if has_fault("bench_empty_output"):
        path.write_bytes(b"")
    if has_fault("bench_wrong_shape"):
        np.save(path, np.load(path)[:, :-1])
