# Sourced by quickstart and run-tests: installs what is missing from the distribution's packages.
# need_packages NAME... does nothing when all are there; works as root or with sudo.

build_packages="gcc cmake ninja-build pkg-config libuv1-dev libmsgpack-dev libopenblas-serial-dev libyaml-dev
libjansson-dev libxxhash-dev libssl-dev zlib1g-dev liblzma-dev libcmocka-dev"
test_packages="python3 xz-utils gzip binutils procps gnuplot-nox"

need_packages() {
    missing=""
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q "install ok installed" || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    as_root=""
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || { echo "missing packages:$missing (run as root, or install sudo)" >&2; return 1; }
        as_root="sudo"
    fi
    echo "installing:$missing"
    export DEBIAN_FRONTEND=noninteractive
    # A stale package index names files that are gone, so it is renewed first.
    $as_root apt-get update -qq >/dev/null && $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
}
