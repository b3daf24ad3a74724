#!/bin/sh
# Writes a container image of the program to standard output, as 'docker load' reads it. Made without a registry and without
# Docker: the program, the libraries that it needs, and busybox, with which an agent enters the machine that it runs on.
#
#   deploy/image.sh [PROGRAM [NAME:TAG]] | docker load
#
# PROGRAM is 'skep' of the path if absent, NAME:TAG is skep:VERSION. The same files make the same image.
set -eu

fail() { echo "image: $*" >&2; exit 1; }

program=${1:-$(command -v skep || true)}
[ -x "$program" ] || fail "there is no program ${program:-skep}: name it as the first argument"
version=$("$program" --version | sed 's/.* //')
name=${2:-skep:$version}
busybox=$(command -v busybox) || fail "install busybox-static"
case $(uname -m) in
    x86_64) architecture=amd64 ;;
    aarch64) architecture=arm64 ;;
    *) architecture=$(uname -m) ;;
esac

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
root=$folder/root
mkdir -p "$root/bin" "$root/tmp" "$root/usr/local/bin" "$root/var/lib/skep-agent" "$root/root"
chmod 755 "$folder" "$root"
chmod 1777 "$root/tmp"
cp "$program" "$root/usr/local/bin/skep"
# What only a debugger reads is most of the size.
if command -v strip >/dev/null 2>&1; then strip "$root/usr/local/bin/skep"; fi
cp "$busybox" "$root/bin/busybox"
for tool in sh ls cat ps tail nsenter; do ln -s busybox "$root/bin/$tool"; done
# 'libc.so.6 => /lib/…/libc.so.6 (0x…)', and the loader as a path alone; a static program needs none.
{ ldd "$program" 2>/dev/null || true; } | grep -o '/[^ ]*' | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
done

pack() { tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -C "$1" -cf - .; }
hash() { sha256sum "$1" | cut -d ' ' -f 1; }

image=$folder/image
mkdir "$image"
pack "$root" >"$image/layer.tar"
cat >"$image/config.json" <<EOF
{"architecture":"$architecture","os":"linux","created":"1970-01-01T00:00:00Z",
 "config":{"Entrypoint":["/usr/local/bin/skep"],"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
 "rootfs":{"type":"layers","diff_ids":["sha256:$(hash "$image/layer.tar")"]},
 "history":[{"created":"1970-01-01T00:00:00Z","created_by":"deploy/image.sh"}]}
EOF
cat >"$image/manifest.json" <<EOF
[{"Config":"config.json","RepoTags":["$name"],"Layers":["layer.tar"]}]
EOF
tar -C "$image" --owner=0 --group=0 --numeric-owner --mtime=@0 -cf - manifest.json config.json layer.tar
