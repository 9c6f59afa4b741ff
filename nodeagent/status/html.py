"""The status as a web page: plain HTML for a phone, live, with nothing from elsewhere.

Everything shown is escaped, and the browser is told to run only the one script here and to load
nothing (Content Security Policy Level 3; the hashes are of the very texts below). Without scripts
the page still reloads itself.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING

from nodeagent import paths
from nodeagent.errors import TABLE, OtherVersion
from nodeagent.status import model
from nodeagent.status.model import duration

if TYPE_CHECKING:
    from nodeagent.status import schema

PORT = paths.PAGE_PORT
MAX_MOMENTS = 40
MAX_ROWS = 200

STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8882;--good:#1a7f37;--busy:#9a6700;--bad:#cf222e}
@media(prefers-color-scheme:dark){:root{--good:#3fb950;--busy:#d29922;--bad:#f85149}}
*{box-sizing:border-box}
body{font:16px/1.45 system-ui,sans-serif;margin:0 auto;padding:1rem;max-width:60rem;
overflow-wrap:anywhere}
h1{font-size:1.35rem;margin:0 0 .25rem}h2{font-size:1rem;margin:1.5rem 0 .4rem}
p{margin:.3rem 0}code{font:.92em ui-monospace,monospace}
.phase{font-weight:600;white-space:nowrap}.phase::before{content:"\\25cf\\00a0"}
.good{color:var(--good)}.busy{color:var(--busy)}.bad{color:var(--bad)}.dim{opacity:.7}
.card{border:1px solid var(--line);border-left:.3rem solid var(--busy);border-radius:.3rem;
padding:.5rem .75rem;margin:.75rem 0}.card.bad{border-left-color:var(--bad);color:inherit}
.big{font:600 1.15rem ui-monospace,monospace;letter-spacing:.05em}
progress{width:100%;height:.8rem}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.35rem .6rem .35rem 0;border-top:1px solid var(--line);
vertical-align:top}th{font-weight:600;border-top:0}
td.n{text-align:right;white-space:nowrap}
@media(max-width:34rem){table.fleet thead{display:none}table.fleet tr{display:block;
border-top:1px solid var(--line);padding:.4rem 0}table.fleet td{display:inline-block;border:0;
padding:0 .8rem 0 0}table.fleet td:first-child{display:block;font-weight:600}}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem;margin:0}dt{opacity:.7}
dd{margin:0}footer{margin-top:2rem;font-size:.85rem;opacity:.7}
.stale main{opacity:.5}
"""
# Replaces the page's own parts by fresh ones; scripts in them would not run. A page that nobody
# looks at asks for nothing.
SCRIPT = """
"use strict";
setInterval(async () => {
  if (document.hidden) return;
  try {
    const answer = await fetch("/", {cache: "no-store", signal: AbortSignal.timeout(5000)});
    if (!answer.ok) throw new Error(answer.status);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const name = one => one.querySelector("summary").textContent;
    const open = new Set([...document.querySelectorAll("details[open]")].map(name));
    document.querySelector("main").replaceWith(fresh.querySelector("main"));
    document.querySelectorAll("details").forEach(one => { one.open = open.has(name(one)); });
    document.title = fresh.title;
    document.body.className = "";
  } catch (error) {
    document.body.className = "stale";
  }
}, 3000);
"""


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


HEADERS = (
    "Content-Security-Policy: default-src 'none'; connect-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none';"
    f" script-src {_hash(SCRIPT)}; style-src {_hash(STYLE)}\r\n"
    "Referrer-Policy: no-referrer\r\n"
)
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<noscript><meta http-equiv="refresh" content="5"></noscript>
<title>{title}</title><style>{style}</style></head>
<body><main>
{body}
</main><footer>nodeagent {version} shows this by itself, as it changes.</footer>
<script>{script}</script></body></html>
"""


def render(data: bytes | None, now: float | None = None) -> bytes:
    """The page for a status file's content."""
    now = time.time() if now is None else now
    try:
        status = model.parse(data or b"")
        title = f"{status['node_name'] or 'this node'}: {status['phase']}"
        body = "\n".join(_body(status, now))
        version = escape(str(status["versions"].get("nodeagent", "")))
    except OtherVersion as error:
        title, version = "nodeagent was updated", ""
        body = f"<h1>{title}</h1><p>{escape(f'{error.reason} {error.remedy}')}</p>"
    except (ValueError, KeyError, TypeError, AttributeError):
        title, version = "nodeagent is starting", ""
        body = "<h1>nodeagent is starting</h1><p>There is no status yet.</p>"
    filled = {"title": escape(title), "style": STYLE, "body": body, "script": SCRIPT}
    return _PAGE.format(**filled, version=version).encode()


def _body(status: schema.Status, now: float) -> Iterable[str]:
    e = _text
    yield f"<h1>{e(status['node_name'] or 'this node')} {_phase(status['phase'])}</h1>"
    yield f"<p class=dim>for {e(duration(now - status['since']))}</p>"
    if status["detail"]:
        yield f"<p>{e(status['detail'][:400])}</p>"
    yield from _progress(status)
    waiting = status["waiting"]
    if waiting and waiting["until"]:
        yield f"<p class=dim>Waits {e(duration(waiting['until'] - now))} more at most.</p>"
    yield from _cards(status)
    yield from _fleet(status, now)
    yield from _timeline(status)
    yield "<h2>This node</h2><dl>"
    why = f" &ndash; {e(status['role_why'])}" if status["role_why"] else ""
    yield f"<dt>role<dd>{e(status['role'])}{why}"
    for label, value in (("address", status["address"]), ("control plane", status["control_plane"]),
                         ("Kubernetes", status["kubernetes"]), ("fleet", status["fleet"]),
                         ("node id", status["node_id"])):  # fmt: skip
        if value:
            yield f"<dt>{label}<dd>{e(value)}"
    if status["certificates"]:
        first = min(one["expires"] for one in status["certificates"])
        yield f"<dt>certificates<dd>valid until {_day(first)} at least"
    for token in status["tokens"]:
        if token["expires"] > now:
            left = duration(token["expires"] - now)
            yield f"<dt>token given out<dd>for {e(token['name'])}, {e(left)} more"
    yield "</dl>"
    if status["steps"]:
        yield "<details><summary>Steps of the preparation</summary><table>"
        for step in status["steps"]:
            seconds = f"{float(step['seconds']):.1f} s"
            yield f"<tr><td>{e(step['title'])}<td>{e(step['state'])}<td class=n>{seconds}"
        yield "</table></details>"


def _progress(status: schema.Status) -> Iterable[str]:
    found = status["progress"]
    if found:
        done, total = int(found["done"]), int(found["total"])
        if total:
            yield f'<progress value="{done}" max="{total}"></progress>'
        told = f"{done} of {total} {found['kind']}: " if total else ""
        yield f"<p class=dim>{_text(told + found['text'])}</p>"


def _cards(status: schema.Status) -> Iterable[str]:
    e = _text
    if status["approval"]:
        yield (
            f'<div class="card">To let this node in, type on the control plane:'
            f"<p class=big>sudo nodeagent approve {e(status['approval'])}</p></div>"
        )
    for one in status["approvals"]:
        yield (
            f'<div class="card"><b>{e(one["name"])}</b> at {e(one["address"])} wants to join.'
            " Type on this node what it shows itself:"
            f"<p class=big>sudo nodeagent approve {_hint(one['id'])}</p></div>"
        )
    if status["error"]:
        error = status["error"]
        yield (
            f'<div class="card bad"><b>{e(error["code"])}</b> {e(error["reason"])}'
            f"<p><b>Do:</b> {e(error['remedy'])}</p>{_explained(error['code'])}</div>"
        )
    for found in status["hardware"]:
        bad = " bad" if found["level"] == "failure" else ""
        yield (
            f'<div class="card{bad}"><b>{e(found["name"])}</b>: {e(found["text"])}'
            f"<p>{e(found['remedy'])}</p></div>"
        )
    for note in status["notes"]:
        yield f'<div class="card">{e(note)}</div>'


def _explained(code: str) -> str:
    known = TABLE.get(code)
    if known is None:
        return ""
    about = f"What {code} means: {known.title}"
    return f"<details><summary>{_text(about)}</summary><p>{_text(known.explanation)}</p></details>"


def _fleet(status: schema.Status, now: float) -> Iterable[str]:
    me: schema.Peer = {
        "node_id": status["node_id"],
        "name": status["node_name"] or "this node",
        "phase": status["phase"],
        "role": status["role"],
        "address": "",
        "since": status["since"],
        "heard": now,
    }
    nodes = [me, *status["peers"][:MAX_ROWS]]
    if len(nodes) == 1 and status["role"] == "worker" and status["control_plane"]:
        address = status["control_plane"].split(":")[0]
        yield f"<h2>Fleet</h2><p>The whole fleet: {_link(address, address)}</p>"
        return
    if len(nodes) == 1:
        return
    nodes.sort(key=lambda one: (one["role"] != "control-plane", one["name"]))
    ready = sum(one["phase"] == "ready" and _heard(one, now) for one in nodes)
    yield f"<h2>Fleet: {ready} of {len(nodes)} ready</h2><table class=fleet>"
    yield "<thead><tr><th>node<th>phase<th>role<th>for<th>address</thead>"
    for one in nodes:
        phase = _phase(one["phase"])
        if not _heard(one, now):
            phase = f"<span class=bad>silent for {_text(duration(now - one['heard']))}</span>"
        address = _link(one["address"], one["address"]) if one["address"] else "this node"
        yield (
            f"<tr><td>{_text(one['name'])}<td>{phase}<td>{_text(one['role'])}"
            f"<td>{_text(duration(now - one['since']))}<td>{address}"
        )
    yield "</table>"


def _timeline(status: schema.Status) -> Iterable[str]:
    name, role = status["node_name"] or "this node", status["role"]
    own: list[schema.Moment] = [
        {"at": one["at"], "name": name, "phase": one["phase"], "role": role}
        for one in status["phases"]
    ]
    moments = sorted([*own, *status["timeline"]], key=lambda one: float(one["at"]))
    yield "<h2>Timeline</h2><table>"
    for one in reversed(moments[-MAX_MOMENTS:]):
        at = time.strftime("%H:%M:%S", time.gmtime(one["at"]))
        yield f"<tr><td class=dim>{at} UTC<td>{_text(one['name'])}<td>{_phase(one['phase'])}"
    yield "</table>"


def _hint(approval: object) -> str:
    """The beginning only: a stranger's request stands here as well, so the rest must come from the
    node itself."""
    return f"{_text(str(approval)[:4])}&hellip;"


def _heard(one: schema.Peer, now: float) -> bool:
    return bool(now - one["heard"] <= model.SILENT)


def _phase(phase: str) -> str:
    colour = {0: "good", 1: "busy"}.get(model.PHASES.get(phase, 2), "bad")
    return f'<span class="phase {colour}">{_text(phase)}</span>'


def _link(address: str, text: str) -> str:
    """To the page of another node; only what is an IPv4 address becomes one."""
    if not address.replace(".", "").isdecimal():
        return _text(text)
    return f'<a href="{_text(model.page(address, True))}" rel="noreferrer">{_text(text)}</a>'


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(at))


def _text(value: object) -> str:
    return escape(str(value))
