"""A double of a disk that forgets what was not synced.

What os.fsync(2) promises and no more: of a file its content, of a folder its entries. The calls
of the module ``os`` are watched while they act on a real folder. At any instant ``states`` gives
every tree that a power cut there may leave: each name that was changed since its folder was synced
is old or new, independently of the others, and each content that was written since its file was
synced is old, new, or torn. That is more than ext4 or FAT are seen to do, so whoever stands this
stands them.
"""

from __future__ import annotations

import itertools
import math
import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WATCHED = ("open", "close", "write", "fsync", "replace", "rename", "unlink", "mkdir", "rmdir",
           "symlink")  # fmt: skip
VOLATILE = ("proc", "sys", "dev", "run")
# ``lost``: nothing unsynced reached the disk; ``reordered``: the names did, the content did not.
WAYS = ("lost", "reordered")
LIMIT = 24  # legal states looked at for one instant; where there are more, a seeded choice
FAT = "boot/firmware"  # a folder of this path is a FAT partition
FREED = b"what others wrote there\0"
SECTOR = 512  # bytes; the least that a card writes at once

Tree = dict[str, tuple[str, Any]]  # path -> (kind, content, target or None)


class PowerCut(BaseException):
    """The plug is pulled. No ``except Exception`` of the agent stops it."""


class Node:
    """A file, folder or link: what is there now, what is durable, and what lies between."""

    __slots__ = (
        "content",
        "durable",
        "kind",
        "names",
        "past",
        "renamed",
        "since",
        "synced",
        "versions",
    )

    def __init__(self, kind: str, content: Any = b"", since: float = 0.0) -> None:
        self.kind = kind
        self.content = content  # of a file its bytes, of a link its target
        self.synced = b""  # of a file: what survives
        self.versions: list[bytes] = []  # of a file: what it held since it was synced
        self.names: dict[str, Node] = {}
        self.durable: dict[str, Node] = {}  # of a folder: the entries that survive
        # of a folder: name -> what it meant since the folder was synced
        self.past: dict[str, list[Node | None]] = {}
        self.renamed: dict[str, Node] = {}  # of a folder on FAT: names to be synced by their file
        self.since = since  # when the oldest unsynced change was made

    def change(self, name: str, to: Node | None, now: float) -> None:
        """Let a name of this folder mean something else."""
        if not self.past:
            self.since = now
        self.past.setdefault(name, [self.durable.get(name)]).append(to)
        if to is None:
            self.names.pop(name, None)
        else:
            self.names[name] = to

    def write(self, data: bytes, now: float) -> None:
        """Let this file hold something else."""
        if not self.versions:
            self.since = now
        self.versions.append(data)
        self.content = data

    def sync(self) -> None:
        """What is there now is durable."""
        self.synced, self.durable = self.content, dict(self.names)
        self.versions.clear()
        self.past.clear()
        self.renamed.clear()

    def sync_names(self) -> None:
        """fsync of a folder: on FAT a renamed file's name is there, where it leads is not."""
        waiting = {name: self.past[name] for name in self.renamed if name in self.past}
        renamed = dict(self.renamed)
        self.sync()
        for name, past in waiting.items():
            old = past[0] or Node("file")
            self.durable[name], self.renamed[name] = old, renamed[name]
            self.past[name] = [old, renamed[name]]

    def sync_name(self, node: Node) -> None:
        """fsync of a file that was renamed in this folder, which is on FAT."""
        for name in [name for name, one in self.renamed.items() if one is node]:
            del self.renamed[name]
            self.past.pop(name, None)
            self.durable[name] = node

    @property
    def dirty(self) -> bool:
        """Something would be lost."""
        return bool(self.past or self.versions)

    def contents(self) -> list[bytes]:
        """What a cut may leave of this file: the versions, and tears inside a write."""
        found = [self.synced, *self.versions]
        for old, new in itertools.pairwise([self.synced, *self.versions]):
            middle = len(new) // 2 // SECTOR * SECTOR or len(new) // 2
            found.append(new[:middle] + old[middle:])
            if len(old) >= middle:
                found.append(old[:middle] + new[middle:])
        return list(dict.fromkeys(found))


class Disk:
    """A folder that remembers which of its content is durable; at first all of it."""

    def __init__(self, root: Path, seed: int = 1) -> None:
        self.root = root
        self.calls = 0
        self.cut_at: int | None = None
        self.off = False  # the power is off until the disk is looked at
        self.changes = 0  # of what could be lost: the same number, the same states
        self.sampled = 0  # instants with more than LIMIT legal states
        self.now: Callable[[], float] = float
        self._look: Callable[[str], None] = lambda effect: None
        self.seed = seed
        self._files: dict[int, tuple[Node, int]] = {}  # descriptor -> what is open, place in it
        self._replaced: list[Node] = []  # on FAT: held open by somebody, and not durably replaced
        self._prefix = f"{root}/"
        self._grow(_tree_of(root))

    def _grow(self, tree: Tree) -> None:
        """Take this tree for what is there, all of it durable."""
        self.off = False
        self._replaced.clear()
        self._top = Node("folder")
        self._dirty: dict[int, Node] = {}
        nodes = {"": self._top}
        for path, (kind, content) in sorted(tree.items()):
            folder, _, name = path.rpartition("/")
            node = nodes[path] = Node(kind, b"" if content is None else content)
            nodes[folder].names[name] = node
        for node in nodes.values():
            node.sync()

    def settle(self) -> None:
        """What is there now is on the disk, also what was done unwatched."""
        self._grow(_tree_of(self.root))

    def flush(self) -> None:
        """Everything reaches the disk (sync(2))."""
        for node in self._dirty.values():
            node.sync()
        self._dirty.clear()
        self.changes += 1

    def written_back(self, before: float) -> None:
        """The kernel wrote by itself what was changed before that time."""
        for number, node in list(self._dirty.items()):
            if node.since < before:
                node.sync()
                del self._dirty[number]
                self.changes += 1

    def step(self, effect: str = "") -> None:
        """One more thing happens; raises PowerCut where it is the one that does not, and for
        what Python still does on its way out."""
        self.calls += not self.off
        self.off = self.off or self.calls == self.cut_at
        if self.off:
            raise PowerCut
        self._look(effect)

    @contextmanager
    def watched(self, look: Callable[[str], None] | None = None) -> Iterator[None]:
        """Watch what is done through ``os`` (pathlib goes through it too); ``look`` is called
        before each effect with its name."""
        real = {name: getattr(os, name) for name in WATCHED}
        self._look = look or (lambda effect: None)
        try:
            for name in WATCHED:
                setattr(os, name, self._watch(name, real[name]))
            yield
        finally:
            for name in WATCHED:
                setattr(os, name, real[name])
            self._look = lambda effect: None

    def _watch(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        follow = getattr(self, f"_on_{name}")

        def call(*args: Any, **named: Any) -> Any:
            return follow(real, *args, **named)

        return call

    def _below(self, path: Any) -> str | None:
        """The path below the root, where it is one that outlives the power."""
        text = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        if not f"{text}/".startswith(self._prefix):
            return None
        below = text[len(self._prefix) :]
        return None if below.split("/", 1)[0] in VOLATILE else below

    def _place(self, below: str) -> tuple[Node, str]:
        """The folder that holds a path, and the name in it."""
        *folders, name = below.split("/")
        node = self._top
        for folder in folders:
            node = node.names[folder]
        return node, name

    def _node(self, below: str) -> Node:
        folder, name = self._place(below)
        return folder.names[name] if name else folder

    def _change(self, below: str, to: Node | None) -> None:
        folder, name = self._place(below)
        folder.change(name, to, self.now())
        self._dirty[id(folder)] = folder
        self.changes += 1

    def _write(self, node: Node, data: bytes) -> None:
        node.write(data, self.now())
        self._dirty[id(node)] = node
        self.changes += 1

    # What each call means for the disk.

    def _on_open(self, real: Any, path: Any, flags: int, *args: Any, **named: Any) -> int:
        below = self._below(path)
        if below is None:
            descriptor: int = real(path, flags, *args, **named)
            self._files.pop(descriptor, None)  # numbers are used again
            return descriptor
        if flags & (os.O_CREAT | os.O_TRUNC):
            self.step(f"open {below}")
        new = not os.path.lexists(path)
        descriptor = real(path, flags, *args, **named)
        if new:
            self._change(below, Node("file"))
        node = self._node(below)
        if flags & os.O_TRUNC and node.content:
            self._write(node, b"")
        self._files[descriptor] = node, 0
        return descriptor

    def _on_write(self, real: Any, descriptor: int, data: Any) -> int:
        if descriptor not in self._files:
            return int(real(descriptor, data))
        node, at = self._files[descriptor]
        self.step("write")
        done = int(real(descriptor, data))
        end = at + done
        self._write(node, node.content[:at] + bytes(data[:done]) + node.content[end:])
        self._files[descriptor] = node, end
        return done

    def _on_fsync(self, real: Any, descriptor: int) -> None:
        if descriptor not in self._files:
            real(descriptor)
            return
        self.step("fsync")
        node = self._files[descriptor][0]  # the real one would only take time
        if node.kind == "folder":
            node.sync_names()
        else:
            node.sync()
            for folder in self._dirty.values():
                folder.sync_name(node)
        self._dirty = {n: one for n, one in self._dirty.items() if one.dirty}
        self.changes += 1

    def _on_close(self, real: Any, descriptor: int) -> None:
        real(descriptor)
        if not self.off:
            self._files.pop(descriptor, None)
            self._give_away()

    def _give_away(self) -> None:
        """FAT frees what a rename replaced once nobody holds it open; others may write there."""
        held = [node for node, _ in self._files.values()]
        for node in [node for node in self._replaced if node not in held]:
            self._replaced.remove(node)
            node.content = node.synced = FREED
            self.changes += 1

    def _on_replace(self, real: Any, source: Any, target: Any) -> None:
        old, new = self._below(source), self._below(target)
        if old is None or new is None:
            real(source, target)
            return
        self.step(f"rename {new}")
        real(source, target)
        node = self._node(old)
        folder, name = self._place(new)
        replaced = folder.names.get(name)
        self._change(new, node)
        self._change(old, None)
        if new.startswith(f"{FAT}/"):
            folder.renamed[name] = node
            if replaced is not None and replaced.kind == "file":
                self._replaced.append(replaced)
                self._give_away()

    _on_rename = _on_replace

    def _on_unlink(self, real: Any, path: Any, **named: Any) -> None:
        below = self._below(path)
        if below is None or not os.path.lexists(path):
            real(path, **named)
            return
        self.step(f"remove {below}")
        real(path, **named)
        self._change(below, None)

    _on_rmdir = _on_unlink

    def _on_mkdir(self, real: Any, path: Any, *args: Any, **named: Any) -> None:
        below = self._below(path)
        if below is None or os.path.lexists(path):
            real(path, *args, **named)
            return
        self.step(f"make folder {below}")
        real(path, *args, **named)
        self._change(below, Node("folder"))

    def _on_symlink(self, real: Any, target: Any, path: Any, *args: Any, **named: Any) -> None:
        below = self._below(path)
        if below is None:
            real(target, path, *args, **named)
            return
        self.step(f"link {below}")
        real(target, path, *args, **named)
        self._change(below, Node("link", os.fsdecode(target)))

    # What a power cut leaves.

    def cut(self, way: str) -> None:
        """Leave in the folder what a power cut leaves on the disk, in one of the two ``WAYS``."""
        states = list(self.extremes())
        self.become(states[0] if way == "lost" else states[len(states) // 2])

    def extremes(self) -> Iterator[Tree]:
        """Three of the states: everything unsynced lost; the names kept and not the contents;
        nothing lost."""
        names = {(id(n), name): past[-1]
                 for n in self._dirty.values() for name, past in n.past.items()}  # fmt: skip
        kept = {id(node): node.content for node in self._dirty.values()}
        lost = {id(node): node.synced for node in self._dirty.values()}
        yield self._tree({key: self._first(key) for key in names}, lost)
        if names or kept:
            yield self._tree(names, lost)
            yield self._tree(names, kept)

    def _first(self, key: tuple[int, str]) -> Node | None:
        return self._dirty[key[0]].past[key[1]][0]

    def states(self) -> Iterator[Tree]:
        """Every tree that a cut may leave now, the one with everything lost first."""
        items: list[tuple[Any, list[Any]]] = []
        for node in self._dirty.values():
            if node.versions:
                items.append((id(node), node.contents()))
            items += [((id(node), name), list(dict.fromkeys(past)))
                      for name, past in node.past.items()]  # fmt: skip
        keys = [key for key, _ in items]
        options = [values for _, values in items]
        if math.prod(map(len, options)) <= LIMIT:
            choices: Iterator[tuple[Any, ...]] = itertools.product(*options)
        else:
            self.sampled += 1
            choices = self._chosen(options)
        for choice in choices:
            chosen = dict(zip(keys, choice, strict=True))
            yield self._tree(chosen, chosen)

    def _chosen(self, options: list[list[Any]]) -> Iterator[tuple[Any, ...]]:
        """All lost; nothing lost; one thing alone lost, or alone kept; then by chance."""
        yield tuple(values[0] for values in options)
        for place in range(len(options)):
            for of, but in ((-1, 0), (0, -1)):
                one = [values[of] for values in options]
                one[place] = options[place][but]
                yield tuple(one)
        # The same situation in another run is chosen from alike.
        chance = random.Random(f"{self.seed} {[len(values) for values in options]}")
        for _ in range(LIMIT // 3):
            yield tuple(chance.choice(values) for values in options)

    def _tree(self, names: Mapping[Any, Any], contents: Mapping[Any, Any]) -> Tree:
        """The tree with these meanings of changed names and these contents of changed files."""
        tree: Tree = {}

        def collect(folder: Node, at: str) -> None:
            entries: dict[str, Node | None] = dict(folder.durable)
            if folder.past:
                entries |= {name: names[id(folder), name] for name in folder.past}
            for name, node in entries.items():
                if node is None:
                    continue
                path = at + name
                if node.kind == "folder":
                    tree[path] = "folder", None
                    collect(node, f"{path}/")
                elif node.kind == "link":
                    tree[path] = "link", node.content
                else:
                    tree[path] = "file", contents[id(node)] if node.versions else node.synced

        collect(self._top, "")
        return tree

    def tree(self) -> Tree:
        """What is there now, durable or not, without the kernel's folders."""
        return _tree_of(self.root)

    def become(self, tree: Tree) -> None:
        """Make the folder and the disk be this tree. Only what differs is touched, for speed."""
        here = self.tree()
        for name in sorted(here, reverse=True):
            if name not in tree or tree[name][0] != here[name][0]:
                path = self.root / name
                path.rmdir() if here[name][0] == "folder" else path.unlink()
        for name, (kind, content) in sorted(tree.items()):
            path = self.root / name
            if kind == "folder":
                path.mkdir(exist_ok=True)
            elif here.get(name) != (kind, content):
                path.unlink(missing_ok=True)
                path.symlink_to(content) if kind == "link" else path.write_bytes(content)
        self._files.clear()
        self._grow(tree)


def _tree_of(root: Path) -> Tree:
    """What lies below a real folder, without the kernel's folders."""
    tree: Tree = {}

    def collect(folder: str, at: str) -> None:
        with os.scandir(folder) as entries:
            for entry in entries:
                below = at + entry.name
                if entry.is_symlink():
                    tree[below] = "link", os.readlink(entry.path)
                elif not entry.is_dir():
                    with open(entry.path, "rb") as file:
                        tree[below] = "file", file.read()
                elif at or entry.name not in VOLATILE:
                    tree[below] = "folder", None
                    collect(entry.path, f"{below}/")

    collect(str(root), "")
    return tree
