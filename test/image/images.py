#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""davit-image with honest images: every form, names, whiteouts, holds, kills."""
import gzip
import http.server
import json
import lzma
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from rig import (ARCHITECTURE, Layout, Skip, check, config, docker, entry, equal, files, folder, hard, listing, main,  # noqa: E402
                 need, sha, soft, tar, test, tree, write)

BASE = files(etc__motd="hello\n", bin__sh="#!/bin/true\n")


def zstd(data):
    need("zstd")
    return subprocess.run(["zstd", "-qc"], input=data, capture_output=True, check=True).stdout


# --- forms ---

@test
def oci_layout(p):
    """an OCI layout is loaded from a directory and from a tar, plain and packed"""
    layout = Layout()
    layout.image("localhost/bb:1", [BASE], gzip.compress, "+gzip", Cmd=["/bin/sh"], Env=["A=b"])
    p.ok("load", layout.directory(p.at("dir")))
    first = p.inspect("localhost/bb:1")
    equal((first["command"], first["env"], first["platform"]), (["/bin/sh"], ["A=b"], "linux/" + ARCHITECTURE))
    equal(first["digest"], layout.entries[0]["digest"])
    for name, packing in ("x.tar", bytes), ("x.gz", gzip.compress), ("x.xz", lzma.compress), ("x.zst", zstd):
        p.store = p.at("store-" + name)
        p.ok("load", layout.tar(p.at(name), packing))
        equal(p.inspect("localhost/bb:1")["digest"], first["digest"])
        equal(p.flat("localhost/bb:1", "flat-" + name)["etc/motd"], "hello\n")


@test
def layer_packings(p):
    """layers may be plain, gzip of several members, or zstd"""
    two = gzip.compress(BASE[:1000]) + gzip.compress(BASE[1000:])
    for name, packing, suffix in ("plain", bytes, ""), ("two", lambda x: two, "+gzip"), ("zstd", zstd, "+zstd"):
        layout = Layout()
        layout.image("localhost/%s:1" % name, [BASE], packing, suffix)
        p.ok("load", layout.directory(p.at(name)))
        equal(p.flat("localhost/%s:1" % name, "flat-" + name)["bin/sh"], "#!/bin/true\n")
    equal(len(os.listdir(p.at("store", "layers"))), 1, "one tree for the three")


@test
def empty_layers(p):
    """layers without an entry are layers"""
    layout = Layout()
    layout.image("localhost/empty:1", [tar(), BASE, tar()], ExposedPorts={"80": {}, "53/udp": {}}, Volumes={"/v": {}})
    p.ok("load", layout.directory(p.at("x")))
    equal(p.flat("localhost/empty:1")["etc/motd"], "hello\n")
    equal(sorted(p.inspect("localhost/empty:1")["ports"]), ["53/udp", "80/tcp"])


@test
def docker_archive(p):
    """a docker-archive is loaded with all its tags, from a file and from standard input"""
    f = docker(p.at("d.tar"), ["bb:1", "localhost/bb:2"], [BASE, files(x="1"), BASE], Entrypoint=["/bin/sh"])
    p.ok("load", f)
    equal(p.references(), ["bb:1", "localhost/bb:2"])
    equal(p.inspect("bb:1")["layers"], 3)
    with open(f, "rb") as stdin:
        r = p.ok("load", "-o", "json", "--reference", "other", "-", stdin=stdin)
    equal(r.json()["reference"], "other:latest")
    equal(p.inspect("other")["id"], p.inspect("bb:1")["id"])


@test
def real_tools(p):
    """what buildah and skopeo write is loaded, and what is saved they read"""
    need("buildah")
    need("skopeo")
    write(p.at("root", "etc", "motd"), b"hello\n")
    tools = ["--root", p.at("b"), "--runroot", p.at("br"), "--storage-driver", "vfs"]

    def buildah(*args):
        return subprocess.run(["buildah", *tools, *args], check=True, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL).stdout.decode().strip()
    c = buildah("from", "scratch")
    buildah("add", c, p.at("root"), "/")
    buildah("config", "--cmd", "/bin/sh", "--port", "80/tcp", "--user", "5", "--label", "k=v", "--stop-signal", "INT",
            "--volume", "/data", "--workingdir", "/etc", c)
    buildah("commit", "-q", c, "oci:%s:latest" % p.at("oci"))
    buildah("rm", c)
    for to in "oci-archive:%s:localhost/a:1", "docker-archive:%s:localhost/b:1", "dir:%s":
        where = p.at(to.split(":")[0])
        subprocess.run(["skopeo", "copy", "-q", "oci:" + p.at("oci"), to % where], check=True)
    p.ok("load", p.at("oci-archive"))
    p.ok("load", p.at("docker-archive"))
    p.ok("load", "--reference", "localhost/c:1", p.at("dir"))
    p.refused("name it by --reference", "load", p.at("oci"))
    p.ok("load", "--reference", "localhost/d:1", p.at("oci"))
    p.ok("pull", "--reference", "localhost/e:1", "oci:" + p.at("oci"))
    i = p.inspect("localhost/a:1")
    equal([i[k] for k in ("command", "ports", "user", "labels", "stopSignal", "volumes", "directory")],
          [["/bin/sh"], ["80/tcp"], "5", {"k": "v", "io.buildah.version": i["labels"]["io.buildah.version"]}, "INT",
           ["/data"], "/etc"])
    equal({p.inspect("localhost/%s:1" % x)["id"] for x in "abcde"}, {i["id"]}, "one image, in five forms")
    for form, transport in ("docker", "docker-archive"), ("oci", "oci-archive"):
        p.ok("save", "--format", form, "localhost/a:1", p.at("saved"))
        out = subprocess.run(["skopeo", "inspect", "--config", "--raw", "%s:%s" % (transport, p.at("saved"))],
                             check=True, stdout=subprocess.PIPE).stdout
        equal("sha256:" + sha(out), i["id"])
        os.unlink(p.at("saved"))
    out = subprocess.run(["skopeo", "inspect", "--raw", "oci:%s:localhost/a:1" % p.store], check=True,
                         stdout=subprocess.PIPE).stdout
    equal("sha256:" + sha(out), i["digest"], "the store is an OCI layout itself")


@test
def saved_is_the_same(p):
    """an image saved as OCI and loaded elsewhere has the same digest, and as docker-archive the same ID"""
    layout = Layout()
    layout.image("localhost/bb:1", [BASE, files(x="1")], zstd, "+zstd")
    p.ok("load", layout.directory(p.at("dir")))
    i = p.inspect("localhost/bb:1")
    for form, key in ("oci", "digest"), ("docker", "id"):
        p.store = p.at("store")
        p.ok("save", "--format", form, "localhost/bb:1", p.at(form))
        p.store = p.at("store-" + form)
        p.ok("load", p.at(form))
        equal(p.inspect("localhost/bb:1")[key], i[key])
    check(not [x for x in os.listdir(p.path) if x.endswith(".part")])


@test
def imported(p):
    """a root file system is imported from a tar, packed by anything, and from a directory"""
    write(p.at("dir", "etc", "motd"), b"hello\n")
    os.link(p.at("dir", "etc", "motd"), p.at("dir", "etc", "same"))
    os.symlink("etc", p.at("dir", "link"))
    for name, data in ("x.tar", BASE), ("x.gz", gzip.compress(BASE)), ("x.xz", lzma.compress(BASE)):
        write(p.at(name), data)
        p.ok("import", "--reference", name, "--command", "sh", "--command=-l", "--env", "A=b=c", "--directory", "/etc",
             "--user", "1:2", "--entrypoint", "/bin/env", p.at(name))
        i = p.inspect(name)
        equal([i[k] for k in ("command", "env", "directory", "user", "entrypoint")],
              [["sh", "-l"], ["A=b=c"], "/etc", "1:2", ["/bin/env"]])
        equal(p.flat(name, "flat-" + name)["etc/motd"], "hello\n")
    p.ok("import", "--reference", "d", p.at("dir"))
    equal(p.flat("d"), {"etc": "dir 755", "etc/motd": "hello\n", "etc/same": "hello\n", "link": "-> etc"})
    equal(os.stat(p.at("flat/etc/motd")).st_ino, os.stat(p.at("flat/etc/same")).st_ino)
    p.refused("needs a name", "import", p.at("dir"))


@test
def platforms(p):
    """of an image for several machines this machine's is taken, and none is an error that names those there are"""
    layout = Layout()
    other = "arm64" if ARCHITECTURE != "arm64" else "amd64"
    entries = []
    for architecture in other, ARCHITECTURE, "unknown":
        m = layout.image(None, [files(which=architecture)], add=False, architecture=architecture)
        entries.append({**m, "platform": {"os": "linux" if architecture != "unknown" else "unknown",
                                          "architecture": architecture}})
    index = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    layout.entries = [{**layout.blob(index, "application/vnd.oci.image.index.v1+json"),
                       "annotations": {"org.opencontainers.image.ref.name": "localhost/multi:1"}}]
    p.ok("load", layout.directory(p.at("nested")))
    equal(p.flat("localhost/multi:1")["which"], ARCHITECTURE)
    layout.entries = [{**e, "annotations": {"org.opencontainers.image.ref.name": "localhost/flat:1"}} for e in entries]
    p.ok("load", layout.directory(p.at("top")))
    equal(p.flat("localhost/flat:1", "flat2")["which"], ARCHITECTURE)
    layout.entries = layout.entries[:1]
    p.refused("no image for this machine, linux/%s; there are: linux/%s" % (ARCHITECTURE, other), "load",
              layout.directory(p.at("foreign")))


@test
def several_images(p):
    """of several images all are loaded, or the one that is selected"""
    layout = Layout()
    for n in "12":
        layout.image("localhost/bb:" + n, [files(n=n)])
    f = layout.tar(p.at("x.tar"))
    p.refused("say which by --select", "load", "--reference", "x", f)
    p.ok("load", "--reference", "x", "--select", "localhost/bb:2", f)
    equal(p.flat("x")["n"], "2")
    p.ok("load", f)
    equal(p.references(), ["localhost/bb:1", "localhost/bb:2", "x:latest"])
    p.refused("no image called 'nope'", "load", "--select", "nope", f)


# --- damage ---

@test
def damaged(p):
    """what is not what its digest says is refused, and nothing is kept of it"""
    def damage(change, says):
        layout = Layout()
        m = layout.image("localhost/bb:1", [BASE])
        change(layout, json.loads(layout.files["blobs/sha256/" + m["digest"][7:]]))
        p.refused(says, "load", layout.tar(p.at("x.tar")))
        p.clean()

    def put(layout, digest, data):
        layout.files["blobs/sha256/" + digest[7:]] = data
    damage(lambda l, m: put(l, m["layers"][0]["digest"], BASE.replace(b"hello", b"jello")), "layer 1 of 1 is damaged")
    damage(lambda l, m: put(l, m["config"]["digest"], b"{}"), "is damaged: its digest is sha256:" + sha(b"{}"))
    damage(lambda l, m: put(l, l.entries[0]["digest"], b"{}"), "is damaged")
    damage(lambda l, m: l.files.pop("blobs/sha256/" + m["layers"][0]["digest"][7:]), "has no 'blobs/sha256/")
    damage(lambda l, m: put(l, m["layers"][0]["digest"], BASE[:700]), "layer 1 of 1")
    f = docker(p.at("d.tar"), ["bb:1"], [BASE])
    with open(f, "rb") as x:
        data = x.read()
    write(p.at("e.tar"), data.replace(b"hello\n", b"jello\n"))
    p.refused("its digest unpacked (its diff id) is sha256:", "load", p.at("e.tar"))
    write(p.at("f.tar"), data[:len(data) // 2])
    p.refused("f.tar", "load", p.at("f.tar"))
    p.clean()


@test
def schemas(p):
    """a malformed document is refused with its file and field"""
    def with_manifest(change, says):
        layout = Layout()
        m = layout.image("localhost/bb:1", [BASE])
        o = json.loads(layout.files["blobs/sha256/" + m["digest"][7:]])
        change(o)
        layout.entries = [{**layout.blob(json.dumps(o).encode(), m["mediaType"]), "annotations": m["annotations"]}]
        p.refused(says, "load", layout.directory(p.at("x")))

    def with_config(change, says):
        c = json.loads(config([BASE]))
        change(c)
        c = json.dumps(c).encode()
        write(p.at("d.tar"), tar(entry("l.tar", BASE), entry("c.json", c), entry("manifest.json", json.dumps(
            [{"Config": "c.json", "RepoTags": ["x:1"], "Layers": ["l.tar"]}]).encode())))
        p.refused(says, "load", p.at("d.tar"))
    with_manifest(lambda o: o.pop("config"), "'config' is missing")
    with_manifest(lambda o: o["layers"][0].pop("size"), "'layers[0].size' must be a number of bytes")
    with_manifest(lambda o: o["layers"][0].update(digest="sha256:../../x"), "'layers[0].digest' must be sha256:")
    with_manifest(lambda o: o["layers"][0].update(digest="sha512:" + "0" * 128), "'layers[0].digest' must be sha256:")
    with_manifest(lambda o: o["layers"][0].update(mediaType="text/plain"), "'layers[0].mediaType' is no layer")
    with_manifest(lambda o: o.update(schemaVersion=1), "'schemaVersion' must be 2")
    with_manifest(lambda o: o.update(layers={}), "'layers' must be a list")
    with_manifest(lambda o: o["layers"].append(o["layers"][0]), "are not as many as the manifest has layers")
    with_config(lambda c: c.pop("rootfs"), "d.tar: c.json: 'rootfs' is missing")
    with_config(lambda c: c.update(config={"Env": "A=b"}), "'config.Env' must be a list of strings")
    with_config(lambda c: c.update(config={"Cmd": [1]}), "'config.Cmd[0]' must be a string")
    with_config(lambda c: c.update(config={"User": 5}), "'config.User' must be a string")
    with_config(lambda c: c.update(config={"Healthcheck": {"Interval": -1}}), "'config.Healthcheck.Interval' must be")
    with_config(lambda c: c.pop("os"), "'os' is missing")
    for text, says in (b"{", "index.json: line 1:"), (b'{"manifests": 1}', "'manifests' must be a list"), \
            (b'{"manifests": [1]}', "'manifests[0]' must be an object"), (b"[" * 100000, "index.json"):
        write(p.at("bad", "index.json"), text)
        p.refused(says, "load", p.at("bad"))
    write(p.at("plain.tar"), BASE)
    p.refused("is no image: it has neither index.json nor manifest.json", "load", p.at("plain.tar"))
    write(p.at("text"), b"hello\n" * 1000)
    p.refused("is no tar, or a damaged one", "load", p.at("text"))
    p.clean()


# --- names ---

@test
def references(p):
    """an image is found by its name, a short form of it, its digest and its ID, and else is not found"""
    layout = Layout()
    for n in "localhost/a:1", "reg.example/a:1", "reg.example/library/b:latest", "other.example:5000/b:2", "r.example/c:1", \
            "s.example/c:1":
        layout.image(n, [files(n=n)])
    p.ok("load", layout.directory(p.at("x")))
    for asked, is_ in ("a:1", "localhost/a:1"), ("b", "reg.example/library/b:latest"), \
            ("b:2", "other.example:5000/b:2"), ("reg.example/a:1", "reg.example/a:1"):
        equal(p.inspect(asked)["reference"], is_)
    i = p.inspect("localhost/a:1")
    for asked in i["id"], i["id"][7:], i["id"][7:19], i["digest"], "localhost/a@" + i["digest"]:
        equal(p.inspect(asked)["reference"], "localhost/a:1")
    for asked in "a", "a:2", "localhost/b", "x.example/a:1", "reg.example/a@" + i["digest"], "0123456789ab", \
            "sha256:" + "0" * 64:
        r = p.refused("image '%s' not found locally" % asked, "inspect", asked)
        equal(r.err, "davit-image: image '%s' not found locally\n" % asked)
    p.refused("'c:1' is short for 'r.example/c:1' and for 's.example/c:1': say which", "inspect", "c:1")
    for bad in "", "A", "a:", "a:b:c", "/a", "a/", "a//b", "a..b", "a___b", "-a", "a@sha256:1", "a b", "../x", "a:.x", \
            "a:" + "x" * 129, "x" * 300, "-.x/a", "host:port/a":
        p.refused("is not an image's name" if len(bad) < 512 else "too long", "inspect", "--", bad)


@test
def tags_and_removal(p):
    """a further name keeps an image, the last one takes it and what only it needs along"""
    layout = Layout()
    layout.image("localhost/a:1", [BASE, files(a="1")])
    layout.image("localhost/b:1", [BASE, files(b="1")])
    p.ok("load", layout.directory(p.at("x")))
    p.ok("tag", "localhost/a:1", "localhost/c")
    p.ok("remove", "localhost/a:1")
    equal(p.references(), ["localhost/b:1", "localhost/c:latest"])
    equal(p.ok("remove", "-o", "json", "localhost/c").json()["layers"], 1)
    equal(len(os.listdir(p.at("store", "layers"))), 2, "the layers of b")
    p.refused("image 'localhost/c' not found locally", "remove", "localhost/c")
    p.ok("tag", "localhost/b:1", "d")
    p.ok("remove", p.inspect("d")["id"])
    p.clean()
    p.refused("has a digest", "tag", "x", "y@sha256:" + "0" * 64)


@test
def holds(p):
    """an image in use is not removed, and its layers stay until release and gc"""
    layout = Layout()
    layout.image("localhost/a:1", [BASE])
    p.ok("load", layout.directory(p.at("x")))
    p.ok("hold", "c1", "localhost/a:1")
    p.ok("hold", "c2", "localhost/a:1")
    equal([(h["id"], h["reference"]) for h in sorted(p.ok("holds", "-o", "json").json(), key=lambda h: h["id"])],
          [("c1", "localhost/a:1"), ("c2", "localhost/a:1")])
    r = p.refused("image 'localhost/a:1' is in use by c", "remove", "-o", "json", "localhost/a:1")
    equal(r.json()["error"]["code"], "in-use")
    p.ok("remove", "--force", "localhost/a:1")
    equal(p.references(), [])
    p.ok("release", "c1")
    p.ok("gc")
    equal(len(os.listdir(p.at("store", "layers"))), 1)
    p.ok("release", "c2")
    p.ok("release", "c2")
    equal(p.ok("gc", "-o", "json").json()["layers"], 1)
    p.clean()
    for bad in "", "../x", "a/b", ".x", "x" * 129:
        p.refused("is no container's id", "release", "--", bad)


# --- trees ---

LAYERS = [
    tar(folder("a"), entry("a/x", b"1"), entry("a/y", b"1"), folder("b"), entry("b/x", b"1"), folder("c"),
        entry("c/x", b"1"), entry("d", b"1"), soft("l", "a"), entry("h1", b"h"), hard("h2", "h1"), folder("e/f/g"),
        entry("e/f/g/x", b"1"), entry("s", b"s", mode=0o4755), folder("ro", mode=0o555), entry("ro/x", b"1")),
    tar(entry("a/.wh.x", b""), entry("b/.wh..wh..opq", b""), entry("b/new", b"2"), entry(".wh.c", b""),
        entry(".wh.d", b""), folder("d"), entry("d/in", b"2"), entry("h2", b"new"), entry("e/.wh.f", b""),
        entry(".wh.never", b"")),
    tar(folder("c"), entry("c/z", b"3"), entry(".wh.c", b""), entry("l", b"3"), entry("a/y", b"3"), soft("e", "a")),
]
FLAT = {
    "a": "dir 755", "a/y": "3", "b": "dir 755", "b/new": "2", "c": "dir 755", "c/z": "3", "d": "dir 755", "d/in": "2",
    "l": "3", "h1": "h", "h2": "new", "e": "-> a", "s": "s", "ro": "dir 555", "ro/x": "1",
}


def mounted(p, i):
    """The same through overlayfs, where it can be mounted."""
    os.mkdir(p.at("m"))
    options = "lowerdir=" + ":".join(reversed(i["directories"])) + (",userxattr" if i["userXattrs"] else "")
    m = subprocess.run(["unshare", "-m", "sh", "-c",
                        'mount -t overlay overlay -o "$1" "$2" && exec python3 -c "$3" "$2"', "sh", options, p.at("m"),
                        "import sys, json; sys.path.insert(0, %r); from rig import tree; "
                        "print(json.dumps(tree(sys.argv[1])))" % os.path.dirname(os.path.abspath(__file__))],
                       capture_output=True)
    if m.returncode:
        raise Skip("overlayfs cannot be mounted here: " + m.stderr.decode().strip())
    return json.loads(m.stdout)


@test
def whiteouts(p):
    """whiteouts and opaque directories hide what is below, in a flattened tree and through overlayfs alike"""
    layout = Layout()
    layout.image("localhost/w:1", LAYERS)
    p.ok("load", layout.directory(p.at("x")))
    equal(p.flat("localhost/w:1"), FLAT)
    equal(os.lstat(p.at("flat", "s")).st_mode & 0o7777, 0o4755)
    equal(os.lstat(p.at("flat", "h1")).st_mtime, 1000000000)
    check(not os.path.exists(p.at("flat.part")))
    if os.getuid():
        raise Skip("not root: no overlayfs to compare with")
    equal(mounted(p, p.inspect("localhost/w:1")), FLAT)


@test
def rootless(p):
    """without root the same comes out, owned by the caller, and device nodes are refused"""
    if os.getuid():
        raise Skip("not root: all of these tests are of this kind")
    need("setpriv")
    os.mkdir(p.at("home"))
    os.chown(p.at("home"), 65534, 65534)
    p.store, p.user = p.at("home", "store"), 65534
    layers = LAYERS + [tar(entry("mine", b"m", uid=1234, gid=5), entry("secret", b"s", mode=0))]
    layout = Layout()
    layout.image("localhost/w:1", layers)
    layout.directory(p.at("x"))
    subprocess.run(["chmod", "-R", "a+rX", p.at("x")], check=True)
    p.ok("load", p.at("x"))
    p.ok("flatten", "localhost/w:1", p.at("home", "flat"))
    equal(tree(p.at("home", "flat")), {**FLAT, "mine": "m", "secret": "s"})
    equal(os.stat(p.at("home", "flat", "mine")).st_uid, 65534)
    i = p.inspect("localhost/w:1")
    check(i["userXattrs"])
    layout = Layout()
    layout.image("localhost/dev:1", [tar(entry("dev/null", kind=tarfile.CHRTYPE, devmajor=1, devminor=3))])
    p.refused("'dev/null' is a device node, which only root may make", "load", layout.directory(p.at("y")))
    p.ok("remove", "localhost/w:1")
    p.clean()


@test
def attributes(p):
    """owners, modes, times, links between files, pipes and attributes of users are kept, those of overlayfs are not"""
    if os.getuid():
        raise Skip("not root: owners cannot be given")
    layout = Layout()
    layout.image("localhost/m:1", [tar(
        entry("f", b"x", uid=12, gid=34, mode=0o640, pax_headers={
            "SCHILY.xattr.user.note": "kept", "SCHILY.xattr.user.overlay.opaque": "y",
            "SCHILY.xattr.trusted.overlay.redirect": "/etc"}),
        hard("g", "f"), entry("p", kind=tarfile.FIFOTYPE), entry("dev/null", kind=tarfile.CHRTYPE, devmajor=1, devminor=3),
        entry("n\u00e4me", b"u"), entry(b"raw\xff".decode("utf-8", "surrogateescape"), b"r"))])
    p.ok("load", layout.directory(p.at("x")))
    p.ok("flatten", "localhost/m:1", p.at("flat"))
    for where in p.inspect("localhost/m:1")["directories"][0], p.at("flat"):
        st = os.stat(os.path.join(where, "f"))
        equal((st.st_uid, st.st_gid, st.st_mode & 0o7777, st.st_nlink, st.st_mtime), (12, 34, 0o640, 2, 1000000000))
        equal(os.listxattr(os.path.join(where, "f")), ["user.note"])
        check(os.path.exists(os.path.join(where, "n\u00e4me")))
        check(os.path.exists(os.path.join(where.encode(), b"raw\xff")))
        equal(os.stat(os.path.join(where, "dev/null")).st_rdev, os.makedev(1, 3))


# --- death and crowds ---

def fresh(path, n):
    layout = Layout()
    for i in range(4):
        layout.image("localhost/k%d:1" % i, [BASE, tar(*[entry("d%d/%d" % (x % 7, x), b"%d" % i * 2000)
                                                        for x in range(n)])], gzip.compress, "+gzip")
    return layout.tar(path)


@test
def killed(p):
    """killed at any moment of a load nothing is left but what the next run removes"""
    f = fresh(p.at("x.tar"), 200)
    start = time.monotonic()
    p.ok("load", f)
    took = time.monotonic() - start
    whole = listing(p.store)
    rng = random.Random(3)
    for n in range(25):
        p.store = p.at("s%d" % (n % 3))
        c = subprocess.Popen(p.command("load", f), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.random() * took)
        c.kill()
        c.wait()
        names = p.references() if os.path.exists(p.at(p.store, "index.json")) else []
        for name in names:
            p.inspect(name)
        if n % 5 == 4:
            for name in names:
                p.ok("remove", name)
            p.ok("gc")
            p.clean()
        else:
            p.ok("load", f)
            equal(listing(p.store), whole)


@test
def crash_points(p):
    """killed at each point between the writes of a load and a removal the store is whole"""
    f = fresh(p.at("x.tar"), 20)
    for point in "image-sync", "image-publish:1", "image-publish:3", "image-index", "image-write", "image-remove":
        p.store = p.at(point)
        if "remove" in point or point == "image-write":
            p.ok("load", f)
        args = ["load", f] if "remove" not in point else ["remove", "localhost/k1:1"]
        r = p.run(*args, env={**os.environ, "DAVIT_FAULT": point})
        equal(r.code, -signal.SIGKILL, point)
        for name in p.references():
            p.inspect(name)
        p.ok("gc")
        for name in p.references():
            p.inspect(name)
            p.ok("remove", name)
        p.clean()


@test
def crowd(p):
    """eight loads, with removals and collections among them, end with all that was loaded"""
    f = fresh(p.at("x.tar"), 50)
    cs = [subprocess.Popen(p.command(*args), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
          for args in [("load", f)] * 8 + [("gc",)] * 3 + [("load", "--reference", "localhost/x:1", "--select",
                                                           "localhost/k2:1", f)]]
    for c in cs:
        err = c.communicate(timeout=60)[1].decode()
        equal(c.returncode, 0, err)
    equal(p.references(), ["localhost/k%d:1" % i for i in range(4)] + ["localhost/x:1"])
    for name in p.references():
        p.flat(name, name.replace("/", "-"))
    equal(os.listdir(p.at("store", "tmp")), [x for x in os.listdir(p.at("store", "tmp")) if x == "write"])
    for name in p.references():
        p.ok("remove", name)
    p.clean()


# --- registries ---

class Registry(http.server.BaseHTTPRequestHandler):
    layout = None
    manifest = None

    def do_GET(self):
        name = self.path.rsplit("/", 1)[-1]
        media = "application/octet-stream"
        if self.path == "/v2/":
            data = b"{}"
        elif "/manifests/" in self.path and name in ("1", self.manifest["digest"]):
            data, media = self.layout.files["blobs/sha256/" + self.manifest["digest"][7:]], self.manifest["mediaType"]
        elif "/blobs/" in self.path and "blobs/sha256/" + name[7:] in self.layout.files:
            data = self.layout.files["blobs/sha256/" + name[7:]]
        else:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", media)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    do_HEAD = do_GET

    def log_message(self, *args):
        pass


@test
def pulled(p):
    """an image is pulled from a registry by skopeo, whose words are given when it fails"""
    need("skopeo")
    Registry.layout = Layout()
    Registry.manifest = Registry.layout.image("x", [BASE], gzip.compress, "+gzip")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = "127.0.0.1:%d" % server.server_port
    write(p.at(".config", "containers", "registries.conf"), b'[[registry]]\nlocation = "%s"\ninsecure = true\n' % host.encode())
    env = {**os.environ, "HOME": p.path}
    try:
        p.ok("pull", "docker://%s/bb:1" % host, env=env)
        i = p.inspect(host + "/bb:1")
        equal(i["digest"], Registry.manifest["digest"])
        equal(p.inspect("bb:1")["id"], i["id"])
        p.ok("pull", "--reference", "localhost/mine:1", host + "/bb:1", env=env)
        p.refused("cannot pull", "pull", host + "/bb:2", env=env)
    finally:
        server.shutdown()
        server.server_close()
    p.refused("cannot pull 'docker://%s/bb:1'" % host, "pull", host + "/bb:1", env=env)
    equal(p.references(), [host + "/bb:1", "localhost/mine:1"])


@test
def no_skopeo(p):
    """without skopeo a pull says so"""
    os.mkdir(p.at("empty"))
    r = p.refused("this needs skopeo: not installed", "pull", "-o", "json", "bb", env={"PATH": p.at("empty")})
    equal(r.json(), {"error": {"code": "unsupported", "message": "this needs skopeo: not installed"}})


@test
def builds(p):
    """an image is built from a directory and from an archive, on images of the store and in stages"""
    need("buildah")
    if os.geteuid():
        raise Skip("it needs root")
    layout = Layout()
    layout.image("localhost/base:1", [BASE], Cmd=["/bin/sh"], Env=["A=b"])
    p.ok("load", layout.directory(p.at("base")))
    os.mkdir(p.at("context"))
    with open(p.at("context", "Dockerfile"), "w") as f:
        f.write("FROM base:1 AS one\nCOPY note /note\nFROM localhost/base:1\nCOPY --from=one /note /copied\nENV C=d\n")
    with open(p.at("context", "note"), "w") as f:
        f.write("noted\n")
    r = p.ok("build", "-o", "json", "--reference", "localhost/built:1", p.at("context"))
    said = [json.loads(line) for line in r.out.splitlines()]
    check(any("STEP" in x.get("said", "") for x in said), "what the builder said", said)
    equal(said[-1]["reference"], "localhost/built:1")
    equal(p.flat("localhost/built:1")["copied"], "noted\n")
    check({"A=b", "C=d"} <= set(p.inspect("localhost/built:1")["env"]), "its environment")
    subprocess.run(["tar", "-C", p.at("context"), "-czf", p.at("context.tgz"), "."], check=True)
    with open(p.at("context.tgz"), "rb") as stdin:
        p.ok("build", "--reference", "localhost/built:2", "-", stdin=stdin)
    equal(p.flat("localhost/built:2", "flat-2")["etc/motd"], "hello\n")
    equal(os.listdir(p.at("store", "tmp")), [], "work is removed")


@test
def bad_builds(p):
    """a context that leads out of itself, a failed step and a missing builder are refused, and nothing is left"""
    hostile = {
        "../out": tar(entry("../out", b"x")), "/out": tar(entry(p.at("out"), b"x")),
        "link/out": tar(soft("link", p.at()), entry("link/out", b"x")),
        "null": tar(entry("null", kind=tarfile.CHRTYPE, devmajor=1, devminor=3)),
    }
    for name, data in hostile.items():
        with open(p.at("hostile.tar"), "wb") as f:
            f.write(data)
        r = p.refused("context: '", "build", "-o", "json", "--reference", "x", p.at("hostile.tar"))
        equal(r.json()["error"]["code"], "source", name)
        check(not os.path.exists(p.at("out")), "written outside", name)
    p.refused("the context has no Dockerfile", "build", "--reference", "x", p.at())
    p.refused("build needs a name: --reference NAME", "build", p.at())
    os.mkdir(p.at("empty"))
    with open(p.at("empty", "Dockerfile"), "w") as f:
        f.write("FROM scratch\nNONSENSE\n")
    os.mkdir(p.at("path"))
    p.refused("this needs buildah: not installed", "build", "--reference", "x", p.at("empty"), env={"PATH": p.at("path")})
    if shutil.which("buildah") and not os.geteuid():
        r = p.refused("", "build", "-o", "json", "--reference", "x", p.at("empty"))
        equal(json.loads(r.out.splitlines()[-1])["error"]["code"], "build-failed")
    equal(p.references(), [])
    equal(os.listdir(p.at("store", "tmp")), [], "work is removed")


@test
def usage(p):
    """what the command line does not know is refused"""
    for args in [], ["nope"], ["load"], ["load", "a", "b"], ["list", "x"], ["--nope", "list"]:
        equal(p.run(*args).code, 2, args)
    p.refused("--output must be json", "list", "-o", "yaml")
    p.refused("--env is not for list", "list", "--env", "A=b")
    p.refused("--force is not for load", "load", "--force", "x")
    p.refused("--max-entries", "load", "--max-entries", "many", "x")
    equal(p.run("--help").code, 0)


if __name__ == "__main__":
    sys.exit(main())
