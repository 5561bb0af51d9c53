# SPDX-License-Identifier: MIT
"""What the suites of the image store share: images made by hand, davit-image, TAP."""
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.path.join(os.environ.get("DAVIT_BUILD", os.path.join(ROOT, "build")), "davit-image")
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
tests = []


class Skip(Exception):
    pass


def test(fn):
    tests.append(fn)
    return fn


def check(condition, *what):
    if not condition:
        raise AssertionError(" ".join(str(w) for w in what) or "not so")


def equal(a, b, *what):
    check(a == b, *what, "\n  is        ", repr(a), "\n  should be ", repr(b))


def need(program):
    if not shutil.which(program):
        raise Skip("%s is not installed" % program)


def main():
    """Each test gets a new directory; names are the docstrings."""
    wanted = [t for t in tests if len(sys.argv) < 2 or sys.argv[1] in t.__name__]
    failed = 0
    print("1..%d" % len(wanted), flush=True)
    for n, t in enumerate(wanted, 1):
        with tempfile.TemporaryDirectory(prefix="davit-image-test-") as d:
            os.chmod(d, 0o755)
            try:
                t(Place(d))
                print("ok %d - %s" % (n, t.__doc__), flush=True)
            except Skip as e:
                print("ok %d - %s # SKIP %s" % (n, t.__doc__, e), flush=True)
            except Exception:  # noqa: BLE001
                failed += 1
                print("not ok %d - %s" % (n, t.__doc__))
                print("".join("# %s\n" % x for x in traceback.format_exc().splitlines()), end="", flush=True)
            finally:
                subprocess.run(["chmod", "-R", "u+rwX", d], stderr=subprocess.DEVNULL)
    return 1 if failed else 0


def sha(data):
    return hashlib.sha256(data).hexdigest()


# --- layers ---

def entry(name, content=None, kind=tarfile.REGTYPE, link="", mode=0o644, **more):
    """One member: (TarInfo, content)."""
    i = tarfile.TarInfo(name)
    i.type, i.linkname, i.mode, i.mtime = kind, link, mode, 1000000000
    for key, value in more.items():
        setattr(i, key, value)
    if content is not None:
        i.size = more.get("size", len(content))
    return i, content


def folder(name, mode=0o755, **more):
    return entry(name, kind=tarfile.DIRTYPE, mode=mode, **more)


def soft(name, to):
    return entry(name, kind=tarfile.SYMTYPE, link=to, mode=0o777)


def hard(name, to):
    return entry(name, kind=tarfile.LNKTYPE, link=to)


def tar(*entries, form=tarfile.PAX_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as t:
        for info, content in entries:
            t.addfile(info, io.BytesIO(content) if content is not None else None)
    return out.getvalue()


def files(**contents):
    return tar(*[entry(k.replace("__", "/"), v.encode()) for k, v in contents.items()])


# --- images ---

def config(layers, **run):
    more = {k: run.pop(k) for k in ("architecture", "created") if k in run}
    return json.dumps({"created": "2026-01-02T03:04:05Z", "architecture": ARCHITECTURE, "os": "linux", "config": run,
                       "rootfs": {"type": "layers", "diff_ids": ["sha256:" + sha(x) for x in layers]}, **more}).encode()


def write(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)


class Layout:
    """An OCI layout as {file: bytes}, to be damaged at will."""

    def __init__(self):
        self.files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
        self.entries = []

    def blob(self, data, media):
        self.files["blobs/sha256/" + sha(data)] = data
        return {"mediaType": media, "digest": "sha256:" + sha(data), "size": len(data)}

    def image(self, name, layers, packing=lambda x: x, suffix="", add=True, **run):
        c = self.blob(config(layers, **run), "application/vnd.oci.image.config.v1+json")
        ls = [self.blob(packing(x), "application/vnd.oci.image.layer.v1.tar" + suffix) for x in layers]
        m = self.blob(json.dumps({"schemaVersion": 2, "config": c, "layers": ls}).encode(),
                      "application/vnd.oci.image.manifest.v1+json")
        if name:
            m["annotations"] = {"org.opencontainers.image.ref.name": name}
        if add:
            self.entries.append(m)
        return m

    def all(self):
        index = json.dumps({"schemaVersion": 2, "manifests": self.entries}).encode()
        return {"index.json": index, **self.files}

    def directory(self, path):
        for name, data in self.all().items():
            write(os.path.join(path, name), data)
        return path

    def tar(self, path, packing=lambda x: x):
        write(path, packing(tar(*[entry(k, v) for k, v in self.all().items()])))
        return path


def docker(path, tags, layers, **run):
    """As docker save wrote it for years: HEX/layer.tar, the second of equal ones a
    link, and the manifest at the end."""
    c = config(layers, **run)
    out, names, seen = [], [], {}
    for n, layer in enumerate(layers):
        name = "%064x/layer.tar" % n
        names.append(name)
        out.append(soft(name, "../" + seen[layer]) if layer in seen else entry(name, layer))
        seen.setdefault(layer, name)
    out.append(entry(sha(c) + ".json", c))
    out.append(entry("manifest.json", json.dumps([{"Config": sha(c) + ".json", "RepoTags": tags,
                                                   "Layers": names}]).encode()))
    write(path, tar(*out))
    return path


# --- the program ---

class Result:
    def __init__(self, p):
        self.code, self.out, self.err = p.returncode, p.stdout.decode(errors="replace"), p.stderr.decode(errors="replace")

    def json(self):
        return json.loads(self.out)


class Place:
    def __init__(self, path):
        self.path, self.store, self.user = path, os.path.join(path, "store"), None

    def at(self, *names):
        return os.path.join(self.path, *names)

    def command(self, *args):
        before = ["setpriv", "--reuid", str(self.user), "--regid", str(self.user), "--clear-groups"] if self.user else []
        return before + [PROGRAM, "--store", self.store, *args]

    def run(self, *args, **more):
        return Result(subprocess.run(self.command(*args), capture_output=True, timeout=100, **more))

    def ok(self, *args, **more):
        r = self.run(*args, **more)
        check(r.code == 0, args, "failed:", r.err)
        return r

    def refused(self, says, *args, **more):
        r = self.run(*args, **more)
        check(r.code == 1, args, "was not refused:", r.code, r.out, r.err)
        check(says in r.err, args, "says", repr(r.err), "instead of", repr(says))
        return r

    def inspect(self, ref):
        return self.ok("inspect", ref).json()

    def references(self):
        return [x["reference"] for x in self.ok("list", "-o", "json").json()]

    def flat(self, ref, name="flat"):
        self.ok("flatten", ref, self.at(name))
        return tree(self.at(name))

    def clean(self):
        """Nothing is left but what an empty store has."""
        left = [x for x in listing(self.store) if x not in
                ("blobs", "blobs/sha256", "holds", "index.json", "layers", "lock", "oci-layout", "tmp")]
        equal(left, [], "left in the store")


def listing(path):
    return sorted(os.path.relpath(os.path.join(d, x), path) for d, ds, fs in os.walk(path) for x in ds + fs)


def tree(path):
    """{name: what it is}"""
    out = {}
    for d, ds, fs in os.walk(path):
        for x in ds + fs:
            p = os.path.join(d, x)
            name, st = os.path.relpath(p, path), os.lstat(p)
            if os.path.islink(p):
                out[name] = "-> " + os.readlink(p)
            elif os.path.isdir(p):
                out[name] = "dir %o" % (st.st_mode & 0o7777)
            elif os.path.isfile(p):
                with open(p, "rb") as f:
                    out[name] = f.read().decode(errors="replace")
            else:
                out[name] = "special %o %d" % (st.st_mode, st.st_rdev)
    return out
