#!/usr/bin/env bash
# Makes aced-VERSION-linux-ARCH.tar.gz of a built checkout, with the Node that runs this, in dist or in the folder that
# is named: npm run package:tarball
# Unpacked anywhere, bin/aced and bin/acectl need nothing but the C library.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
output=$(cd "${1:-$root/dist}" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
version=$(node -p 'require(process.argv[1]).version' "$root/package.json")
name=aced-$version-linux-$(node -p process.arch)
"$root/packaging/stage.sh" "$work/stage"
mkdir "$work/$name" "$work/$name/bin" "$work/$name/share"
mv "$work/stage/usr/lib/aced" "$work/$name/lib"
mv "$work/stage/usr/share/doc/aced" "$work/$name/doc"
# Where man looks by itself once bin is on the path.
mv "$work/stage/usr/share/man" "$work/$name/share/man"
mv "$work/stage/usr/lib/systemd/system" "$work/$name/systemd"
mv "$work/stage/usr/lib/sysusers.d" "$work/stage/usr/lib/tmpfiles.d" "$work/$name/systemd/"
mv "$work/stage/etc/aced/aced.yaml" "$work/$name/"
cp "$(node -p process.execPath)" "$work/$name/bin/node"
for program in aced.js acectl.cjs; do
  cat > "$work/$name/bin/${program%.*}" <<RUN
#!/bin/sh
here=\$(dirname "\$(readlink -f "\$0")")
exec "\$here/node" "\$here/../lib/dist/src/main/$program" "\$@"
RUN
  chmod 755 "$work/$name/bin/${program%.*}"
done
tar -C "$work" --owner=0 --group=0 --sort=name -czf "$output/$name.tar.gz" "$name"
echo "$output/$name.tar.gz"
