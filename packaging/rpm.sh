#!/usr/bin/env bash
# Makes aced-VERSION-1.ARCH.rpm of a built checkout, in dist or in the folder that is named: npm run package:rpm
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
output=$(cd "${1:-$root/dist}" && pwd)
command -v rpmbuild >/dev/null || { echo 'rpmbuild is not there: install rpm-build' >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$root/packaging/stage.sh" "$work/stage"
major=$(node -p 'process.versions.node.split(".")[0]')
rpmbuild -bb --quiet \
  --define "_topdir $work/rpm" --define "_rpmdir $output" --define '_build_name_fmt %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm' \
  --define "stage $work/stage" \
  --define "aced_version $(node -p 'require(process.argv[1]).version' "$root/package.json")" \
  --define "node_least $([ "$major" = 20 ] && echo 20.19 || echo "$major")" --define "node_next $((major + 1))" \
  "$root/packaging/aced.spec"
