#!/usr/bin/env bash
# Ceph's RADOS gateway with what stands behind it (a monitor, one storage daemon): a real S3. 60 packages, fetched once.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/fetch.bash"
already ceph/radosgw --version && already ceph/ceph --version && exit 0
echo "fetching Ceph's RADOS gateway into $servers_home/ceph"
new="$(mktemp -d "$servers_home/ceph.XXXXXX")"
trap 'rm -rf "$new"' EXIT
debian "$new" radosgw ceph-mon ceph-osd ceph-common
for program in ceph-mon ceph-osd ceph radosgw radosgw-admin monmaptool; do
    launcher "$new" "usr/bin/$program" ceph
done
# The command `ceph` is a Python program of Debian's Python, with modules of its own.
sed -i '/^exec/i export PYTHONPATH="$here/usr/lib/python3/dist-packages"' "$new/ceph"
for program in radosgw ceph; do
    "$new/$program" --version >/dev/null || fail "the fetched $program does not run"
done
settle ceph "$new"
