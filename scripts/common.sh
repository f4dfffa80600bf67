# Sourced by the scripts beside it: where things are, what to say, and what has to be installed.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
MACHINE=$(uname -m)
MUSL_TARGET=$MACHINE-unknown-linux-musl
# The binary that is shipped, which every script and test here runs; Cargo.toml says what its profile is.
PROFILE=dist
RELEASE=$ROOT/target/$MUSL_TARGET/$PROFILE/coracle
export CARGO_BUILD_TARGET=$MUSL_TARGET
PATH=$PATH:/usr/sbin:/sbin
if ! command -v cargo >/dev/null && [ -f "$HOME/.cargo/env" ]; then . "$HOME/.cargo/env"; fi

say() { printf '== %s\n' "$*"; }
fail() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

# Empty for root, "sudo" for others: containers, namespaces and cgroups need root.
if [ "$(id -u)" -eq 0 ]; then AS_ROOT=; else AS_ROOT=sudo; fi

# install_missing COMMAND=PACKAGE...: installs the packages whose command (or, with a slash, file) is not there.
install_missing() {
    local pair packages=()
    for pair in "$@"; do
        case ${pair%%=*} in
        */*) [ -e "${pair%%=*}" ] || packages+=("${pair#*=}") ;;
        *) command -v "${pair%%=*}" >/dev/null || packages+=("${pair#*=}") ;;
        esac
    done
    [ ${#packages[@]} -eq 0 ] && return
    command -v apt-get >/dev/null || fail "missing here: ${packages[*]} (Debian's names); install them and try again"
    say "installing ${packages[*]}"
    $AS_ROOT apt-get update -qq
    $AS_ROOT env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
}

# Build scripts are linked for this machine's own C library, everything else for musl.
BUILD_PACKAGES=(cc=gcc /usr/include/stdlib.h=libc6-dev musl-gcc=musl-tools)

need_rust() {
    command -v cargo >/dev/null || fail "Rust is missing: https://rustup.rs, then run this again"
    if command -v rustup >/dev/null; then
        rustup target list --installed 2>/dev/null | grep -qx "$MUSL_TARGET" || rustup target add "$MUSL_TARGET"
    elif [ ! -d "$(rustc --print sysroot)/lib/rustlib/$MUSL_TARGET" ]; then
        fail "this Rust has no $MUSL_TARGET target; with rustup: rustup target add $MUSL_TARGET"
    fi
}
