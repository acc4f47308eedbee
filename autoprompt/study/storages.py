"""Where a study is stored: a journal file, PostgreSQL, or Optuna's gRPC proxy in front of it."""

from __future__ import annotations

import contextlib
import json
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import SplitResult, parse_qsl, urlsplit

import optuna
from optuna.distributions import distribution_to_json
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, GrpcStorageProxy, InMemoryStorage, JournalStorage, RDBStorage, get_storage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from autoprompt.errors import StudyError
from autoprompt.study.journal import Journal

__all__ = ["Store", "open_storage", "serve_proxy"]

Kind = Literal["memory", "journal", "postgresql", "grpc"]
T = TypeVar("T")
_ALLOWED = "journal:PATH, postgresql://USER@HOST:PORT/DATABASE and grpc://HOST:PORT"
_SCHEMA = 0x6175746F  # the advisory lock under which the tables are made
_PROXY = 10  # seconds that a proxy may take to answer first
_PATIENCE = 120.0  # seconds that a server may be away
_MESSAGE = 3 << 20  # bytes of a trial; gRPC refuses messages of 4 MB
_TRIED = -2  # the number of a template that was tried before
_EXTRA = 'It needs more packages: pip install "autoprompt-search[workers]".'


@dataclass(frozen=True)
class Store:
    """An opened storage.

    where: for messages, without anything secret. commit: brings all to the disk. folder: beside it, for
    what is large; None where there is no such place.
    """

    storage: BaseStorage
    kind: Kind
    where: str
    commit: Callable[[], None] = field(default=lambda: None)
    folder: Path | None = None
    patience: float = _PATIENCE

    def beside(self, name: str) -> tuple[BaseStorage, int]:
        """A second Optuna study, for what goes along with one, made where it is not there: its storage and number."""
        study = self.steadily(
            lambda: optuna.create_study(
                storage=self.storage, study_name=name, directions=[StudyDirection.MINIMIZE], load_if_exists=True
            )
        )
        return study._storage, study._study_id

    def steadily(self, call: Callable[[], T], found: Callable[[], T | None] = lambda: None) -> T:
        """What a call gives, tried again while the server is away.

        A call whose connection died may have been carried out all the same: before it is tried again,
        `found` looks for its outcome. Raises StudyError when the server stays away.
        """
        until, wait = time.monotonic() + self.patience, 0.05
        look = False
        while True:
            try:
                if look and (outcome := found()) is not None:
                    return outcome
                look = False
                return call()
            except _lost(self.kind) as error:
                if not _is_away(error):
                    raise
                if time.monotonic() > until:
                    raise StudyError(
                        f"The storage {self.where} has not answered for {self.patience:.0f} s "
                        f"({type(error).__name__}). Look after the server and run the same command again; "
                        "finished trials are kept."
                    ) from None
            look = True
            time.sleep(wait)
            wait = min(2 * wait, 5.0)


def _lost(kind: Kind) -> tuple[type[Exception], ...]:
    """What is raised when a server is away."""
    if kind == "postgresql":
        from sqlalchemy.exc import DBAPIError

        return StorageInternalError, DBAPIError
    if kind == "grpc":
        import grpc

        return (grpc.RpcError,)
    return ()


def _is_away(error: Exception) -> bool:
    """Whether it may be another time; a message that is too large, say, will always be."""
    code = getattr(error, "code", None)
    if callable(code):
        return code().name in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "UNKNOWN", "INTERNAL", "CANCELLED", "ABORTED")
    cause = error.__cause__ or error  # a connection that died shows itself in many kinds
    return type(cause).__name__ not in ("DataError", "IntegrityError", "NotSupportedError", "ProgrammingError")


def open_storage(where: Path | str | None, patience: float = _PATIENCE) -> Store:
    """Open a storage; its tables are made where there are none.

    where: a journal file that this process alone writes (a Path), one that several processes of this
    machine share ("journal:PATH"), a PostgreSQL database ("postgresql://USER@HOST:PORT/DATABASE"),
    Optuna's proxy ("grpc://HOST:PORT"); None keeps all in memory. patience: seconds that a server may
    be away in the middle. Raises StudyError when a server is not there, or the address is none of
    these or has a password in it; ResultsError when a file cannot be used.
    """
    if where is None:
        return Store(InMemoryStorage(), "memory", "memory")
    if isinstance(where, Path):
        return _journal(where, shared=False)
    scheme, _, rest = where.partition(":")
    if scheme == "journal" and rest:
        return _journal(Path(rest), shared=True)
    if scheme == "postgresql":
        return _postgresql(_address(where), where, patience)
    if scheme == "grpc":
        return _grpc(_address(where), patience)
    raise StudyError(f"The storage begins with {scheme[:20]!r}; allowed are {_ALLOWED}.")


def _journal(path: Path, shared: bool) -> Store:
    backend = Journal(path, shared)
    return Store(JournalStorage(backend), "journal", str(path), backend.sync, path.parent)


def _address(url: str) -> SplitResult:
    """The parts of an address. Its text is in no message: it may hold a password."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise StudyError(f"The address of the storage cannot be read; allowed are {_ALLOWED}.") from None
    secret = parts.password is not None or any(key == "password" for key, _ in parse_qsl(parts.query))
    if secret:
        raise StudyError(
            "The address of the storage has a password in it, which would be stored and shown. "
            "Leave it out, and give it by the environment (PGPASSWORD) or in a password file (~/.pgpass, PGPASSFILE)."
        )
    return parts


# -- PostgreSQL ----------------------------------------------------------------------------------


class _Tables(RDBStorage):
    """Optuna's tables, written with fewer statements.

    A new trial is stored as a whole, and not value by value, each looked up first. One whose first
    attempt was stored, though its answer was lost, is not made twice.
    """

    def _get_prepared_new_trial(self, study_id: int, template_trial: FrozenTrial | None, session: Any) -> Any:
        if template_trial is None or template_trial.values is not None or template_trial.intermediate_values:
            return super()._get_prepared_new_trial(study_id, template_trial, session)
        if "mark" in template_trial.user_attrs:
            if template_trial._trial_id == _TRIED and (made := self._made(study_id, template_trial, session)):
                return made
            template_trial._trial_id = _TRIED
        return self._whole(study_id, template_trial, session)

    def _made(self, study_id: int, template: FrozenTrial, session: Any) -> Any:
        from optuna.storages._rdb import models

        rows = session.query(models.TrialModel).join(models.TrialUserAttributeModel)
        rows = rows.filter(models.TrialModel.study_id == study_id, models.TrialUserAttributeModel.key == "mark")
        return rows.filter(models.TrialUserAttributeModel.value_json == json.dumps(template.user_attrs["mark"])).first()

    def _whole(self, study_id: int, template: FrozenTrial, session: Any) -> Any:
        from optuna.storages._rdb import models

        trial = models.TrialModel(
            study_id=study_id, number=None, state=template.state, datetime_start=template.datetime_start,
            datetime_complete=template.datetime_complete,
        )  # fmt: skip
        session.add(trial)
        session.flush()
        own = trial.trial_id
        session.add_all(
            models.TrialParamModel(
                trial_id=own, param_name=name, param_value=among.to_internal_repr(template.params[name]),
                distribution_json=distribution_to_json(among),
            )
            for name, among in template.distributions.items()
        )  # fmt: skip
        for kind, values in (
            (models.TrialUserAttributeModel, template.user_attrs),
            (models.TrialSystemAttributeModel, template.system_attrs),
        ):
            session.add_all(kind(trial_id=own, key=key, value_json=json.dumps(v)) for key, v in values.items())
        trial.number = trial.count_past_trials(session)
        return trial


def _postgresql(parts: SplitResult, url: str, patience: float) -> Store:
    where = f"postgresql at {parts.hostname or 'this machine'}:{parts.port or 5432}"
    try:
        import psycopg  # noqa: F401
        from sqlalchemy import create_engine, text
        from sqlalchemy.exc import DBAPIError
    except ImportError:
        raise StudyError(f"The storage is {where}. {_EXTRA}") from None
    driven = "postgresql+psycopg" + url.removeprefix("postgresql")
    connect = {"connect_timeout": 10, "keepalives_idle": 30, "tcp_user_timeout": 30_000}
    options = {"pool_pre_ping": True, "connect_args": connect}
    try:
        engine = create_engine(driven, **options)
        try:
            with engine.connect() as connection:
                # many first starts at once: one makes the tables, the others wait for it
                connection.execute(text(f"SELECT pg_advisory_lock({_SCHEMA})"))
                storage = _Tables(driven, engine_kwargs=options)
                connection.execute(text(f"SELECT pg_advisory_unlock({_SCHEMA})"))
        finally:
            engine.dispose()
    except (DBAPIError, StorageInternalError) as error:
        raise StudyError(f"The storage {where} cannot be used: {_said(error)} {_REMEDY}") from None
    weakref.finalize(storage, storage.engine.dispose)  # psycopg complains of connections that are left open
    return Store(get_storage(storage), "postgresql", where, patience=patience)


_REMEDY = "Is the server running, and are the user, the database and the way to give a password right?"


def _said(error: Exception) -> str:
    """The first line of what the server said; it never repeats a password."""
    cause = getattr(error.__cause__ or error, "orig", None) or error.__cause__ or error
    return str(cause).strip().partition("\n")[0][:200]


# -- gRPC ----------------------------------------------------------------------------------------


class _Proxied(GrpcStorageProxy):
    """Optuna's proxy; what is too large for one message is refused in words."""

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        if template_trial is not None:
            size = sum(len(value) for value in template_trial.user_attrs.values() if isinstance(value, str))
            if size > _MESSAGE:
                raise StudyError(
                    f"A trial takes {size / 2**20:.1f} MB with its vectors; through gRPC {_MESSAGE >> 20} MB can go. "
                    "Give the workers the database itself (postgresql://...), or search with fewer vectors."
                )
        return super().create_new_trial(study_id, template_trial)


def _grpc(parts: SplitResult, patience: float) -> Store:
    host, port = parts.hostname or "127.0.0.1", parts.port or 13000
    where = f"grpc at {host}:{port}"
    try:
        import grpc  # noqa: F401
    except ImportError:
        raise StudyError(f"The storage is {where}. {_EXTRA}") from None
    with _experimental():
        storage = _Proxied(host=host, port=port)
    try:
        storage.wait_server_ready(timeout=_PROXY)
    except ConnectionError:
        storage.close()
        raise StudyError(
            f"The storage {where} does not answer. Is its server running? `autoprompt proxy` starts one."
        ) from None
    weakref.finalize(storage, storage._channel.close)
    return Store(storage, "grpc", where, patience=patience)


def serve_proxy(url: str, host: str = "127.0.0.1", port: int = 13000) -> None:
    """Run Optuna's gRPC proxy in front of a PostgreSQL database, until the process is ended.

    Whoever reaches the port can read and change the studies: it asks for no password. Beyond this
    machine, put it behind a firewall or a tunnel. Raises StudyError as `open_storage` does, and when
    the port cannot be had.
    """
    if not url.startswith("postgresql:"):
        raise StudyError("The proxy stands in front of a database: give it postgresql://USER@HOST:PORT/DATABASE.")
    store = open_storage(url)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with _experimental():
            optuna.storages.run_grpc_proxy_server(store.storage, host=host, port=port)
    except RuntimeError as error:
        raise StudyError(f"The proxy cannot listen on {host}:{port}: {str(error)[:200]} Give another port.") from None


@contextlib.contextmanager
def _experimental() -> Iterator[None]:
    """Without Optuna's warning that its proxy may change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield
