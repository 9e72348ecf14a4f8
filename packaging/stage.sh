#!/usr/bin/env bash
# Lays out what a package installs, from a built checkout (npm run build), under a folder that is made anew:
#   packaging/stage.sh FOLDER
# The deb, the tarball and the image are made of it. Everything compiled is for the machine's architecture and the
# major release of its Node.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${1:?usage: packaging/stage.sh FOLDER}
cd "$root"
[ -e dist/src/main/acectl.cjs ] && [ -e dist/man ] || { echo 'not built: npm run build' >&2; exit 2; }
rm -rf "$target"
program=$target/usr/lib/aced
mkdir -p "$program/native/build/Release" "$target/usr/bin" "$target/usr/share/doc/aced" "$target/etc/aced"

cp -R dist/src "$program/dist-src"
mkdir "$program/dist" && mv "$program/dist-src" "$program/dist/src"
# What only those who work on it need is not there.
node -p '(({ devDependencies, peerDependencies, scripts, ...rest }) => JSON.stringify(rest, null, 2))(require("./package.json"))' \
  > "$program/package.json"
cp native/build/Release/aced_native.node "$program/native/build/Release/"
# What it needs to run, without what it was compiled from.
npm ls --omit=dev --omit=peer --all --parseable | tail -n +2 | while read -r module; do
  mkdir -p "$program/${module#"$root/"}"
  tar -C "$module" --exclude=./node_modules --exclude='*/obj.target' --exclude='*/obj' --exclude='*/.deps' \
    --exclude=./deps --exclude='./build/Release/test_extension.node' --exclude='.*ignore' --exclude='.eslintrc*' \
    --exclude='*.html' -cf - . | tar -C "$program/${module#"$root/"}" -xf -
done
find "$program/node_modules" -path '*/prebuilds/*' -prune -type d ! -name "$(node -p 'process.platform + "-" + process.arch')" \
  -exec rm -r {} +
find "$program" -name '*.node' -exec strip --strip-unneeded {} +
ln -s ../lib/aced/dist/src/main/aced.js "$target/usr/bin/aced"
ln -s ../lib/aced/dist/src/main/acectl.cjs "$target/usr/bin/acectl"
chmod 755 "$program/dist/src/main/aced.js" "$program/dist/src/main/acectl.cjs"

for folder in sysusers.d tmpfiles.d; do
  mkdir -p "$target/usr/lib/$folder"
  cp systemd/$folder/* "$target/usr/lib/$folder/"
done
mkdir -p "$target/usr/lib/systemd/system"
cp systemd/*.service systemd/*.socket "$target/usr/lib/systemd/system/"
node dist/src/main/acectl.cjs config init --stdout > "$target/etc/aced/aced.yaml"
completion() {
  mkdir -p "$target/usr/share/$2"
  node dist/src/main/acectl.cjs completion "$1" > "$target/usr/share/$2/$3"
}
completion bash bash-completion/completions acectl
ln -s acectl "$target/usr/share/bash-completion/completions/aced"
completion zsh zsh/vendor-completions _acectl
completion fish fish/vendor_completions.d acectl.fish
mkdir -p "$target/usr/share/man"
cp -R dist/man/* "$target/usr/share/man/"
gzip -9nr "$target/usr/share/man"
cp LICENSE README.md docs/*.md docs/*.json "$target/usr/share/doc/aced/"
(cd "$program" && npm sbom --sbom-format=spdx) > "$target/usr/share/doc/aced/aced.spdx.json"
cp -R examples "$target/usr/share/doc/aced/examples"
# Checkouts of a user with a narrow umask, too.
chmod -R u=rwX,go=rX "$target"
find "$program" -name '*.node' -exec chmod 644 {} +
