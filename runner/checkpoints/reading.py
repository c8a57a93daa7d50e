"""Finding the checkpoints of a run, and verifying that they are complete and undamaged."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .. import stored
from ..data import seen
from ..errors import CheckpointError, Damaged
from ..files.digests import content_digest
from ..parallel import Ranks
from ..runs.journal import CHECKPOINT_NAME, CHECKPOINTS
from ..training.state import Progress
from .state import ANOTHER, IMAGES, STATE, OtherLayout, State, read


def pointed(folder: Path, pointer: str) -> str | None:
    """Name of the checkpoint that `last`, `best` or `final` points to; None if there is no such pointer.

    Errors: Damaged for one that does not name a checkpoint.
    """
    name = stored.read_text(folder / pointer)
    if name is not None and not CHECKPOINT_NAME.fullmatch(name.strip()):
        raise Damaged(
            f"{folder / pointer} is damaged: it does not name a checkpoint. "
            f"Write the name of one into it: {_have(folder)}"
        )
    return None if name is None else name.strip()


def pointed_or_none(folder: Path, pointer: str) -> str | None:
    """`pointed` for a run that resumes and rewrites its pointers: None for a damaged one as well."""
    with contextlib.suppress(Damaged):
        return pointed(folder, pointer)
    return None


def _have(folder: Path) -> str:
    return ", ".join(sorted(path.parent.name for path in folder.glob(f"*/{STATE}"))) or "there is none"


@dataclass
class Saved:
    """A verified checkpoint."""

    folder: Path
    state: State

    @property
    def progress(self) -> Progress:
        """The run's progress at that point."""
        return self.state.progress

    def trained_on(self) -> seen.Keys | None:
        """The images that its weights were trained on; None in checkpoints of earlier versions. Errors: Damaged."""
        if IMAGES not in self.state.digests:
            return None
        try:
            return seen.Keys.from_bytes(stored.read_bytes(self.folder / IMAGES) or b"")
        except ValueError as error:
            raise Damaged(f"{self.folder / IMAGES} is damaged: {error}. {ANOTHER}") from error


def verify(folder: Path) -> Saved:
    """Verify that every byte of a checkpoint is as it was written.

    Errors: CheckpointError for one that is damaged or incomplete, OtherLayout for one of another version.
    """
    state = read(folder)
    for name, digest in state.digests.items():
        content = stored.read_bytes(folder / name, ANOTHER)
        if content is None or content_digest([content]) != digest:
            raise Damaged(
                f"{folder} is damaged: {name} {'is missing' if content is None else 'was changed'}. {ANOTHER}"
            )
    return Saved(folder, state)


def newest(directory: Path) -> tuple[Saved | None, list[str]]:
    """The newest undamaged checkpoint of a run, and a note about every newer one that is damaged.

    Errors: CheckpointError if all existing checkpoints are damaged, or one is of another version.
    """
    folder = directory / CHECKPOINTS
    last = pointed_or_none(folder, "last")
    candidates = sorted((path for path in folder.glob("step-*") if path.is_dir()), key=lambda path: path.name)
    candidates.sort(key=lambda path: path.name == last)
    damaged: list[str] = []
    for candidate in reversed(candidates):
        try:
            saved = verify(candidate)
        except OtherLayout:
            raise
        except CheckpointError as error:
            damaged.append(str(error).partition(". Take another")[0])
        else:
            return saved, [f"{what}; {candidate.name}, before it, is used instead" for what in damaged]
    if damaged:
        raise CheckpointError(
            f"No checkpoint of {directory} can be used: {'; '.join(damaged)}. Start again in another folder "
            "(hydra.run.dir=DIR), or from these weights (checkpoint.init_from=FILE)."
        )
    return None, []


@contextlib.contextmanager
def shared(saved: Saved | None, ranks: Ranks) -> Iterator[Saved | None]:
    """Share the first process's checkpoint with all processes.

    Processes that cannot see its folder get a copy within the context.
    """
    if saved is None or ranks.world_size == 1:
        yield saved
        return
    content = ranks.broadcast_from_first(
        lambda: {name: stored.read_bytes(saved.folder / name) or b"" for name in saved.state.digests}
    )
    if ranks.is_first:
        yield saved
        return
    with tempfile.TemporaryDirectory() as folder:
        for name, data in content.items():
            (Path(folder) / name).write_bytes(data)
        yield Saved(Path(folder), saved.state)
