"""The house stays as ARCHITECTURE.md draws it: floors, one writer, one printer, short modules."""

from __future__ import annotations

import ast
import graphlib
import re
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "nodeagent"

# Imports run downwards, or along a floor where that makes no circle. Longest name wins.
FLOORS = {
    "cli": 1,
    "agent": 2, "serve": 2, "broker": 2, "doctor": 2, "imaging": 2,
    "steps": 3, "fleet": 3, "join": 3,
    "cluster": 4, "trust": 4,
    "config": 5, "status": 5, "statefile": 5, "host": 5,
    "errors": 6, "formats": 6, "paths": 6,
}  # fmt: skip

LONGEST = 400  # lines of a module
LONGER = {"errors": "one table, a class a row"}  # a subject is not cut in two for its length
MEDIAN = 150

# Who else may open a file for writing, and why.
WRITERS = {
    "host/durable.py": "the one durable write",
    "host/storage.py": "measures how long a write takes to be durable; what it writes is nothing",
    "doctor/report.py": "packs a tar in memory; host.write writes it",
}
# imaging/ runs on the user's computer, into files that are made anew if it is interrupted.
FREE_WRITERS = ("imaging/",)

WRITING_METHODS = {"write_text", "write_bytes", "touch", "copyfile", "copy", "copy2", "copytree",
                   "mkstemp", "NamedTemporaryFile"}  # fmt: skip
WRITING_FLAGS = {"O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND"}
OF_THE_HOST = {"time.time", "time.monotonic", "time.perf_counter", "time.sleep", "os.environ",
               "os.getenv", "os.geteuid", "os.chown", "os.execv", "pwd.getpwnam"}  # fmt: skip
# Servers and searches on threads, bounded by the real clock.
CLOCK_OF_THEIR_OWN = {"serve.retry_after", "serve.mdns.discovery", "serve.connections",
                      "serve.mdns.candidates", "join.search", "serve.http1",
                      "serve.status_page", "status.html", "join.broker_protocol"}  # fmt: skip

# The whole stays small enough to be seen at once.
MOST_ON_TOP = 20  # modules and packages beside each other
MOST_FLOORS = 8  # the longest chain of packages
PATH = re.compile(r"/(etc|var|run|usr|boot|proc|sys|dev)/[^\s{}]+")


def modules() -> dict[str, Path]:
    """Dotted name below the package -> file; a package counts as its ``__init__``."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    found.pop("")  # the version only
    return found


MODULES = modules()
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}


def imports(name: str) -> Iterator[tuple[str, int]]:
    """Modules of the package that a module imports, anywhere in it, with the line."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: write imports out, as `from nodeagent...`"
            base = node.module or ""
            below = [f"{base}.{alias.name}" for alias in node.names]
            known = [full for full in below if full.removeprefix("nodeagent.") in MODULES]
            wanted = known if len(known) == len(below) else [base, *known]
        else:
            continue
        below = [w.removeprefix("nodeagent.") for w in wanted if w.startswith("nodeagent.")]
        yield from ((other, node.lineno) for other in below if other in MODULES)


def imported(name: str) -> set[str]:
    """The same without lines."""
    return {other for other, _ in imports(name)}


def place(name: str, line: int = 1) -> str:
    """Where a finding is, as editors and terminals take it."""
    return f"nodeagent/{MODULES[name].relative_to(PACKAGE)}:{line}"


def none(found: list[str]) -> None:
    """Fail with one finding a line."""
    if found:
        pytest.fail("\n".join(found), pytrace=False)


def floor(name: str) -> int:
    """The floor of a module, by itself or by its folder."""
    while name not in FLOORS:
        assert "." in name, f"{name} has no floor; give it one here and in ARCHITECTURE.md"
        name = name.rpartition(".")[0]
    return FLOORS[name]


def test_imports_run_downwards() -> None:
    none([
        f"{place(name, line)}: imports {other} upwards, from floor {floor(name)} to {floor(other)}"
        for name in MODULES
        for other, line in imports(name)
        if floor(other) < floor(name)
    ])  # fmt: skip


def test_no_circle() -> None:
    # A package's __init__ is loaded before its modules, but what it lists is not what they use.
    graph = {name: imported(name) - {name.rpartition(".")[0]} for name in MODULES}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]), pytrace=False)


def test_no_step_imports_another() -> None:
    steps = {
        name
        for name in MODULES
        if name.startswith("steps.")
        and name != "steps.step"  # the protocol
        and any(isinstance(n, ast.FunctionDef) and n.name == "plan" for n in ast.walk(TREES[name]))
    }
    assert steps
    for name in steps:
        assert not imported(name) & steps, f"{name} imports {imported(name) & steps}"


def test_the_election_is_pure() -> None:
    impure = {"os", "time", "datetime", "random", "secrets", "socket", "subprocess", "pathlib",
              "threading", "logging"}  # fmt: skip
    for name in ("fleet.election", "fleet.votes", "fleet.sight"):
        for node in ast.walk(TREES[name]):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                assert not {n.split(".")[0] for n in names} & impure
        assert not {o for o in imported(name) if o.startswith(("cluster", "host", "steps"))}


def test_lengths(record_property: Callable[[str, object], None]) -> None:
    lengths = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    median = statistics.median(lengths.values())
    record_property("median_module_length", median)
    long = {
        name: lines for name, lines in lengths.items() if lines > LONGEST and name not in LONGER
    }
    assert not long, f"longer than {LONGEST} lines: {long}"
    assert median <= MEDIAN, f"the median module has {median} lines, about 100 are wanted"


def calls(name: str) -> Iterator[tuple[ast.Call, str]]:
    """Every call in a module with the last part of what is called."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                yield node, node.func.id
            elif isinstance(node.func, ast.Attribute):
                yield node, node.func.attr


def opens_for_writing(call: ast.Call, called: str) -> bool:
    """True for calls that open a file for writing, as far as the text tells."""
    if called in WRITING_METHODS:
        # Host.copy and dict.copy are other things; the names above come from pathlib and shutil.
        return called != "copy" or "shutil" in ast.unparse(call.func)
    if called not in ("open", "fdopen"):
        return False
    if "os." in ast.unparse(call.func) and called == "open":
        flags = {n.attr for a in call.args[1:] for n in ast.walk(a) if isinstance(n, ast.Attribute)}
        return bool(flags & WRITING_FLAGS)
    modes = [
        a.value
        for a in [*call.args, *(k.value for k in call.keywords if k.arg == "mode")]
        if isinstance(a, ast.Constant) and isinstance(a.value, str) and len(a.value) <= 3
    ]
    return any(set(mode) & set("wax+") for mode in modes)


def test_only_durable_writes_files() -> None:
    none([
        f"{place(name, call.lineno)}: {called} writes a file; use host.write (host/durable.py)"
        for name, path in MODULES.items()
        if not str(path.relative_to(PACKAGE)).startswith((*WRITERS, *FREE_WRITERS))
        for call, called in calls(name)
        if opens_for_writing(call, called)
    ])  # fmt: skip


def test_only_cli_prints_and_exits() -> None:
    said = ("print(", "click.echo(", "sys.exit(", "exit(", "os._exit(", "quit(",
            "sys.stdout.write(", "raise SystemExit")  # fmt: skip
    none([
        f"{place(name, node.lineno)}: {text[:60]}"
        for name in MODULES
        if not name.startswith("cli")
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.Call | ast.Raise) and (text := ast.unparse(node)).startswith(said)
    ])  # fmt: skip


def test_every_module_says_what_it_is() -> None:
    none([f"{place(name)}: no docstring" for name in MODULES if not ast.get_docstring(TREES[name])])


def test_only_host_knows_clock_users_and_environment() -> None:
    found = {
        name
        for name in MODULES
        if not name.startswith(("host.", "imaging."))  # imaging runs on the user's computer
        and OF_THE_HOST
        & {ast.unparse(node) for node in ast.walk(TREES[name]) if isinstance(node, ast.Attribute)}
    }
    assert found == CLOCK_OF_THEIR_OWN


@pytest.mark.processes
def test_what_is_typed_on_ones_own_computer_needs_nothing_of_a_node() -> None:
    """All that these commands import, at any time, loads where neither the libraries nor the
    processes of a node are."""
    import subprocess
    import sys

    node = ("systemd", "netifaces", "zeroconf", "jwt", "nodeagent.agent", "nodeagent.serve",
            "nodeagent.broker", "nodeagent.doctor")  # fmt: skip
    needed: set[str] = set()
    on_a_node = {"doctor.recipe"}  # by `explain --recipe`
    new = {"cli.fleet", "cli.image", "cli.explain"}
    while new:
        needed |= new
        new = {other for name in new for other in imported(name)} - needed - on_a_node
    script = [f"import sys; sys.modules.update(dict.fromkeys({node}))", "import nodeagent.cli.main",
              *(f"import nodeagent.{name}" for name in sorted(needed))]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(script)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def packages() -> dict[str, set[str]]:
    """Each entry on top of the package, with those that it imports."""
    graph: dict[str, set[str]] = {}
    for name in MODULES:
        top = name.split(".")[0]
        graph.setdefault(top, set()).update(other.split(".")[0] for other in imported(name))
    return {top: others - {top} for top, others in graph.items()}


def test_the_packages_make_no_circle_and_few_floors() -> None:
    graph, height = packages(), dict[str, int]()
    assert len(graph) <= MOST_ON_TOP, sorted(graph)
    for name in graphlib.TopologicalSorter(graph).static_order():  # raises CycleError
        height[name] = 1 + max((height[other] for other in graph[name]), default=0)
    assert max(height.values()) <= MOST_FLOORS, height


def test_a_path_stands_in_one_place() -> None:
    where: dict[str, set[str]] = {}
    for name, tree in TREES.items():
        quiet = {id(inner) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)
                 for inner in ast.walk(node)}  # fmt: skip
        for node in ast.walk(tree):
            if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
                continue
            if id(node) not in quiet and PATH.fullmatch(node.value):
                where.setdefault(node.value, set()).add(name)
    twice = {path: sorted(names) for path, names in where.items() if len(names) > 1}
    assert not twice, f"name these in nodeagent/paths.py: {twice}"


def test_the_modules_that_are_named_exist() -> None:
    """In comments, docstrings and documents, as `fleet/election.py`."""
    checkout = PACKAGE.parent
    tops = "|".join(sorted(name for name in packages() if (PACKAGE / name).is_dir()))
    named = re.compile(rf"(?<![\w/.])(?:nodeagent/)?((?:{tops})/[a-z0-9_/]+\.py)\b")
    places = (PACKAGE, checkout / "tests", checkout / "tests" / "unit")
    texts = [*PACKAGE.rglob("*.py"), *(checkout / "tests").rglob("*.py"),
             *(checkout / "docs").rglob("*.md"), *checkout.glob("*.md")]  # fmt: skip
    gone = {
        f"{text.relative_to(checkout)} names {name}"
        for text in texts
        for name in named.findall(text.read_text())
        if not any((place / name).exists() for place in places)
    }
    assert not gone


# Who asks the Kubernetes API for a list, and how its end is known. kubectl follows ``continue`` by
# itself (kubectl get, --chunk-size).
LISTS = {
    "broker.kube_api": "_all follows continue; test_a_list_is_read_to_its_end",
    "cluster.kubelet_api": "the pods of one node, in one answer: without limit it is never cut",
    "cluster.control_plane": "one Node, by its name",
    "cluster.kubelet_certificate": "one certificate request: a new one, then it by its name",
}
OF_THE_API = re.compile(r"/apis?/\S*|\S*(limit|fieldSelector|labelSelector|continue)=\S*")


def test_every_list_of_the_api_is_read_to_its_end() -> None:
    """A first page looks like the whole: 500 made-up nodes hid the control plane's name."""
    found: dict[str, list[str]] = {}
    for name, tree in TREES.items():
        whole = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
        inner = {id(part) for node in whole for part in ast.walk(node) if part is not node}
        for node in ast.walk(tree):
            if id(node) in inner:
                continue
            if isinstance(node, ast.JoinedStr):
                parts = node.values
                text = "".join(str(p.value) if isinstance(p, ast.Constant) else "{}" for p in parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
            else:
                continue
            if OF_THE_API.fullmatch(text):
                found.setdefault(name, []).append(text)
    assert found.keys() == LISTS.keys(), "say here how a new list's end is known"
    limits = [name for name, texts in found.items() if any("limit=" in text for text in texts)]
    assert limits == ["broker.kube_api"], "only _all cuts a list, since only it reads the rest"
    assert sum("limit=" in text for text in found["broker.kube_api"]) == 1
    assert {text for text in found["cluster.kubelet_api"] if "/namespaces/" not in text} == {
        "/api/v1/nodes/{}", "/api/v1/pods?fieldSelector=spec.nodeName%3D{}",
    }  # fmt: skip
    for call, called in calls("broker.kube_api"):
        if called == "_call" and ast.unparse(call.args[0]) == "'GET'":
            inside = ast.unparse(call.args[1])
            assert inside in ("path", "asked"), f"{inside}: read a list with _all"


# Folders that another user than root may write, and who of the others names them: they read there
# through host/untrusted.py only, or remove what lies there.
OF_OTHERS = re.compile(
    r"/run/nodeagent-serve|/run/nodeagent-broker(?!\.sock)|/var/lib/nodeagent-broker"
)
NAMES_OF_OTHERS = {"SERVE", "BROKER", "BROKER_RUN", "LEDGER"}
WHO_NAMES_THEM = {
    "paths": "the table",
    "fleet.handoff": "heard.json: untrusted.read",
    "join.waiting_file": "waiting.json: untrusted.read",
    "doctor.report": "untrusted.opened, names and read",
    "agent.provision": "untrusted.shred of what 0.2.0 left",
    "agent.leave": "untrusted.shred, then rm -rf of the folder",
    "agent.reset": "rm -rf of the folder",
}


def test_root_names_nothing_below_folders_of_others() -> None:
    """serve and broker name their own; whoever else does is listed, with how it is safe."""
    found = set()
    for name, tree in TREES.items():
        if name.startswith(("serve.", "broker.")):
            continue
        said = {id(node.body[0].value) for node in ast.walk(tree)
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
                and node.body and isinstance(node.body[0], ast.Expr)}  # fmt: skip
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "paths":
                named = node.attr in NAMES_OF_OTHERS
            elif isinstance(node, ast.ImportFrom) and node.module == "nodeagent.paths":
                named = bool({alias.name for alias in node.names} & NAMES_OF_OTHERS)
            else:
                named = (
                    isinstance(node, ast.Constant) and isinstance(node.value, str)
                    and id(node) not in said and bool(OF_OTHERS.search(node.value))
                )  # fmt: skip
            if named:
                found.add(name)
    assert found == set(WHO_NAMES_THEM)
    for name in found - {"paths", "agent.reset"}:
        assert "host.untrusted" in imported(name), name
