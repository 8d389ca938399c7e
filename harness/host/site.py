"""site.toml -> Site: where this machine keeps weights, data sets, the cache and vendors' tools.

The file is the one requested, else ``$ACCEPTANCE_SITE``, else ``./site.toml``, else there
is none and the defaults hold. ``site.example.toml`` explains each key. Relative paths count from
the file. Each runtime declares the schema of its own table, such as ``[ascend]``.
"""

import os
import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from harness.errors import SiteError
from harness.host.locks import is_shared
from harness.host.ownership import foreign_writer
from harness.host.reading import TOML_BYTES, nameable, text_from_file, toml_from_text

SITE_VARIABLE = "ACCEPTANCE_SITE"
CACHE_VARIABLE = "ACCEPTANCE_CACHE_DIR"
CHECKPOINTS_VARIABLE = "ACCEPTANCE_CHECKPOINTS"

_TOML_WORDS = {
    "missing": "is missing",
    "tuple_type": "should be a list",
    "dict_type": "should be a table",
    "mapping_type": "should be a table",
    "model_type": "should be a table",
}


def _path(value: object, info: pydantic.ValidationInfo) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value:
        raise ValueError("should be a path, as text")
    base: Path = (info.context or {}).get("base", Path.cwd())
    try:
        path = base / Path(value).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{value}: {error}") from error
    return nameable(path)


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _required(is_fine: Callable[[Path], bool], complaint: str) -> pydantic.AfterValidator:
    """Return what refuses a path; ``{}`` in the complaint stands for it."""

    def checked(path: Path) -> Path:
        try:
            is_path_fine = is_fine(path)
        except OSError as error:
            raise ValueError(f"{path}: {error.strerror}") from error
        if not is_path_fine:
            raise ValueError(complaint.format(path))
        return path

    return pydantic.AfterValidator(checked)


AnyPath = Annotated[Path, pydantic.BeforeValidator(_path)]
Folder = Annotated[AnyPath, _required(Path.is_dir, "there is no folder {}")]
File = Annotated[AnyPath, _required(Path.is_file, "there is no file {}")]
NewFile = Annotated[
    AnyPath, _required(lambda path: not path.is_dir(), "{} is a folder, not a file")
]
NewFolder = Annotated[
    AnyPath, _required(lambda path: path.is_dir() or not path.exists(), "{} is not a folder")
]
Folders = Annotated[tuple[Folder, ...], pydantic.BeforeValidator(_tuple)]
DeviceId = Annotated[int, pydantic.Field(ge=0)]
DeviceIds = Annotated[tuple[DeviceId, ...], pydantic.BeforeValidator(_tuple)]


class SiteTable(pydantic.BaseModel):
    """A table of the file: strict types, no unknown key, never changed."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)

    @property
    def cells(self) -> Mapping[str, str]:
        """The keys of the table that stand for one cell each, and the id of that cell."""
        return {}


class DatasetSite(SiteTable):
    """Where a data set is: its manifest, or the list of its clips and the folder it counts from.

    Attributes:
        manifest: what `harness dataset scan` wrote.
        list: lines of a path and a label.
        root: folder of the clips; beside a manifest, where they are now.
        label_map: class names for a list; by default those of Kinetics-400.
    """

    manifest: File | None = None
    list: File | None = None
    root: Folder | None = None
    label_map: File | None = None

    @pydantic.model_validator(mode="after")
    def _is_one_or_the_other(self) -> "DatasetSite":
        if (self.manifest is None) == (self.list is None):
            raise ValueError("should name either a manifest or a list")
        if self.list is not None and self.root is None:
            raise ValueError("should name the root that the list counts from")
        if self.manifest is not None and self.label_map is not None:
            raise ValueError("names a label_map; a manifest has its class names in it")
        return self


class SiteFile(SiteTable):
    """What the file may say, beside the tables of the runtimes.

    Attributes:
        cache_dir: of the artifact store and the decoded clips.
        run_root: folder that gets a folder for each run.
        lock_dir: locks of the devices; runs that name different folders do not see each other.
        share_locks_as_root: whether root may use a lock_dir that other users can write to.
        trust_cache: whether a cache_dir may be used that other users can write to.
        history: file that every run is added to at its end; None: no history is kept.
        baseline: frozen release that `harness gate` compares with.
        title: product and release, for the head of the page.
        language: of what a person reads.
        checkpoints: folders in which weights are looked for, in this order.
        datasets: data sets by name.
        farm: address of the Ray cluster whose hosts measure; None: this machine does.
    """

    cache_dir: NewFolder
    run_root: NewFolder
    lock_dir: NewFolder
    share_locks_as_root: bool = False
    trust_cache: bool = False
    history: NewFile | None = None
    baseline: File | None = None
    title: str = ""
    language: Literal["en", "zh"] = "en"
    checkpoints: Folders = ()
    datasets: Mapping[str, DatasetSite] = {}
    farm: str | None = None


class Site(SiteFile):
    """What is where on this machine; ``source`` is the file that says so, or None.

    ``tables`` are those of the runtimes, by name.
    """

    source: Path | None = None
    tables: Mapping[str, Any] = {}


def load_site(
    path: Path | None,
    environ: Mapping[str, str],
    tables: Callable[[], Mapping[str, type[SiteTable]]] = dict,
) -> Site:
    """Return the site.

    Args:
        path: what ``--site`` says, or None.
        environ: the environment variables.
        tables: returns the schemas of the runtimes' tables by name; called where the file has one.

    Raises:
        SiteError: the file cannot be read, has an unknown key, a wrong type or a path that is not
            there; the message names the key and the file.
    """
    source = _source(path, environ)
    written = {} if source is None else _table_from_file(source)
    overrides = _overrides(environ)
    table = _defaults(environ, written.keys() | overrides.keys()) | written | overrides
    base = Path.cwd() if source is None else source.absolute().parent
    kinds = tables() if written.keys() - SiteFile.model_fields.keys() else {}
    fields: dict[str, Any] = {name: (kind, kind()) for name, kind in kinds.items()}
    schema = pydantic.create_model("SiteFile", __base__=SiteFile, **fields)
    try:
        file = schema.model_validate(table, context={"base": base})
    except pydantic.ValidationError as error:
        lines = (_message(detail, source, overrides.keys(), schema) for detail in error.errors())
        raise SiteError("\n".join(lines)) from error
    _refuse_foreign_locks(file, source)
    _refuse_foreign_cache(file, source)
    found = dict(file)
    return Site(tables={name: found.pop(name) for name in kinds}, source=source, **found)


def find_checkpoint(site: Site, filename: str, fixtures: Path | None = None) -> Path | None:
    """Return the first file of that name in the site's folders, then in ``fixtures``; or None."""
    folders = [*site.checkpoints, *([fixtures] if fixtures is not None else [])]
    return next((folder / filename for folder in folders if (folder / filename).is_file()), None)


def _refuse_foreign_locks(file: SiteFile, source: Path | None) -> None:
    if os.geteuid() == 0 and is_shared(file.lock_dir) and not file.share_locks_as_root:
        raise SiteError(
            f"{source}: lock_dir: other users may write to {file.lock_dir}, and this run is root's; run "
            "as another user, or set share_locks_as_root = true if you trust them"
        )


def _refuse_foreign_cache(file: SiteFile, source: Path | None) -> None:
    # What is in the cache is run, and its digests lie beside it: who can write there chooses both.
    writer = foreign_writer(file.cache_dir)
    if writer and not file.trust_cache:
        raise SiteError(
            f"{source or 'the default site'}: cache_dir: {writer}, and so choose what is run; take that "
            "right away (chmod -R go-w), name another folder, or set trust_cache = true if you trust "
            "them"
        )


def _source(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    if path is not None:
        return path
    if named := environ.get(SITE_VARIABLE):
        return Path(named)
    return Path("site.toml") if Path("site.toml").exists() else None


def _table_from_file(source: Path) -> dict[str, Any]:
    try:
        return toml_from_text(text_from_file(source, TOML_BYTES))
    except OSError as error:
        raise SiteError(
            f"cannot read the site file {source}: {error.strerror}; it comes from --site, "
            f"{SITE_VARIABLE} or the current folder, and site.example.toml is one to start from"
        ) from error
    except ValueError as error:
        raise SiteError(f"{source} is not TOML: {error}") from error


def _overrides(environ: Mapping[str, str]) -> dict[str, Any]:
    overrides: dict[str, Any] = {}
    if cache := environ.get(CACHE_VARIABLE):
        overrides["cache_dir"] = Path(cache).absolute()
    if folders := environ.get(CHECKPOINTS_VARIABLE):
        named = filter(None, folders.split(os.pathsep))
        overrides["checkpoints"] = [Path(folder).absolute() for folder in named]
    return overrides


def _defaults(environ: Mapping[str, str], given: Collection[str]) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "run_root": Path("runs").absolute(),
        "lock_dir": Path(tempfile.gettempdir()) / f"acceptance-suite-locks-{os.geteuid()}",
    }
    if "cache_dir" not in given:
        defaults["cache_dir"] = _cache_home(environ) / "acceptance-suite"
    return defaults


def _cache_home(environ: Mapping[str, str]) -> Path:
    named = Path(environ.get("XDG_CACHE_HOME", ""))
    if named.is_absolute():
        return named
    home = environ.get("HOME")
    if not home:
        raise SiteError(f"there is no HOME to keep a cache in; set {CACHE_VARIABLE} to a folder")
    return Path(home) / ".cache"


def _message(
    detail: Any, source: Path | None, overridden: Collection[str], schema: type[SiteFile]
) -> str:
    location: tuple[str | int, ...] = detail["loc"]
    key = ".".join(str(part) for part in location)
    origin = str(source)
    if location[0] in overridden:
        origin = CACHE_VARIABLE if location[0] == "cache_dir" else CHECKPOINTS_VARIABLE
    elif source is None:
        origin = "the default site"
    return f"{origin}: {key}: {_complaint(detail, schema)}"


def _complaint(detail: Any, schema: type[SiteFile]) -> str:
    if detail["type"] == "extra_forbidden":
        return f"unknown key; known are {', '.join(_known_keys(detail['loc'], schema))}"
    message: str = _TOML_WORDS.get(detail["type"], detail["msg"])
    return message.removeprefix("Value error, ").removeprefix("Input ")


def _known_keys(location: tuple[str, ...], schema: type[SiteFile]) -> list[str]:
    table: Any = schema if len(location) == 1 else schema.model_fields[location[0]].annotation
    return sorted((DatasetSite if location[0] == "datasets" else table).model_fields)


FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
