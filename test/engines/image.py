# SPDX-License-Identifier: MIT
"""An image of busybox, made from the machine's own busybox-static without any network, in the forms
that runtimes load: a directory, a docker-archive and an OCI layout, all of the same layer and config.
It is the same bytes wherever it is made, so its digests are too."""
import gzip
import hashlib
import io
import json
import os
import shutil
import struct
import subprocess
import tarfile

PT_INTERP = 3
NAME = "localhost/bb:1"
EPOCH = "1970-01-01T00:00:00Z"
FOLDERS = {"bin": 0o755, "dev": 0o755, "etc": 0o755, "proc": 0o555, "root": 0o700, "sys": 0o555, "tmp": 0o1777,
           "var": 0o755, "www": 0o755, "home": 0o755, "home/user": 0o755}
FILES = {"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n",
         "etc/group": "root:x:0:\nuser:x:1000:\n",
         "etc/hosts": "127.0.0.1 localhost\n",
         "www/index.html": "hello from busybox\n"}


def is_static(program):
    """Whether an ELF program of 64 bits asks for no interpreter, the dynamic linker."""
    with open(program, "rb") as f:
        data = f.read()
    offset, = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    return all(struct.unpack_from("<I", data, offset + i * size)[0] != PT_INTERP for i in range(count))


def layer(busybox):
    """The root as an uncompressed tar: its digest is the layer's diff id."""
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        def add(name, mode, kind=tarfile.REGTYPE, content=b"", link=""):
            entry = tarfile.TarInfo(name)
            entry.mode, entry.type, entry.linkname, entry.size = mode, kind, link, len(content)
            if name.startswith("home/user"):
                entry.uid = entry.gid = 1000
            tar.addfile(entry, io.BytesIO(content))
        for name, mode in FOLDERS.items():
            add(name, mode, tarfile.DIRTYPE)
        for name, text in FILES.items():
            add(name, 0o644, content=text.encode())
        with open(busybox, "rb") as f:
            add("bin/busybox", 0o755, content=f.read())
        for name in sorted(set(applets) - {"busybox"}):
            add("bin/" + name, 0o777, tarfile.SYMTYPE, link="busybox")
    return out.getvalue()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def write_docker_archive(path, root, config):
    name = sha256(config)
    manifest = [{"Config": name + ".json", "RepoTags": [NAME], "Layers": [sha256(root) + "/layer.tar"]}]
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for member, content in ((name + ".json", config), (manifest[0]["Layers"][0], root),
                                ("manifest.json", json.dumps(manifest).encode())):
            entry = tarfile.TarInfo(member)
            entry.mode, entry.size = 0o644, len(content)
            tar.addfile(entry, io.BytesIO(content))


def write_oci_layout(path, root, config):
    blobs = os.path.join(path, "blobs", "sha256")
    os.makedirs(blobs)

    def blob(content, kind, **more):
        with open(os.path.join(blobs, sha256(content)), "wb") as f:
            f.write(content)
        return {"mediaType": "application/vnd.oci.image." + kind, "digest": "sha256:" + sha256(content),
                "size": len(content), **more}
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(config, "config.v1+json"),
        "layers": [blob(gzip.compress(root, 6, mtime=0), "layer.v1.tar+gzip")]}).encode()
    index = {"schemaVersion": 2, "manifests": [
        blob(manifest, "manifest.v1+json", annotations={"org.opencontainers.image.ref.name": NAME})]}
    for name, content in (("oci-layout", {"imageLayoutVersion": "1.0.0"}), ("index.json", index)):
        with open(os.path.join(path, name), "w") as f:
            json.dump(content, f)


def make(directory):
    """Writes DIRECTORY/rootfs, /image.tar, /oci; returns a word why it could not, or None."""
    busybox = shutil.which("busybox")
    if not busybox:
        return "busybox is not installed"
    if not is_static(busybox):
        return "busybox is not static: install busybox-static"
    root = layer(busybox)
    config = json.dumps({
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
        "os": "linux", "created": EPOCH,
        "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + sha256(root)]},
        "history": [{"created": EPOCH, "created_by": "busybox"}]}).encode()
    with tarfile.open(fileobj=io.BytesIO(root)) as tar:
        tar.extractall(os.path.join(directory, "rootfs"))
    write_docker_archive(os.path.join(directory, "image.tar"), root, config)
    write_oci_layout(os.path.join(directory, "oci"), root, config)
    return None
