# Sourced by the scripts beside it: where the tree is, progress lines, becoming root once.
set -euo pipefail
TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PYTHON=/usr/bin/python3   # Debian's, which has scapy and pytest
export PYTHONDONTWRITEBYTECODE=1
# Where Debian keeps tc, nft, bpftool and modprobe: an ordinary user's PATH has none of it.
for directory in /usr/local/sbin /usr/sbin /sbin; do
  case ":$PATH:" in *":$directory:"*) ;; *) PATH=$PATH:$directory ;; esac
done
export PATH

say() { printf '==> %s\n' "$*"; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

# set_up [PRESET...]: packages and builds, as the calling user, so that build/ stays theirs. Not repeated behind sudo.
set_up() {
  [ -z "${POSTERN_SET_UP:-}" ] || return 0
  say 'packages'
  "$TOP/scripts/install-deps"
  local preset
  for preset in "$@"; do
    say "build $preset"
    "$TOP/scripts/build" "$preset"
  done
}

# become_root ARGS...: the script again, with the same arguments, through sudo when we are not root. What compiles afterwards does so as the
# caller (scripts/test.d/caller.py), with the caller's compiler cache.
become_root() {
  [ "$(id -u)" -ne 0 ] || return 0
  command -v sudo >/dev/null || die 'needs root, and there is no sudo: run it as root'
  local name kept=()
  for name in POSTERN_BIN POSTERN_LAB POSTERN_LAB_SECONDS CCACHE_DIR CI; do
    [ -z "${!name:-}" ] || kept+=("$name=${!name}")
  done
  exec sudo -- env POSTERN_SET_UP=1 PATH="$PATH" "${kept[@]}" "$TOP/scripts/$(basename "$0")" "$@"
}

mount_what_is_needed() {
  mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf
  mkdir -p /run/postern /run/netns
}
