#!/usr/bin/env bash
# Makes aced_VERSION_ARCH.deb of a built checkout, in dist or in the folder that is named: npm run package:deb
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
output=$(cd "${1:-$root/dist}" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
stage=$work/aced
"$root/packaging/stage.sh" "$stage"
mkdir "$stage/DEBIAN"
version=$(node -p 'require(process.argv[1]).version' "$root/package.json")
architecture=$(dpkg --print-architecture)
major=$(node -p 'process.versions.node.split(".")[0]')
# What is compiled fits one major release of Node.
cat > "$stage/DEBIAN/control" <<CONTROL
Package: aced
Version: $version
Architecture: $architecture
Maintainer: aced maintainers <maintainers@aced.invalid>
Installed-Size: $(du -sk --exclude=DEBIAN "$stage" | cut -f1)
Depends: nodejs (>= $([ "$major" = 20 ] && echo 20.19 || echo "$major")), nodejs (<< $((major + 1))~), libc6, libstdc++6, adduser | systemd
Section: database
Priority: optional
Description: consistency daemon for logically replicated PostgreSQL
 aced follows the write-ahead log of every node of a cluster that replicates
 logically (native subscriptions, Spock), keeps a Merkle tree of each table, and
 tells rows that differ from rows that are in flight, as log lines. acectl asks
 it for differences and repairs them.
CONTROL
mv "$stage/usr/share/doc/aced/LICENSE" "$stage/usr/share/doc/aced/copyright"
echo /etc/aced/aced.yaml > "$stage/DEBIAN/conffiles"
for script in postinst prerm postrm; do
  install -m 755 "$root/packaging/debian/$script" "$stage/DEBIAN/$script"
done
dpkg-deb --root-owner-group --build "$stage" "$output/aced_${version}_$architecture.deb"
