#!/bin/sh
# Writes a root file system with a shell and small tools to standard output, as a tar archive: the image of the
# examples, made on this computer, so that they need no registry.
#
#   examples/busybox-image.sh | skep image load - --import skep-demo/busybox:1
set -eu

busybox=$(command -v busybox) || { echo "busybox-image: install busybox-static" >&2; exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"

mkdir "$folder/bin" "$folder/etc" "$folder/tmp" "$folder/www"
chmod 1777 "$folder/tmp"
cp "$busybox" "$folder/bin/busybox"
for tool in $("$busybox" --list); do
    [ "$tool" = busybox ] || ln -s busybox "$folder/bin/$tool"
done
# The same bytes on every run, so that the image keeps its id.
tar -C "$folder" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -cf - .
