"""Where two requests differ, field by field: the answer to "why did this miss?"."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Final, Literal

from agentcache_core.errors import KeyingError
from agentcache_core.keys.body import body_of, path_of
from agentcache_core.keys.canonical import pack
from agentcache_core.keys.explain import exclusions
from agentcache_core.keys.lowering import Typing
from agentcache_core.keys.requests import ToolCall
from agentcache_core.keys.shown import WITHHELD, is_named_secret, is_secret_name, shown, shown_pair
from agentcache_core.keys.volatile import as_mapping

Change = Literal["added", "removed", "changed", "reordered", "ignored"]

_MAX_ALIGNED: Final = 2_000


@dataclass(frozen=True, slots=True)
class FieldDiff:
    """One place where two requests differ. `before` and `after` are shortened for people; secrets are withheld.

    `ignored` is a difference that does not count in the key; two requests with only such differences have one key.
    """

    path: str
    change: Change
    before: str | None = None
    after: str | None = None

    def __str__(self) -> str:
        match self.change:
            case "added":
                return f"+ {self.path}: {self.after}"
            case "removed":
                return f"- {self.path}: {self.before}"
            case "reordered":
                return f"~ {self.path}: the same items in another order"
            case "ignored":
                return f"  {self.path}: {self.before or 'absent'} -> {self.after or 'absent'} (does not count)"
            case "changed":
                return f"! {self.path}: {self.before} -> {self.after}"

    def to_dict(self) -> dict[str, str | None]:
        """The same as JSON values."""
        return {"path": self.path, "change": self.change, "before": self.before, "after": self.after}


def diff(a: object, b: object) -> tuple[FieldDiff, ...]:
    """Every place where `b` differs from `a`: first what counts, in the order of the key, then what does not.

    Empty when the requests are the same; only `ignored` when they differ and yet have one key.
    """
    ours, theirs = body_of(a), body_of(b)
    found: list[FieldDiff] = []
    if ours[0] != theirs[0]:
        found.append(FieldDiff("kind", "changed", ours[0], theirs[0]))
        return tuple(found)
    hidden = frozenset(name for request in (a, b) if isinstance(request, ToolCall) for name in request.secret)
    walk = _Comparison(ours[2], hidden, found)
    head = _HEADS.get(ours[0], len(ours[1]))
    for index in range(1, head):
        before, after, path = ours[1][index], theirs[1][index], path_of(ours, index)
        if ours[0] == "chat" and index in (5, 6) and (before is None) != (after is None):
            part = FieldDiff(path, "added", after=shown(after)) if before is None else None
            found.append(part or FieldDiff(path, "removed", before=shown(before)))
        elif not (ours[0] == "chat" and index == 3):
            walk.compare(before, after, path)
    if ours[0] == "chat":
        shapes = str(ours[1][3]), str(theirs[1][3])
        if shapes[0] != shapes[1]:
            found.append(FieldDiff("", "changed", f"asks in {shapes[0]!r}", f"asks in {shapes[1]!r}"))
        walk.sequences(ours[1][head:], theirs[1][head:], shapes[0].removesuffix("[]"))
    found.extend(_ignored(a, b))
    return tuple(found)


_HEADS: Final = {"chat": 7}


def nearest(request: object, stored: Iterable[object]) -> tuple[object, tuple[FieldDiff, ...]] | None:
    """Of the stored requests the one that differs from `request` in the fewest counted places, with the differences
    from it to `request`; None when there are none. The first of several equally near ones."""
    best: tuple[object, tuple[FieldDiff, ...]] | None = None
    fewest = float("inf")
    for candidate in stored:
        try:
            found = diff(candidate, request)
        except KeyingError:
            continue
        places = sum(1 for part in found if part.change != "ignored") + (100 if _other_kind(found) else 0)
        if places < fewest:
            best, fewest = (candidate, found), places
    return best


def _other_kind(found: tuple[FieldDiff, ...]) -> bool:
    return bool(found) and found[0].path == "kind"


class _Comparison:
    """One walk through two canonical bodies side by side."""

    def __init__(self, typing: Typing, hidden: frozenset[str], found: list[FieldDiff]) -> None:
        self._typing = typing
        self._hidden = hidden
        self._found = found

    def compare(self, a: Any, b: Any, path: str) -> None:
        """Tell every difference between two values that stand at the same place."""
        if self._packed(a) == self._packed(b):
            return
        name = path.rpartition(".")[2]
        if path == "credential" or is_secret_name(name) or (path == f"arguments.{name}" and name in self._hidden):
            self._found.append(FieldDiff(path, "changed", WITHHELD, WITHHELD))
        elif is_named_secret(a) or is_named_secret(b):
            self._found.append(FieldDiff(path, "changed", shown(a), shown(b)))
        elif isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
            self.sequences(a, b, path)
        elif (ours := as_mapping(a)) is not None and (theirs := as_mapping(b)) is not None:
            self._mappings(ours, theirs, path)
        else:
            before, after = shown_pair(self._open(a, path), self._open(b, path))
            self._found.append(FieldDiff(path, "changed", before, after))

    def _open(self, value: Any, path: str) -> Any:
        """A tool's arguments without those declared secret; any other value as it is."""
        if path != "arguments" or not isinstance(value, dict):
            return value
        return {name: WITHHELD if name in self._hidden else item for name, item in value.items()}

    def _mappings(self, a: dict[Any, Any], b: dict[Any, Any], path: str) -> None:
        for name in [*a, *(name for name in b if name not in a)]:
            where = f"{path}.{name}" if path else str(name)
            secret = is_secret_name(name) or (path == "arguments" and name in self._hidden)
            if name not in b:
                self._found.append(FieldDiff(where, "removed", before=WITHHELD if secret else shown(a[name])))
            elif name not in a:
                self._found.append(FieldDiff(where, "added", after=WITHHELD if secret else shown(b[name])))
            else:
                self.compare(a[name], b[name], where)

    def sequences(self, a: Any, b: Any, path: str) -> None:
        """Tell how two lists differ: items added, removed, changed in place, or the same in another order."""
        ours, theirs = [self._packed(item) for item in a], [self._packed(item) for item in b]
        if ours == theirs:
            return
        if sorted(ours) == sorted(theirs):
            self._found.append(FieldDiff(path, "reordered", shown(a), shown(b)))
            return
        if len(ours) * len(theirs) > _MAX_ALIGNED**2:
            self._replaced(a, b, path, (0, len(a)), (0, len(b)))
            return
        for tag, from_a, to_a, from_b, to_b in SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
            if tag != "equal":
                self._replaced(a, b, path, (from_a, to_a), (from_b, to_b))

    def _replaced(self, a: Any, b: Any, path: str, of_a: tuple[int, int], of_b: tuple[int, int]) -> None:
        paired = min(of_a[1] - of_a[0], of_b[1] - of_b[0])
        for step in range(paired):
            self.compare(a[of_a[0] + step], b[of_b[0] + step], f"{path}[{of_a[0] + step}]")
        for at in range(of_a[0] + paired, of_a[1]):
            self._found.append(FieldDiff(f"{path}[{at}]", "removed", before=shown(a[at])))
        for at in range(of_b[0] + paired, of_b[1]):
            self._found.append(FieldDiff(f"{path}[{at}]", "added", after=shown(b[at])))

    def _packed(self, value: Any) -> bytes:
        return pack([value], self._typing, lambda _: "")


def _ignored(a: object, b: object) -> list[FieldDiff]:
    """Differences in what the deny-list leaves out."""
    ours = {left_out.path: left_out.value for left_out in exclusions(a)}
    theirs = {left_out.path: left_out.value for left_out in exclusions(b)}
    found = []
    for path in [*ours, *(path for path in theirs if path not in ours)]:
        before, after = ours.get(path), theirs.get(path)
        if before != after:
            left, right = shown_pair(before, after)
            found.append(FieldDiff(path, "ignored", left if path in ours else None, right if path in theirs else None))
    return found
