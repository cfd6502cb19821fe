"""Which session holds which branches: every slot that is taken is accounted for here."""

from __future__ import annotations

from collections import defaultdict

from duplex.model.caches import Branch, BranchPool, StreamCaches


class SessionStore:
    """Owns every branch of every session; models own none.

    Methods that touch tensors (fork, export, import_) run on a worker; the rest is bookkeeping. Thread-safe
    as long as one session's calls do not overlap.
    """

    def __init__(self, pool: BranchPool) -> None:
        self._pool = pool
        self._branches: defaultdict[str, list[Branch]] = defaultdict(list)

    @property
    def max_length(self) -> int:
        """Tokens a branch can hold."""
        return self._pool.max_length

    @property
    def free_slots(self) -> int:
        """Slots nobody holds."""
        return self._pool.free_slots

    def held(self, session_id: str) -> int:
        """Number of branches a session holds."""
        return len(self._branches.get(session_id, ()))

    def create(self, session_id: str) -> Branch:
        """An empty branch. Raises CapacityError."""
        return self._keep(session_id, self._pool.acquire())

    def fork(self, session_id: str, source: Branch, length: int | None = None) -> Branch:
        """A new branch with the first `length` tokens of `source` (one copy). Raises CapacityError."""
        return self._keep(session_id, self._pool.fork(source, length))

    def adopt(self, session_id: str, fork: Branch, old: Branch) -> Branch:
        """Let `fork` take the place of `old`, which is released."""
        self.release(session_id, old)
        return fork

    def truncate(self, branch: Branch, length: int, stream: StreamCaches | None = None) -> None:
        """Forget what comes after `length` tokens; `stream` restores what encoder and adapter knew there."""
        self._pool.truncate(branch, min(length, branch.length))
        if stream is not None:
            branch.stream = stream.copy()

    def release(self, session_id: str, branch: Branch) -> None:
        """Give a slot back; harmless when it was given back before."""
        held = self._branches.get(session_id, [])
        if branch in held:
            held.remove(branch)
            if not held:
                del self._branches[session_id]
        self._pool.release(branch)

    def release_all(self, session_id: str) -> None:
        """Give back every slot of a session."""
        for branch in self._branches.pop(session_id, []):
            self._pool.release(branch)

    def export(self, branch: Branch) -> bytes:
        """A branch as bytes."""
        return self._pool.export(branch)

    def import_(self, session_id: str, exported: bytes) -> Branch:
        """A branch from bytes. Raises CapacityError, BranchOverflowError, ValueError."""
        return self._keep(session_id, self._pool.restore(exported))

    def _keep(self, session_id: str, branch: Branch) -> Branch:
        self._branches[session_id].append(branch)
        return branch
