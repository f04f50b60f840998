"""A round of jobs shared out through a directory, so that any number of workers on any number of machines take part.

    RUN/spool/round-000012/batch-0003.jobs     what to do (written by the leader, whole or not at all)
                           batch-0003.claim    who does it, touched while it runs
                           batch-0003.finds    what was found

Whoever holds the store's lock leads: plans rounds, publishes batches, merges what was found in the order of the jobs.
Everybody, the leader included, claims batches and writes finds. A worker that dies leaves a claim nobody touches any
more: after ``lease`` seconds (at once, if it ran on the same machine) another one takes the batch over. Work done
twice gives the same bytes, and a batch is merged once: neither the number of workers nor their fate changes the
database.
"""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jaxland.errors import StoreError, StoreLockedError
from jaxland.landscape.schema import Round
from jaxland.landscape.search.explore import Search
from jaxland.landscape.search.jobs import Batch, Coordinates, Finds, Runner
from jaxland.landscape.search.settings import SearchSettings
from jaxland.landscape.search.shards import pack_batch, pack_finds, unpack_batch, unpack_finds
from jaxland.landscape.store import Store, scale_in
from jaxland.problem.problem import Problem
from jaxland.runs import Stop, write_whole

_DONE = "finished"


class Spool:
    """The shared directory of a run.

    Args:
        directory: of the run; ``landscape.db`` and ``spool/`` are in it.
        lease: seconds after which an untouched claim is void.
    """

    def __init__(self, directory: str | Path, lease: float = 60.0) -> None:
        self.directory = Path(directory)
        self.path = self.directory / "spool"
        self.lease = lease
        self.name = f"{socket.gethostname()}:{os.getpid()}:{threading.get_ident()}"

    # -- leader ------------------------------------------------------------------------------------------------

    def publish(self, r: Round, batches: list[Batch], coordinates: Coordinates) -> Path:
        """Write the batches of a round; those that are there already stay."""
        folder = self.path / f"round-{r.id:06d}"
        for batch, name in zip(batches, self._names(r, batches)):
            jobs, data = folder / f"{name}.jobs", pack_batch(batch, coordinates)
            if jobs.exists():
                if jobs.read_bytes() == data:
                    continue
                for stale in (".finds", ".claim"):  # of other batches: an earlier leader cut the round differently
                    jobs.with_suffix(stale).unlink(missing_ok=True)
            write_whole(jobs, data)
        return folder

    def _names(self, r: Round, batches: list[Batch]) -> list[str]:
        names, first = [], r.next_job
        for batch in batches:
            names.append(f"batch-{first:06d}")
            first += len(batch.jobs)
        return names

    def gather(self, r: Round, batches: list[Batch], coordinates: Coordinates, runner: Runner) -> Iterator[Finds]:
        """Finds of the batches in their order, from whoever has done them; helps with the rest meanwhile."""
        folder = self.publish(r, batches, coordinates)
        for batch, name in zip(batches, self._names(r, batches)):
            while True:
                finds = self._read(folder / f"{name}.finds", batch)
                if finds is not None:
                    break
                if runner.stopping():
                    return
                if not self.work_once(runner, folder):
                    time.sleep(0.05)
            yield finds
        shutil.rmtree(folder, ignore_errors=True)

    def _read(self, path: Path, batch: Batch) -> Finds | None:
        try:
            return unpack_finds(path.read_bytes(), batch, str(path))
        except FileNotFoundError:
            return None
        except StoreError:
            path.unlink(missing_ok=True)  # damaged on its way: done again
            path.with_suffix(".claim").unlink(missing_ok=True)
            return None

    def finish(self) -> None:
        """Tell the workers that nothing is left."""
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / _DONE).touch()
        for folder in self.path.glob("round-*"):  # a worker that was late may have made one again
            shutil.rmtree(folder, ignore_errors=True)

    def reopen(self) -> None:
        """Take back ``finish``: there is work again."""
        (self.path / _DONE).unlink(missing_ok=True)

    @property
    def finished(self) -> bool:
        """Whether the leader found nothing left to do."""
        return (self.path / _DONE).exists()

    # -- worker ------------------------------------------------------------------------------------------------

    def work_once(self, runner: Runner, folder: Path | None = None) -> bool:
        """Do one open batch, if there is any; whether there was."""
        if folder is not None:
            folders = [folder]
        else:
            folders = sorted(self.path.glob("round-*"))
        for jobs in (path for f in folders for path in sorted(f.glob("*.jobs"))):
            if jobs.with_suffix(".finds").exists() or not self._claim(jobs.with_suffix(".claim")):
                continue
            try:
                batch, coordinates = unpack_batch(jobs.read_bytes(), str(jobs))
            except FileNotFoundError:
                continue  # the round was merged meanwhile
            with self._alive(jobs.with_suffix(".claim")):
                finds = runner.run(batch, coordinates)
            if runner.stopping():
                jobs.with_suffix(".claim").unlink(missing_ok=True)
                return True
            try:
                if jobs.exists():
                    write_whole(jobs.with_suffix(".finds"), pack_finds(batch, finds))
            except StoreError:
                if jobs.exists():  # else the round was merged meanwhile
                    raise
            return True
        return False

    def _claim(self, path: Path) -> bool:
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return self._steal(path)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StoreError(f"{path.parent} cannot be written: {error.strerror}") from error
        with os.fdopen(handle, "w") as file:
            file.write(self.name)
        return True

    def _steal(self, path: Path) -> bool:
        """Take over the claim of a dead worker: one of this machine that is gone, or one silent for long."""
        try:
            owner, age = path.read_text(), time.time() - path.stat().st_mtime
        except FileNotFoundError:
            return False
        host, _, rest = owner.partition(":")
        dead = age > self.lease
        if host == socket.gethostname() and rest:
            try:
                os.kill(int(rest.split(":")[0]), 0)
            except ProcessLookupError:
                dead = True
            except (PermissionError, ValueError):
                pass
        if not dead:
            return False
        write_whole(path, self.name)
        return True

    @contextmanager
    def _alive(self, claim: Path) -> Iterator[None]:
        """Touch the claim while the block runs."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(self.lease / 6):
                with suppress(OSError):
                    os.utime(claim)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def status(self) -> dict[str, int]:
        """Batches open, claimed and done of the rounds in the directory."""
        jobs = list(self.path.glob("round-*/*.jobs"))
        done = sum(path.with_suffix(".finds").exists() for path in jobs)
        claimed = sum(path.with_suffix(".claim").exists() for path in jobs) - done
        return {"open": len(jobs) - done - max(claimed, 0), "claimed": max(claimed, 0), "done": done}


def work(
    problem: Problem,
    directory: str | Path,
    settings: SearchSettings,
    *,
    lease: float = 60.0,
    batch: int = 16,
    stop: Stop | None = None,
    poll: float = 0.2,
    lead: bool = True,
    **options: object,
) -> int:
    """Take part in a search until it is finished; start any number of these, in any number of processes.

    Args:
        problem: the same for all workers; in float64.
        directory: of the run, shared by them.
        settings: the same for all.
        lease: see ``Spool``.
        batch: jobs per file; does not change what is found.
        stop: ends early; others, or a later call, go on.
        poll: seconds between two looks when there is nothing to do.
        lead: take the lead when nobody has it.
        **options: of ``Search`` (box, layout, progress) and ``tolerances``.

    Returns:
        Batches done here.

    Raises:
        StoreError: the directory cannot be used, or holds the landscape of another problem.
    """
    spool, stop = Spool(directory, lease), stop or Stop()
    tolerances = options.pop("tolerances", None)
    progress = options.pop("progress", None)
    path = spool.directory / "landscape.db"
    # Where no store is yet, all find the scale that its first leader will find.
    runner = Runner(problem, settings, tolerances, scale=scale_in(path), should_stop=stop, **options)  # type: ignore[arg-type]
    while not stop() and not spool.finished:
        if lead:
            try:
                store = Store(path, problem, runner.engine.tolerances, box=options.get("box"))  # type: ignore[arg-type]
            except StoreLockedError:
                pass
            else:
                with store:

                    def compute(r: Round, batches: list[Batch], store: Store = store) -> Iterator[Finds]:
                        return spool.gather(r, batches, store.minima.coordinates, runner)

                    search = Search(
                        store,
                        settings,
                        batch=batch,
                        compute=compute,
                        stop=stop,
                        progress=progress,  # type: ignore[arg-type]
                    )
                    search.run()
                    if not search.interrupted:
                        spool.finish()
                break
        if not spool.work_once(runner):
            time.sleep(poll)
    return runner.batches


def claims(directory: str | Path) -> list[tuple[str, str, float]]:
    """Who does what: batch, worker (host:process:thread), seconds since the claim was touched."""
    found = []
    for claim in sorted(Path(directory).glob("spool/round-*/*.claim")):
        with suppress(OSError):
            if not claim.with_suffix(".finds").exists():
                silent = time.time() - claim.stat().st_mtime
                found.append((f"{claim.parent.name}/{claim.stem}", claim.read_text(), silent))
    return found
