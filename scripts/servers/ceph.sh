#!/usr/bin/env bash
# Ceph's RADOS gateway with what stands behind it (a monitor, one storage daemon): a real S3. 60 packages, fetched once.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/fetch.bash"
already ceph/radosgw --version && exit 0
echo "fetching Ceph's RADOS gateway into $servers_home/ceph"
new="$(mktemp -d "$servers_home/ceph.XXXXXX")"
trap 'rm -rf "$new"' EXIT
debian "$new" radosgw ceph-mon ceph-osd ceph-common
for program in ceph-mon ceph-osd ceph radosgw radosgw-admin monmaptool; do
    launcher "$new" "usr/bin/$program" ceph
done
"$new/radosgw" --version >/dev/null || fail "the fetched radosgw does not run"
settle ceph "$new"
