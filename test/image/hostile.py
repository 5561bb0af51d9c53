#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""davit-image with hostile layers: each is refused with the name of its entry, or
does its harm within its own tree; outside nothing changes."""
import gzip
import io
import json
import os
import sys
import tarfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from rig import (Layout, check, entry, equal, folder, hard, main, soft, tar, test, write)  # noqa: E402

DEEP = "/".join(["d"] * 300)
UP = "../" * 20

# what -> (entries, what the refusal says)
REFUSED = {
    "a name that climbs": ([entry("../evil", b"x")], "'../evil' would land outside"),
    "a name that climbs within": ([entry("a/../../evil", b"x")], "'a/../../evil' would land outside"),
    "a directory that climbs": ([folder("a/..")], "'a/../' would land outside"),
    "a whiteout that climbs": ([entry("../.wh.canary", b"")], "would land outside"),
    "an absolute name": ([entry("/CANARY/evil", b"x")], "is an absolute name"),
    "a hard link that climbs": ([hard("x", UP + "CANARY/file")], "'x' is a hard link to what is outside"),
    "an absolute hard link": ([hard("x", "/CANARY/file")], "'x' is a hard link to what is outside"),
    "a hard link to nothing": ([hard("x", "y")], "'x' is a hard link to what is no file"),
    "a hard link to a directory": ([folder("d"), hard("x", "d")], "'x' is a hard link to what is no file"),
    "a hard link through a link": ([soft("l", "/CANARY"), hard("x", "l/file")], "'x' is a hard link to what is no file"),
    "a hard link through a link that climbs": ([soft("l", UP + "CANARY"), hard("x", "l/file")],
                                               "'x' is a hard link to what is no file"),
    "a hard link to a whiteout": ([entry(".wh.y", b""), hard("x", "y")], "'x' is a hard link to what is no file"),
    "a file behind a link": ([soft("l", "/CANARY"), entry("l/evil", b"x")], "'l/evil' lies behind a link"),
    "a file behind a link that climbs": ([soft("l", UP + "CANARY"), entry("l/evil", b"x")], "'l/evil' lies behind a link"),
    "a file behind a chain of links": ([soft("a", "b"), soft("b", "/CANARY"), entry("a/evil", b"x")],
                                       "'a/evil' lies behind a link"),
    "a directory replaced by a link": ([folder("d"), entry("d/x", b"1"), soft("d", "/CANARY"), entry("d/evil", b"x")],
                                       "'d/evil' lies behind a link"),
    "a directory behind a link": ([soft("l", "/CANARY"), folder("l/evil")], "'l/evil' lies behind a link"),
    "a whiteout behind a link": ([soft("l", "/CANARY"), entry("l/.wh.file", b"")], "lies behind a link"),
    "an opaque mark behind a link": ([soft("l", "/CANARY"), entry("l/.wh..wh..opq", b"")], "lies behind a link"),
    "a link to itself": ([soft("l", "l"), entry("l/x", b"x")], "'l/x' lies behind what is no directory"),
    "a file as parent": ([entry("f", b"x"), entry("f/x", b"x")], "'f/x' lies behind what is no directory"),
    "a link to /proc": ([soft("l", "/proc/self/root/CANARY"), entry("l/evil", b"x")], "'l/evil' lies behind a link"),
    "too deep": ([entry(DEEP, b"x")], "lies too deep"),
    "too deep through links": ([folder("/".join("a" * 200)), soft("s", "/".join("a" * 200)),
                                entry("s/" + "/".join("b" * 100), b"x")], "lies too deep"),
    "too long a part": ([entry("x" * 300, b"x")], "has too long a part"),
    "too long a name": ([entry("/".join(["x" * 200] * 30), b"x")], "is too long a name"),
    "a whiteout of nothing": ([entry("a/.wh.", b"")], "is a whiteout of nothing"),
    "a whiteout of the parent": ([entry("a/.wh...", b"")], "is a whiteout of nothing"),
    "a file in a whiteout": ([entry(".wh.a/x", b"x")], "lies in a whiteout"),
    "a root that is a file": ([entry(".", b"x")], "is no directory, but the root"),
    "a root that is a link": ([soft("./", "/CANARY")], "is no directory, but the root"),
    "a name overridden by a PAX header": ([entry("ok", b"x", pax_headers={"path": "../evil"})], "would land outside"),
    "a link overridden by a PAX header": ([entry("x", kind=tarfile.LNKTYPE, link="y", pax_headers={
        "linkpath": "/CANARY/file"})], "'x' is a hard link to what is outside"),
    "an owner that is none": ([entry("x", b"x", pax_headers={"uid": "4294967295"})], "has no possible owner"),
    "a size beyond all": ([entry("x", b"x", pax_headers={"size": "9223372036854775807"})], "layer 1 of 1"),
}
# Odd, and within: what -> (entries, what is there then)
WITHIN = {
    "a link that leads out, which nobody follows": ([soft("l", UP + "CANARY")], {"l": "-> " + UP + "CANARY"}),
    "a link to / is the image's own root": ([soft("l", "/"), entry("l/x", b"x")], {"l": "-> /", "x": "x"}),
    "a link that climbs ends at the image's own root": (
        [folder("etc"), soft("a", UP + "etc"), entry("a/x", b"x")],
        {"a": "-> " + UP + "etc", "etc": "dir 755", "etc/x": "x"}),
    "a parent that is a link is followed": (
        [folder("usr/lib"), soft("lib", "usr/lib"), entry("lib/x", b"x")],
        {"usr": "dir 755", "usr/lib": "dir 755", "lib": "-> usr/lib", "usr/lib/x": "x"}),
    "a file in place of a link does not write through it": (
        [soft("l", "/CANARY/file"), entry("l", b"x")], {"l": "x"}),
    "a directory replaced by a file goes with all in it": (
        [folder("d"), entry("d/x", b"1"), entry("d", b"2")], {"d": "2"}),
    "a hard link to a link is one to the link": ([soft("l", "/CANARY/file"), hard("h", "l")],
                                                 {"l": "-> /CANARY/file", "h": "-> /CANARY/file"}),
    "marks of aufs are passed over": ([folder(".wh..wh.plnk"), entry("x", b"x")], {"x": "x"}),
}


def image(entries, packing=bytes, suffix=""):
    data = tar(*entries) if isinstance(entries, list) else entries
    layout = Layout()
    layout.image("localhost/evil:1", [data], packing, suffix)
    return layout


def real(p, entries):
    """CANARY stands for the directory that must not change."""
    out = []
    for info, content in entries:
        i, here = info, p.at("canary").lstrip("/")
        i.name, i.linkname = i.name.replace("CANARY", here), i.linkname.replace("CANARY", here)
        i.pax_headers = {k: v.replace("CANARY", here) for k, v in i.pax_headers.items()}
        out.append((i, content))
    return out


def canary(p):
    write(p.at("canary", "file"), b"precious")
    os.makedirs(p.at("canary", "dir"))
    return state(p)


def state(p):
    out = {}
    for d, ds, fs in os.walk(p.path):
        if d == p.path:
            ds[:] = [x for x in ds if x not in ("store", "x", "flat")]
        for x in ds + fs:
            f = os.path.join(d, x)
            st = os.lstat(f)
            out[f] = (st.st_mode, st.st_uid, st.st_nlink, st.st_size, st.st_mtime_ns, os.listxattr(f, follow_symlinks=False))
    return out


def refusal(what, entries, says):
    def fn(p):
        before = canary(p)
        p.refused(says, "load", image(real(p, entries)).directory(p.at("x")))
        p.clean()
        equal(state(p), before, "outside of the store")
    fn.__name__ = "refused_" + what.replace(" ", "_")
    fn.__doc__ = "%s is refused" % what
    test(fn)


def confinement(what, entries, expected):
    def fn(p):
        before = canary(p)
        p.ok("load", image(real(p, entries)).directory(p.at("x")))
        equal(p.flat("localhost/evil:1"), {k: v.replace("CANARY", p.at("canary").lstrip("/")) for k, v in
                                           expected.items()})
        p.ok("remove", "localhost/evil:1")
        p.clean()
        equal(state(p), before, "outside of the store")
    fn.__name__ = "within_" + what.replace(" ", "_")
    fn.__doc__ = what
    test(fn)


for _what, (_entries, _says) in REFUSED.items():
    refusal(_what, _entries, _says)
for _what, (_entries, _expected) in WITHIN.items():
    confinement(_what, _entries, _expected)


@test
def nul(p):
    """a name with a NUL in it cannot be told from the name before it, and stays within"""
    before = canary(p)
    data = tar(entry("evil.txt", b"x", pax_headers={"path": "ab\0/../../../evil"}))
    r = p.run("load", image(data).directory(p.at("x")))
    check(r.code in (0, 1), r.code)
    equal(state(p), before)


@test
def sockets(p):
    """what is neither file, directory, link, pipe nor device is refused"""
    data = tar(entry("s", kind=b"S"))
    r = p.run("load", image(data).directory(p.at("x")))
    check(r.code == 0 or "'s'" in r.err, r.err)


@test
def bombs(p):
    """what unpacks to too much is refused before it fills the disk"""
    zeros = tar(entry("zeros", bytes(100 << 20)))
    packed = gzip.compress(zeros, 9)
    layout = image(zeros, lambda x: packed, "+gzip").directory(p.at("x"))
    p.refused("'zeros' makes the layer unpack to more times its size than allowed (--max-ratio)", "load", layout)
    p.clean()
    p.refused("'zeros' makes the image larger than allowed (--max-size)", "load", "--max-ratio", "0", "--max-size",
              "50Mi", layout)
    p.clean()
    p.ok("load", "--max-ratio", "0", layout)


@test
def outer_bombs(p):
    """an archive around the layers may not unpack to too much either"""
    packed = gzip.compress(tar(entry("zeros", bytes(100 << 20))), 9)
    write(p.at("x.gz"), packed)
    p.refused("it unpacks to more times its size than allowed (--max-ratio)", "load", p.at("x.gz"))
    p.refused("it is larger than allowed (--max-size)", "load", "--max-ratio=0", "--max-size", "50Mi", p.at("x.gz"))
    p.refused("is larger than allowed (--max-size)", "import", "--reference", "x", "--max-size", "10k", "-", input=packed)
    p.clean()


@test
def gzip_in_gzip(p):
    """what is packed twice is not unpacked twice"""
    twice = gzip.compress(gzip.compress(tar(entry("x", b"x"))))
    p.refused("layer 1 of 1 is no tar", "load", image(tar(entry("x", b"x")), lambda x: twice, "+gzip").directory(p.at("x")))
    p.clean()


@test
def sparse(p):
    """a sparse file counts with its holes"""
    out = io.BytesIO()
    i = tarfile.TarInfo("monster")
    i.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "monster",
                     "GNU.sparse.realsize": str(1 << 50)}
    body = b"1\n0\n1\n".ljust(512, b"\0") + b"x"
    i.size = len(body)
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as t:
        t.addfile(i, io.BytesIO(body))
    p.refused("'monster' makes the image larger than allowed", "load", image(out.getvalue()).directory(p.at("x")))
    p.clean()


@test
def many(p):
    """too many entries are refused"""
    data = tar(*[entry("f%d" % i, b"") for i in range(101)])
    p.refused("'f100' is one entry too many (--max-entries)", "load", "--max-entries", "100",
              image(data).directory(p.at("x")))
    p.clean()


@test
def forged_whiteout(p):
    """a device that overlayfs takes for a whiteout is refused"""
    says = "which only root may make" if os.getuid() else "that overlayfs takes for a whiteout"
    p.refused(says, "load",
              image([entry("x", kind=tarfile.CHRTYPE)]).directory(p.at("x")))


@test
def outer_archives(p):
    """names of an outer archive lead nowhere"""
    before = canary(p)
    good = Layout()
    good.image("localhost/good:1", [tar(entry("x", b"x"))])
    members = [entry("../evil", b"x"), entry("/" + p.at("canary", "file"), b"x"), soft("blobs/sha256/x", p.at("canary")),
               entry("blobs/sha256/x/evil", b"x"), hard("y", p.at("canary", "file")), soft("loop", "loop")]
    write(p.at("x", "x.tar"), tar(*members, *[entry(k, v) for k, v in good.all().items()]))
    p.ok("load", p.at("x", "x.tar"))
    equal(p.flat("localhost/good:1"), {"x": "x"})
    equal(state(p), before)
    c = b"{}"
    for name in p.at("canary", "file"), "../../../.." + p.at("canary", "file"), "loop", "nope":
        write(p.at("x", "y.tar"), tar(soft("loop", "loop"), entry("c.json", c), entry("manifest.json", json.dumps(
            [{"Config": name, "RepoTags": ["x:1"], "Layers": []}]).encode())))
        p.refused("has no '%s" % name[:100], "load", p.at("x", "y.tar"))


@test
def outer_directories(p):
    """links of a directory that is loaded do not lead out of it"""
    before = canary(p)
    os.makedirs(p.at("x"))
    os.symlink(p.at("canary", "file"), p.at("x", "index.json"))
    p.refused("is no image", "load", p.at("x"))
    os.unlink(p.at("x", "index.json"))
    os.mkfifo(p.at("x", "index.json"))
    p.refused("is no image", "load", p.at("x"))
    equal(state(p), before)


if __name__ == "__main__":
    sys.exit(main())
