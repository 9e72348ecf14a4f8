#!/usr/bin/env bash
# The whole suite under other versions of Node, outside CI:
#
#   npm run test:versions              the oldest that is promised, and each later line of long-term support
#   npm run test:versions -- 22 24     these
#
# Each version comes as a package, with its own headers: the native modules are compiled against them, in a copy of
# what is committed. Prints a line for each version; ends with 1 when one failed and leaves its log where it says.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
versions=("$@")
[ ${#versions[@]} -gt 0 ] || versions=(20.19.0 22 24 26)
package="node-$(node -p 'process.platform')-$(node -p 'process.arch')"
work=$(mktemp -d)
failed=0
for version in "${versions[@]}"; do
  copy=$work/$version
  mkdir -p "$copy/node" "$copy/project"
  npm install --silent --no-save --prefix "$copy/node" "$package@$version" >/dev/null
  home=$copy/node/node_modules/$package
  resolved=$("$home/bin/node" --version)
  git -C "$root" archive HEAD | tar -x -C "$copy/project"
  log=$work/$version.log
  if (
    cd "$copy/project"
    export PATH="$home/bin:$PATH" npm_config_nodedir="$home"
    npm run build && npm run test:run
  ) >"$log" 2>&1; then
    outcome=passed
    rm -rf "$copy"
  else
    outcome="FAILED, see $log"
    failed=1
  fi
  counts=$(sed -nE 's/^(#|ℹ) (tests|pass|fail) ([0-9]+)$/\2 \3/p' "$log" | paste -sd ' ')
  echo "node $resolved: $outcome; $counts"
done
[ "$failed" = 0 ] && rm -rf "$work"
exit "$failed"
