#!/usr/bin/env bash
# Runs a program on the lavapipe of a Mesa that has matrix instructions (VK_KHR_cooperative_matrix), whatever Mesa is installed:
#   mesa.sh FOLDER [PROGRAM ARGUMENT...]
# It is Debian 13's, with backports: 63 MB to fetch once, unpacked into FOLDER (310 MB) and not installed. Needs apt-get, dpkg-deb,
# Debian's keys and an x86-64; without a program it says whether it can be had.
set -euo pipefail
mkdir -p "$1"
folder=$(realpath "$1")
shift

if [ ! -e "$folder/lvp.json" ]; then
  command -v dpkg-deb >/dev/null && [ "$(dpkg --print-architecture)" = amd64 ] || { echo "Debian's packages are needed, for x86-64" >&2; exit 1; }
  keys=/usr/share/keyrings/debian-archive-keyring.gpg
  mirror=$(grep -rhoE 'https?://[^ ]+/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null | head -1 || true)
  mkdir -p "$folder"/apt/{lists,cache/archives}/partial "$folder/root"
  touch "$folder/apt/status"
  for suite in trixie trixie-backports; do
    echo "deb [signed-by=$keys arch=amd64] ${mirror:-http://deb.debian.org/debian} $suite main"
  done >"$folder/apt/sources.list"
  # apt with lists, packages and a state of its own, in which nothing is installed: it fetches the C library as well.
  apt() {
    apt-get -qq -o Dir::Etc::SourceList="$folder/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
      -o Dir::State="$folder/apt" -o Dir::State::status="$folder/apt/status" -o Dir::Cache="$folder/apt/cache" \
      -o APT::Sandbox::User=root -o APT::Install-Recommends=false "$@"
  }
  apt update
  apt install -y --download-only -t trixie-backports mesa-vulkan-drivers libvulkan1 >/dev/null
  for package in "$folder"/apt/cache/archives/*.deb; do
    dpkg-deb -x "$package" "$folder/root"
  done
  rm -r "$folder/apt"
  sed "s|\"library_path\": \"|&$folder/root/usr/lib/x86_64-linux-gnu/|" "$folder"/root/usr/share/vulkan/icd.d/lvp_icd*.json >"$folder/lvp.json"
fi
[ $# -gt 0 ] || exit 0
export VK_DRIVER_FILES="$folder/lvp.json" XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-$(mktemp -d)}
exec "$folder/root/usr/lib64/ld-linux-x86-64.so.2" --library-path "$folder/root/usr/lib/x86_64-linux-gnu" "$@"
